"""What a provenance says is read as untrusted input, and every fact that a tag repeats is compared."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from gpu_ami.errors import SafetyError
from gpu_ami.records import provenance
from gpu_ami.records.provenance import Facts, parse
from tests.support.provenances import TAGS, envelope, said, statement

AMI, OTHER, SOURCE = "ami-0123456789abcdef0", "ami-0fedcba9876543210", "terraform/provenance/ami-0.json"
REGION = "ap-northeast-2"
KEY = ec.generate_private_key(ec.SECP256R1())
PLAIN = statement({REGION: AMI}, said())
FACTS = Facts(ami_id=AMI, region=REGION, tags={**TAGS, "gpu-ami:family": "gpu-batch"})


def text(content: object) -> bytes:
    """Return *content* as a file."""
    return json.dumps(content).encode()


def without(*path: str) -> dict[str, Any]:
    """Return the statement without what is at *path*."""
    made: dict[str, Any] = json.loads(json.dumps(PLAIN))
    place: Any = made
    for name in path[:-1]:
        place = place[name]
    del place[path[-1]]
    return made


def signed(change: Callable[[dict[str, Any]], object]) -> bytes:
    """Return a signed envelope after *change*."""
    document = json.loads(envelope(PLAIN, KEY))
    change(document)
    return text(document)


def test_a_statement_and_an_envelope_are_read_alike() -> None:
    """Signed or not, it is about the same AMI; only a signed one has something to verify."""
    plain = parse(text(PLAIN), source=SOURCE)
    enveloped = parse(envelope(PLAIN, KEY), source=SOURCE)

    assert plain.amis == enveloped.amis == {REGION: AMI}
    assert plain.said == enveloped.said == said()
    assert (plain.is_signed, enveloped.is_signed, enveloped.is_keyless) == (False, True, False)
    assert provenance.difference(enveloped, FACTS) is None
    keyless = signed(lambda document: document["signatures"][0].update(cert="-----BEGIN CERTIFICATE-----"))
    assert parse(keyless, source=SOURCE).is_keyless


def test_packer_verifies_what_was_understood_here() -> None:
    """Go takes `Payload` for `payload`: with both of them, it would verify another text than is compared."""
    forged = base64.b64encode(text(statement({REGION: OTHER}, said()))).decode()
    with pytest.raises(SafetyError, match="`Payload`"):
        parse(signed(lambda document: document.update(Payload=forged)), source=SOURCE)

    raw = envelope(PLAIN, KEY).decode()
    twice = raw.replace('"payload":', f'"payload": "{forged}", "payload":').encode()
    canonical = parse(twice, source=SOURCE).canonical
    assert canonical is not None
    assert json.loads(canonical) == json.loads(raw)
    assert canonical.count(b'"payload"') == 1


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (text(PLAIN)[:200], "cannot|can be read .*is it cut off"),
        (envelope(PLAIN, KEY)[:200], "is it cut off"),
        (b"", "is it cut off"),
        (b"\xff\xfe", "is it cut off"),
        (b"-----BEGIN PRIVATE KEY-----", "is it cut off"),
        (b"[" * 100_000, "is it cut off"),
        (b"[]", "is no provenance"),
        (b" " * (provenance.LIMIT_BYTES + 1), "is larger than 4 MiB"),
        (text({**PLAIN, "predicateType": "https://cyclonedx.org/bom"}), "states https://cyclonedx.org/bom, not"),
        (text({**PLAIN, "_type": "https://in-toto.io/Statement/v0.1"}), "states https://slsa.dev/provenance/v1"),
        (text({}), "states nothing of the kind"),
        (text({**PLAIN, "subject": PLAIN["subject"] * 2}), "is about 2 subjects"),
        (text({**PLAIN, "subject": []}), "is about 0 subjects"),
        (text({**PLAIN, "subject": [{"name": "file.txt", "digest": {}}]}), "which names no AMIs"),
        (text(without("predicate", "runDetails")), "missing required field `runDetails`"),
        (text(without("predicate", "buildDefinition", "externalParameters")), "externalParameters"),
        (text(without("predicate", "runDetails", "byproducts")), "has another digest"),
        (signed(lambda document: document.update(payloadType="text/plain")), "an envelope of text/plain"),
        (signed(lambda document: document.update(signatures=[])), "without any signature"),
        (signed(lambda document: document.update(payload="?")), "not base64"),
        (signed(lambda document: document.update(payload="e30=")), "states nothing of the kind"),
    ],
    ids=lambda value: value if isinstance(value, str) else "data",
)
def test_what_is_no_provenance_is_refused_in_one_line(data: bytes, why: str) -> None:
    """Exit 8: an AMI that has the tag is not used without it, and nothing of the content is guessed."""
    with pytest.raises(SafetyError, match=why) as refused:
        parse(data, source=SOURCE)
    assert refused.value.exit_code == 8
    assert SOURCE in str(refused.value)
    assert len(str(refused.value)) < 600
    assert "\n" not in str(refused.value)


def test_the_subject_names_itself() -> None:
    """Its digest is of the record among the by-products: to rename the subject alone is seen without any signature."""
    other = statement({REGION: OTHER}, said())
    with pytest.raises(SafetyError, match="it was altered"):
        parse(text({**PLAIN, "subject": [{**PLAIN["subject"][0], "name": other["subject"][0]["name"]}]}), source=SOURCE)
    with pytest.raises(SafetyError, match="it was altered"):
        parse(text({**PLAIN, "subject": [{**PLAIN["subject"][0], "digest": {"sha256": "0" * 64}}]}), source=SOURCE)


@pytest.mark.parametrize("tag", [*TAGS, "gpu-ami:family"])
def test_each_tag_that_it_repeats_is_compared(tag: str) -> None:
    """A tag is anybody's to write, and others go by it; one that is gone is no other than one that was changed."""
    found = parse(text(PLAIN), source=SOURCE)

    for tags in ({**FACTS.tags, tag: "another"}, {name: value for name, value in FACTS.tags.items() if name != tag}):
        problem = provenance.difference(found, replace(FACTS, tags=tags))
        assert problem is not None
        assert tag in problem


def test_a_fingerprint_that_it_does_not_know_is_a_difference() -> None:
    """What was added to the tags after the bake is no fact of it."""
    problem = provenance.difference(
        parse(text(PLAIN), source=SOURCE), replace(FACTS, tags={**FACTS.tags, "gpu-ami:fingerprint-models": "x"})
    )
    assert problem == f"the tag gpu-ami:fingerprint-models is x, and {SOURCE} has nothing"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"ami_id": OTHER}, f"is about {AMI} in {REGION}"),
        ({"region": "us-east-1"}, f"is about {AMI} in {REGION}"),
        ({"is_sandbox": True}, "is of AWS"),
        ({"release_sha256": "d" * 64}, "release record is another one"),
    ],
)
def test_another_ami_sandbox_or_record_is_a_difference(changed: dict[str, Any], why: str) -> None:
    """A provenance of the sandbox proves nothing on AWS, and that of one AMI nothing of another."""
    problem = provenance.difference(parse(text(PLAIN), source=SOURCE), replace(FACTS, **changed))
    assert problem is not None
    assert why in problem


def test_copies_fit() -> None:
    """Packer's own are named in it; of a later one EC2 says what it was copied from."""
    both = parse(text(statement({REGION: AMI, "us-east-1": OTHER}, said())), source=SOURCE)
    assert provenance.difference(both, replace(FACTS, ami_id=OTHER, region="us-east-1")) is None
    alone = parse(text(PLAIN), source=SOURCE)
    assert provenance.difference(alone, replace(FACTS, ami_id=OTHER, region="us-east-1", copied_from=AMI)) is None
    assert provenance.difference(alone, replace(FACTS, release_sha256="c" * 64)) is None


def test_the_name_of_packers_file_fits_up_to_five_regions() -> None:
    """With one more Packer 1.16.0 fails after the bake: file systems take 255 bytes, and it names every AMI."""
    longest = "ap-southeast-2_ami-0123456789abcdef0"

    def written(regions: int) -> int:
        name = f"gpu.mitchellh.amazonebs-{'_'.join([longest] * regions)}.provenance.json"
        return len(f".{name}.tmp-{2**32 - 1}")

    assert written(provenance.MOST_REGIONS) <= 255 < written(provenance.MOST_REGIONS + 1)
