"""What an AMI's provenance says, and whether that fits the AMI; pure.

Packer's post-processor writes an in-toto statement about the AMIs of one bake, plain or in a signed DSSE envelope.
Whoever can write files can write one, so it is read as untrusted input: of members whose names differ only in case Go,
in which Packer is written, takes the last, and Python the one that is spelt right. What is verified is therefore
`Provenance.canonical`, made anew from what was understood here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from gpu_ami.errors import SafetyError
from gpu_ami.foreign_text import limited, reason
from gpu_ami.records.tags import (
    AMI_ID,
    FAMILY_TAG,
    FINGERPRINT_PREFIX,
    IMAGE_DIGEST_TAG,
    MODELS_DIGEST_TAG,
    PROVENANCE_TAG,
    REGION,
    RUN_TAG,
    SOURCE_AMI_NAME_TAG,
    SOURCE_AMI_TAG,
    TAG_PREFIX,
)
from gpu_ami.units import show_count

FOLDER = "provenance"
PREDICATE = "https://slsa.dev/provenance/v1"
LIMIT_BYTES = 4 * 1024 * 1024
# Packer names the file after build, builder and every AMI with its region. File systems take 255 bytes of a name, and
# while it is written a dot, ".tmp-" and ten digits are around it: with a sixth region the longest ids do not fit.
MOST_REGIONS = 5
_STATEMENT = "https://in-toto.io/Statement/v1"
_PAYLOAD = "application/vnd.in-toto+json"
_IDENTITY = "cloud-artifact-identity"
_FINGERPRINT, _PREFIX = "fingerprint_", FINGERPRINT_PREFIX
# What the template writes down, and the tag that must say the same.
_TAGS: Mapping[str, str] = {
    "run_id": RUN_TAG,
    "family": FAMILY_TAG,
    "source_ami": SOURCE_AMI_TAG,
    "source_ami_name": SOURCE_AMI_NAME_TAG,
    "image_digest": IMAGE_DIGEST_TAG,
    "models_digest": MODELS_DIGEST_TAG,
    "pipeline_version": f"{TAG_PREFIX}pipeline-version",
    "git_commit": f"{TAG_PREFIX}git-commit",
}
Text = Annotated[str, msgspec.Meta(max_length=4096)]
State = Literal["none", "unsigned", "signed", "verified", "refused"]


class Signature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One signature of an envelope; only a keyless one has a certificate."""

    keyid: Text = ""
    sig: Text
    cert: Annotated[str, msgspec.Meta(max_length=65536)] = ""


class Envelope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A DSSE envelope, as Packer writes it."""

    payload_type: Text
    payload: str
    signatures: tuple[Signature, ...]


class _Subject(msgspec.Struct, frozen=True):
    name: Text
    digest: dict[str, str]


class _Byproduct(msgspec.Struct, frozen=True):
    name: str = ""
    content: Any = None


class _RunDetails(msgspec.Struct, frozen=True):
    byproducts: tuple[_Byproduct, ...] = ()


class _External(msgspec.Struct, frozen=True, rename="camel"):
    user_variables: dict[str, str]


class _Definition(msgspec.Struct, frozen=True, rename="camel"):
    external_parameters: _External


class _Predicate(msgspec.Struct, frozen=True, rename="camel"):
    build_definition: _Definition
    run_details: _RunDetails


class _Statement(msgspec.Struct, frozen=True, rename="camel"):
    subject: tuple[_Subject, ...]
    predicate: _Predicate


class _Kind(msgspec.Struct, frozen=True):
    """What tells a statement from an envelope, and one statement from another."""

    type_: str = msgspec.field(default="", name="_type")
    payload_type: str = msgspec.field(default="", name="payloadType")
    predicate_type: str = msgspec.field(default="", name="predicateType")


class _Identity(msgspec.Struct, frozen=True, rename="camel"):
    builder_id: str
    id: str


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """A provenance that was understood; nothing of it is proven yet.

    Attributes:
        source: The file, as people write it.
        sha256: Of the file, in hexadecimal digits: what the AMI's tag has to say.
        amis: Region to AMI id: what it is about.
        said: What the bake wrote down, by the names in the template.
        canonical: The envelope made anew, for Packer to verify; None where nothing is signed.
        is_keyless: Whether its signature brings a certificate in place of a key's name.
    """

    source: str
    sha256: str
    amis: Mapping[str, str]
    said: Mapping[str, str]
    canonical: bytes | None
    is_keyless: bool = False

    @property
    def is_signed(self) -> bool:
        """Whether somebody has signed it; whose the key is, is another question."""
        return self.canonical is not None


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of an AMI by AWS, and of its build by the archive.

    Attributes:
        ami_id: The AMI.
        region: Where it is.
        tags: Its tags.
        copied_from: The AMI that EC2 has copied it from; None where it is no copy.
        is_sandbox: Whether it is the sandbox's.
        release_sha256: Of its release record in the archive; None where the archive has none.
    """

    ami_id: str
    region: str
    tags: Mapping[str, str]
    copied_from: str | None = None
    is_sandbox: bool = False
    release_sha256: str | None = None


def path_of(terraform: Path, ami_id: str) -> Path:
    """Return where the hand-over leaves the provenance of *ami_id*, beside the code that uses the AMI."""
    return terraform / FOLDER / f"{ami_id}.json"


def bundle_of(path: Path) -> Path:
    """Return where what goes with the keyless signature of the file *path* is: as Packer looks for it."""
    return path.with_name(f"{path.stem}.sigstore.json")


def digest(data: bytes) -> str:
    """Return the SHA-256 of *data* as hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def parse(data: bytes, *, source: str) -> Provenance:
    """Return what the file with the content *data* says; *source* names it in errors.

    Raises:
        SafetyError: It is cut off, too large, or anything but a provenance that a bake has written.
    """
    if len(data) > LIMIT_BYTES:
        msg = f"{source} is larger than {LIMIT_BYTES // 1024**2} MiB: that is no provenance. {_restore(source)}"
        raise SafetyError(msg)
    kind = _decoded(data, _Kind, source)
    if kind.payload_type:
        envelope, payload = _opened(data, source)
        canonical = msgspec.json.encode(msgspec.structs.replace(envelope, payload=base64.b64encode(payload).decode()))
        kind = _decoded(payload, _Kind, source)
    else:
        envelope, payload, canonical = None, data, None
    if (kind.type_, kind.predicate_type) != (_STATEMENT, PREDICATE):
        shown = limited(kind.predicate_type or kind.type_ or "nothing of the kind")
        msg = f"{source} states {shown}, not {PREDICATE}: that is no provenance. {_restore(source)}"
        raise SafetyError(msg)
    statement = _decoded(payload, _Statement, source)
    return Provenance(
        source=source,
        sha256=digest(data),
        amis=_amis(statement, source),
        said=statement.predicate.build_definition.external_parameters.user_variables,
        canonical=canonical,
        is_keyless=envelope is not None and any(one.cert.strip() for one in envelope.signatures),
    )


_T = TypeVar("_T")


def _decoded(data: bytes, kind: type[_T], source: str) -> _T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        msg = f"{source} is no provenance that can be read ({reason(exc)}): is it cut off? {_restore(source)}"
        raise SafetyError(msg) from exc


def _restore(source: str) -> str:
    return f"Restore {source} from git, or build again."


def _opened(data: bytes, source: str) -> tuple[Envelope, bytes]:
    """Return the envelope in *data* and its payload."""
    envelope = _decoded(data, Envelope, source)
    if envelope.payload_type != _PAYLOAD:
        msg = f"{source} is an envelope of {limited(envelope.payload_type)}, not of {_PAYLOAD}: that is no provenance."
        raise SafetyError(msg)
    if not envelope.signatures:
        msg = f"{source} is an envelope without any signature: whoever took it out has altered it. {_restore(source)}"
        raise SafetyError(msg)
    try:
        return envelope, base64.b64decode(envelope.payload, validate=True)
    except (binascii.Error, ValueError) as exc:
        msg = f"{source} is no provenance that can be read (its payload is not base64). {_restore(source)}"
        raise SafetyError(msg) from exc


def _amis(statement: _Statement, source: str) -> dict[str, str]:
    """Return region to AMI of what the statement is about.

    Its subject is named ``BUILDER:REGION:AMI,…`` and has the SHA-256 of the record of these two that stands among the
    by-products (Packer 1.16.0): of the AMI's name, not of its content.
    """
    if len(statement.subject) != 1:
        many = show_count(len(statement.subject), "subject")
        msg = f"{source} is about {many}; a bake's is about one. {_restore(source)}"
        raise SafetyError(msg)
    subject = statement.subject[0]
    builder, _, pairs = subject.name.partition(":")
    amis: dict[str, str] = {}
    for pair in pairs.split(","):
        region, _, ami = pair.partition(":")
        if REGION.fullmatch(region) is None or AMI_ID.fullmatch(ami) is None or region in amis:
            msg = f"{source} is about {limited(subject.name)}, which names no AMIs. {_restore(source)}"
            raise SafetyError(msg)
        amis[region] = ami
    if not _names_itself(statement, subject, _Identity(builder_id=builder, id=pairs)):
        msg = f"{source} has another digest than what it is about ({limited(subject.name)}): it was altered."
        raise SafetyError(msg)
    return amis


def _names_itself(statement: _Statement, subject: _Subject, expected: _Identity) -> bool:
    records = [one.content for one in statement.predicate.run_details.byproducts if one.name == _IDENTITY]
    if len(records) != 1 or not isinstance(records[0], str):
        return False
    try:
        record = base64.b64decode(records[0], validate=True)
        found = msgspec.json.decode(record, type=_Identity)
    except (ValueError, RecursionError):  # msgspec's and base64's errors are ValueErrors
        return False
    return found == expected and subject.digest.get("sha256") == digest(record)


def difference(provenance: Provenance, facts: Facts) -> str | None:
    """Return how the provenance differs from what is known of the AMI, for a sentence; None where it fits.

    That its file is the one of the AMI's tag is for the caller to have seen.
    """
    return next(_differences(provenance, facts), None)


def _differences(provenance: Provenance, facts: Facts) -> Iterator[str]:
    said, source = provenance.said, provenance.source
    about = ", ".join(f"{ami} in {region}" for region, ami in provenance.amis.items())
    is_subject = provenance.amis.get(facts.region) == facts.ami_id
    if not is_subject and facts.copied_from not in provenance.amis.values():
        yield f"{source} is about {about}"
    run_id, tagged = said.get("run_id"), facts.tags.get(RUN_TAG)
    if not run_id or run_id != tagged:
        yield f"{source} is of the build {_shown(run_id)}, and {RUN_TAG} is {_shown(tagged)}"
    if said.get("sandbox") != ("true" if facts.is_sandbox else "false"):
        yield f"{source} is {'of AWS' if facts.is_sandbox else 'of the sandbox, and says nothing about AWS'}"
    for tag, value in _expected_tags(said, facts.tags).items():
        if value != facts.tags.get(tag, ""):
            yield f"the tag {tag} is {_shown(facts.tags.get(tag))}, and {source} has {_shown(value)}"
    if facts.release_sha256 is not None and facts.release_sha256 != said.get("release_sha256"):
        yield f"the archive's release record is another one than {source} names by its SHA-256"


def _expected_tags(said: Mapping[str, str], tags: Mapping[str, str]) -> dict[str, str]:
    """Return what *said* has for each tag that repeats it, and for each fingerprint among *tags*."""
    facts = {f"{_FINGERPRINT}{tag.removeprefix(_PREFIX)}": tag for tag in tags if tag.startswith(_PREFIX)}
    facts |= {name: f"{_PREFIX}{name.removeprefix(_FINGERPRINT)}" for name in said if name.startswith(_FINGERPRINT)}
    return {tag: said.get(name, "") for name, tag in {**_TAGS, **facts}.items()}


def _shown(value: str | None) -> str:
    return limited(value) if value else "nothing"


def tag_difference(found: Provenance, tags: Mapping[str, str]) -> str | None:
    """Return why *found* is not the file of the AMI's tag, for a sentence; None when it is."""
    tag = tags.get(PROVENANCE_TAG)
    if tag == found.sha256:
        return None
    return f"{found.source} was altered: it is not the file whose SHA-256 the tag {PROVENANCE_TAG} holds"
