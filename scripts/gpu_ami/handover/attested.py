"""The one judge of an AMI's provenance: finds its file, has the signature verified, compares it with AWS.

`update-tfvars`, `publish`, `apply`, `rollback` and the hand-over of a build go by it, and `status` shows what it says.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gpu_ami import process, scratch
from gpu_ami.aws.caller import RefusedError
from gpu_ami.errors import AwsError, PipelineError, SafetyError, UsageError
from gpu_ami.files import read_text, write_atomic
from gpu_ami.foreign_text import limited
from gpu_ami.handover.build_store import BuildStore
from gpu_ami.process import Command
from gpu_ami.records import archive, provenance
from gpu_ami.records.provenance import Facts, Provenance, State
from gpu_ami.records.tags import AMI_ID, PROVENANCE_TAG
from gpu_ami.settings import KeylessIdentity
from gpu_ami.settings import Provenance as Provided

if TYPE_CHECKING:
    from gpu_ami.aws.images import Image
    from gpu_ami.invocation import Invocation

_WHAT = "provenance"
# How the settings, and Packer, name a key in KMS: before the key's id or alias.
KMS = "awskms:///"
_LARGEST_KEY_BYTES = 64 * 1024
_ANSWER_WITHIN_S = 60.0
# What Packer 1.16 says where the key is one, and another one; where it asked AWS in vain; where it cannot use a key.
_ANOTHER_KEY = "signature verification failed"
_OF_KMS = "KMS"
# What AWS's SDK puts before AWS's own words.
_REQUEST = re.compile(r"https? response error StatusCode: \d+, RequestID: [^,\s]*, ")
_LONGEST_REFUSAL = 400
_UNUSABLE_KEY = ("load verifier", "read verifier")


class LostError(SafetyError):
    """The file that an AMI's tag names is nowhere: whatever it was, nobody can use the AMI any more."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What an AMI's provenance came to; one that is refused comes as an error.

    Attributes:
        ami_id: The AMI.
        state: ``none``, ``unsigned``, ``signed`` (by whom nobody could say), ``verified``, ``refused``.
        detail: The signature that counts, or why it is refused; empty otherwise.
        data: The content of its file; None where there is none.
        bundle: What goes with a keyless signature; None where nothing does.
    """

    ami_id: str
    state: State
    detail: str = ""
    data: bytes | None = None
    bundle: str | None = None

    def document(self) -> dict[str, str]:
        """Return it as the tasks print it in JSON."""
        return {"state": self.state, "detail": self.detail}


def policy(run: Invocation) -> Provided:
    """Return who signs and whose signature counts: what the settings say.

    In the sandbox only as far as the signer is at hand there, as a file or in the local KMS: the key of production is
    not, nor GitHub's identity. Nobody signs then, and nobody's signature counts. Who signs without a key never counts
    there: to verify that reaches Sigstore.

    Raises:
        AwsError: The local KMS cannot be asked.
    """
    given = run.settings.provenance
    if not run.target.is_sandbox:
        return given
    if not _is_at_hand(run, given):
        return Provided(required=given.required)
    at_hand = tuple(verifier for verifier in given.verifiers if isinstance(verifier, str))
    return Provided(signer=given.signer, verifiers=at_hand, required=given.required)


def _is_at_hand(run: Invocation, given: Provided) -> bool:
    if given.signer == "none":
        return not given.verifiers
    if given.signer.startswith(KMS):
        if run.options.dry_run:
            return True  # a dry run asks nobody
        from gpu_ami.aws import kms
        from gpu_ami.aws.caller import Caller

        return kms.key(Caller(run.access, run.settings.region), given.signer.removeprefix(KMS)) is not None
    file = key_file(run.workspace.root, given.signer)
    return file is not None and file.is_file()


def key_file(root: Path, signer: str) -> Path | None:
    """Return the file of the private key that is the *signer*, seen from the repository *root*; None where none is."""
    return None if signer in ("none", "keyless") or signer.startswith(KMS) else root / Path(signer).expanduser()


def check(run: Invocation, amis: Mapping[str, str], *, done: str = "Nothing was changed.") -> list[Verdict]:
    """Judge the provenance of AMIs, each looked up in its region; one that is not there is for others to refuse.

    Args:
        run: This invocation.
        amis: Region to AMI id.
        done: What was not done, for the error.

    Raises:
        SafetyError: One must not be used; the line says why.
        UsageError: A verifier of the settings cannot be used.
        AwsError: AWS or its KMS refused, or cannot be reached.
    """
    from gpu_ami.aws import images
    from gpu_ami.aws.caller import Caller

    found = (images.look_up(Caller(run.access, region), ami) for region, ami in amis.items())
    home = amis.get(run.settings.region)
    return [judge(run, image, home=home, done=done) for image in found if image is not None]


def judge(
    run: Invocation,
    image: Image,
    *,
    tags: Mapping[str, str] | None = None,
    home: str | None = None,
    done: str = "Nothing was changed.",
) -> Verdict:
    """Judge the provenance of one AMI.

    Args:
        run: This invocation.
        image: The AMI as EC2 describes it.
        tags: Its tags, where those in *image* are not the newest.
        home: The AMI of the pipeline's region that is judged along with it: of one build, the files lie under its id.
        done: What was not done, for the error.

    Raises:
        SafetyError: It must not be used.
        UsageError: A verifier of the settings cannot be used.
        AwsError: AWS or its KMS refused, or cannot be reached.
    """
    known = image.tags if tags is None else tags
    try:
        if PROVENANCE_TAG not in known:
            return _without_tag(run, image, home)
        files = _read(run, image, known, home)
        parsed = provenance.parse(files.data, source=files.source)
        facts = Facts(
            ami_id=image.image_id,
            region=image.region,
            tags=known,
            copied_from=_copied_from(run, image, parsed),
            is_sandbox=run.target.is_sandbox,
            release_sha256=_release_digest(run, files, parsed),
        )
        if problem := provenance.tag_difference(parsed, known) or provenance.difference(parsed, facts):
            raise SafetyError(problem)
        signer = _signed_by(run, parsed, files.bundle)
    except SafetyError as exc:
        problem = str(exc).rstrip(".")
        msg = f"The provenance of {image.image_id} is refused: {problem}. {done}"
        raise (LostError if isinstance(exc, LostError) else SafetyError)(msg) from exc
    state: State = "verified" if signer else "signed" if parsed.is_signed else "unsigned"
    return Verdict(ami_id=image.image_id, state=state, detail=signer, data=files.data, bundle=files.bundle)


def shown(run: Invocation, image: Image) -> Verdict:
    """Judge the provenance of one AMI, of one that is refused too: for what changes nothing.

    Raises:
        AwsError: AWS or its KMS refused, or cannot be reached.
    """
    try:
        return judge(run, image, done="")
    except (SafetyError, UsageError) as exc:
        return Verdict(ami_id=image.image_id, state="refused", detail=str(exc).strip())


def in_tree(run: Invocation, amis: Mapping[str, str], run_id: str | None) -> Verdict:
    """Return what this working tree has of the provenance of a build's AMIs: nothing is verified, nobody is asked.

    Args:
        run: This invocation.
        amis: Region to AMI of the build.
        run_id: The build; None where it does not say.
    """
    workspace, ami = run.workspace, next(iter(amis.values()))
    # Of an AMI with copies it lies under the id of the pipeline's region, which only the settings say.
    beside = [provenance.path_of(workspace.terraform, each) for each in amis.values()]
    kept = [workspace.builds / each / archive.PROVENANCE for each in amis.values()]
    path = next((place for place in (*beside, *kept) if place.exists()), None)
    if path is None:
        return Verdict(ami_id=ami, state="none")
    shown_path = workspace.shown(path)
    try:
        found = provenance.parse(_content(path), source=shown_path)
    except PipelineError as exc:
        return Verdict(ami_id=ami, state="refused", detail=str(exc))
    if found.amis != amis or found.said.get("run_id") != run_id:
        return Verdict(ami_id=ami, state="refused", detail=f"{shown_path} is about another build.")
    return Verdict(ami_id=ami, state="signed" if found.is_signed else "unsigned")


def keep(run: Invocation, verdicts: Sequence[Verdict]) -> None:
    """Leave each provenance beside the code that uses the AMI, to be committed with the hand-over.

    Raises:
        UsageError: A file cannot be written.
    """
    for verdict in verdicts:
        path = provenance.path_of(run.workspace.terraform, verdict.ami_id)
        if verdict.data is not None and not path.exists():
            if verdict.bundle is not None:
                write_atomic(provenance.bundle_of(path), verdict.bundle, what=_WHAT)
            write_atomic(path, verdict.data, what=_WHAT)
            shown, to_be = run.workspace.shown(path), ", to be committed" if run.target.is_shared else ""
            run.console.say(f"The provenance of {verdict.ami_id} is {verdict.state}: {shown}{to_be}.")


def _without_tag(run: Invocation, image: Image, home: str | None) -> Verdict:
    """Judge an AMI without the tag: one of before there was provenance, by hand, or one that has lost its tag."""
    if (where := _left_in_tree(run, image) or _left_in_bucket(run, image, home)) is not None:
        msg = (
            f"there is {where}, but the AMI has no tag {PROVENANCE_TAG}: who took it away? Where a build was cut "
            "short, or EC2 refused it, its value is the SHA-256 of that file"
        )
        raise SafetyError(msg)
    if run.settings.provenance.required:
        msg = (
            f"it has none (no tag {PROVENANCE_TAG}), and pipeline.yaml has provenance.required: true: build again, or "
            "set it to false as long as this AMI is needed"
        )
        raise SafetyError(msg)
    return Verdict(ami_id=image.image_id, state="none")


def _left_in_tree(run: Invocation, image: Image) -> str | None:
    """Return where the working tree has the provenance of an AMI without the tag; None where it has none.

    Of a copy that the build has made it lies under the id of another AMI, which EC2 need not name as its source: with
    named keys the plugin copies from one that it removes. Each file says itself what it is about.
    """
    own = (path for path in _places(run, image.image_id) if path.exists())
    others = (path for _, path in _in_tree(run) if _is_about(path, image))
    left = next(itertools.chain(own, others), None)
    return None if left is None else run.workspace.shown(left)


def _in_tree(run: Invocation) -> Iterator[tuple[str, Path]]:
    """Yield every provenance in the working tree, and under which AMI's id it lies there."""
    for path in sorted((run.workspace.terraform / provenance.FOLDER).glob("ami-*.json")):
        if AMI_ID.fullmatch(path.stem):
            yield path.stem, path
    for path in sorted(run.workspace.builds.glob(f"ami-*/{archive.PROVENANCE}")):
        if AMI_ID.fullmatch(path.parent.name):
            yield path.parent.name, path


def _with_digest(run: Invocation, tag: str | None) -> Iterator[str]:
    """Yield under which AMIs' ids the working tree has the file of a *tag*; see `_left_in_tree`."""
    for ami, path in _in_tree(run):
        with contextlib.suppress(PipelineError):
            if provenance.digest(_content(path)) == tag:
                yield ami


def _left_in_bucket(run: Invocation, image: Image, home: str | None) -> str | None:
    """Return where the bucket has the provenance of an AMI without the tag; None where it has none, or none is known.

    The machine that baked it may be gone, with the tree that had the file: a workflow's is. Who may not read the
    archives there is told so, and goes on: that right is younger than AMIs of before there was provenance.
    """
    store = BuildStore(run.workspace.builds, run.workspace.terraform, run.access)
    try:
        for ami in (image.image_id, *_others(image, home)):
            text = store.shared(ami, archive.PROVENANCE)
            if text is not None and (ami == image.image_id or _names(text.encode(), image)):
                return f"{store.url(ami)}{archive.PROVENANCE}"
    except RefusedError as exc:
        if not exc.is_denied:
            raise
        run.console.warn(f"Whether {image.image_id}, which has no tag {PROVENANCE_TAG}, had a provenance: {exc}")
    except UsageError as exc:
        raise SafetyError(str(exc)) from exc
    return None


def _others(image: Image, home: str | None) -> list[str]:
    """Return under which other ids the files of *image* may lie, if it is a copy.

    With named keys the amazon plugin copies, the AMI of the own region too, from an intermediary one that it removes.
    """
    return [ami for ami in dict.fromkeys((image.source_ami_id, home)) if ami and ami != image.image_id]


def _places(run: Invocation, ami: str) -> tuple[Path, Path]:
    """Return where the working tree may have the provenance of *ami*: beside the code, and in the archive."""
    return provenance.path_of(run.workspace.terraform, ami), run.workspace.builds / ami / archive.PROVENANCE


def _is_about(path: Path, image: Image) -> bool:
    try:
        return _names(_content(path), image)
    except PipelineError:
        return False


def _names(data: bytes, image: Image) -> bool:
    try:
        return provenance.parse(data, source=_WHAT).amis.get(image.region) == image.image_id
    except PipelineError:
        return False


@dataclass(frozen=True)
class _Files:
    """What is kept under the id *ami*: the provenance, where it is, what goes with it, and the release record."""

    ami: str
    data: bytes
    source: str
    bundle: str | None = None
    release: str | None = None


def _read(run: Invocation, image: Image, tags: Mapping[str, str], home: str | None) -> _Files:
    """Return what `_found` does; a file that is none of ours, or cannot be read, speaks against the AMI."""
    try:
        return _found(run, image, tags, home)
    except UsageError as exc:
        raise SafetyError(str(exc)) from exc


def _found(run: Invocation, image: Image, tags: Mapping[str, str], home: str | None) -> _Files:
    """Return the file with the AMI's provenance, and what goes with it.

    What the hand-over has left beside the code goes before the archive in the tree, and that before the bucket. Of a
    copy they are kept under the AMI of the pipeline's region, mostly its source; of what was baked on another one EC2
    names that as the source, too, whose files are another build's: they count only where they are those of the tag. So
    does what the tree has under whichever other id: see `_left_in_tree`.
    """
    workspace, tag = run.workspace, tags.get(PROVENANCE_TAG)
    store = BuildStore(workspace.builds, workspace.terraform, run.access)
    looks = (partial(_beside, run), partial(_archived, run, store))

    def first(names: Iterable[str]) -> _Files | None:
        found = (look(ami) for look, ami in itertools.product(looks, names))
        ours = (one for one in found if one is not None)
        return next((one for one in ours if one.ami == image.image_id or provenance.digest(one.data) == tag), None)

    if found := first([image.image_id, *_others(image, home)]) or first(_with_digest(run, tag)):
        return found
    path = provenance.path_of(workspace.terraform, image.image_id)
    msg = f"its tag {PROVENANCE_TAG} names a file that is nowhere: restore {workspace.shown(path)} from git"
    raise LostError(msg)


def _beside(run: Invocation, ami: str) -> _Files | None:
    """Return what the hand-over has left beside the code under the id *ami*; None where it has left nothing."""
    path = provenance.path_of(run.workspace.terraform, ami)
    if not path.exists():
        return None
    bundle = provenance.bundle_of(path)
    text = read_text(bundle, what=_WHAT, limit_bytes=provenance.LIMIT_BYTES) if bundle.exists() else None
    return _Files(ami, _content(path), run.workspace.shown(path), text)


def _archived(run: Invocation, store: BuildStore, ami: str) -> _Files | None:
    """Return what the archive of *ami* has, in the tree or in the bucket; None where it has no provenance."""
    there = store.read(ami, (archive.PROVENANCE, archive.SIGSTORE, archive.RELEASE))
    if (text := there.files.get(archive.PROVENANCE)) is None:
        return None
    source = there.where if "://" in there.where else run.workspace.shown(Path(there.where))
    rest = (there.files.get(archive.SIGSTORE), there.files.get(archive.RELEASE))
    return _Files(ami, text.encode(), f"{source.rstrip('/')}/{archive.PROVENANCE}", *rest)


def _release_digest(run: Invocation, files: _Files, parsed: Provenance) -> str | None:
    """Return the SHA-256 of the release record in the archive of what the provenance is about; None without one."""
    text = files.release
    for ami in parsed.amis.values() if text is None else ():
        try:
            text = archive.read(run.workspace.builds, ami, (archive.RELEASE,)).get(archive.RELEASE)
        except UsageError as exc:
            raise SafetyError(str(exc)) from exc
        if text is not None:
            break
    return None if text is None else provenance.digest(text.encode())


def _content(path: Path) -> bytes:
    """Return what is in *path*, of a larger file one byte more than a provenance may have."""
    try:
        with path.open("rb") as file:
            return file.read(provenance.LIMIT_BYTES + 1)
    except OSError as exc:
        msg = f"The {_WHAT} {path} cannot be read: {exc.strerror}."
        raise UsageError(msg) from exc


def _copied_from(run: Invocation, image: Image, parsed: Provenance) -> str | None:
    """Return the AMI that EC2 has copied this one from, where that matters; None where it is no copy.

    EC2 names a source also for an AMI that was made from an instance (DescribeImages, ``SourceImageId``), whose content
    is another. The snapshots tell: EC2 writes their descriptions, and nobody can change one.
    """
    source = image.source_ami_id
    if parsed.amis.get(image.region) == image.image_id or source not in parsed.amis.values():
        return None
    from gpu_ami.aws import images
    from gpu_ami.aws.caller import Caller

    snapshots = images.snapshots(Caller(run.access, image.region), image.snapshot_ids)
    begins = f"Copied for DestinationAmi {image.image_id} from SourceAmi {source} "
    all_copied = [snapshot.description.startswith(begins) for snapshot in snapshots.values()]
    return source if all_copied and all(all_copied) and len(all_copied) == len(image.snapshot_ids) else None


def _signed_by(run: Invocation, parsed: Provenance, bundle: str | None) -> str:
    """Return whose signature counts; empty where the settings name nobody's.

    Raises:
        SafetyError: It is not signed, or by somebody else.
        UsageError: A verifier cannot be used.
        AwsError: KMS could not be asked, and no other key fits.
    """
    verifiers = list(_verifiers(run))
    if not verifiers:
        return ""
    if parsed.canonical is None:
        msg = f"{parsed.source} is not signed, and pipeline.yaml says under provenance whose signature counts"
        raise SafetyError(msg)
    # Packer gets what was understood here, not the file: it may have been changed meanwhile, or be read in another way.
    with scratch.subfolder() as folder:
        file = folder / f"{_WHAT}.json"
        write_atomic(file, parsed.canonical, what=_WHAT, mode=0o600)
        if bundle is not None:
            write_atomic(provenance.bundle_of(file), bundle, what=_WHAT, mode=0o600)
        answers: dict[str, str] = {}
        for verifier in verifiers:
            # One that fits is enough: the next may be out of reach.
            if not (answer := _verify(run, file, verifier)):
                return verifier.name
            answers[verifier.name] = answer
    if unasked := next((f"{name}: {said}" for name, said in answers.items() if _OF_KMS in said), None):
        why = _REQUEST.sub("", unasked).rstrip(".")
        msg = f"The signature of {parsed.source} could not be verified with {limited(why, _LONGEST_REFUSAL)}."
        raise AwsError(msg)
    said = next(iter(answers.values()))
    other = "is signed by another key than" if _ANOTHER_KEY in said else "does not verify with"
    why = "" if _ANOTHER_KEY in said else f" ({limited(said)})"
    msg = f"{parsed.source} {other} {', '.join(answers)}{why}: after a rotation the old key stays among the verifiers"
    raise SafetyError(msg)


@dataclass(frozen=True)
class _Verifier:
    """One whose signature counts: its name, and how Packer is told of it."""

    name: str
    flags: tuple[str, ...]


def _verifiers(run: Invocation) -> Iterator[_Verifier]:
    """Yield whose signature counts: the settings' verifiers; without any the signer's own.

    Raises:
        UsageError: One cannot be used.
    """
    settings = policy(run)
    for verifier in settings.verifiers:
        if isinstance(verifier, KeylessIdentity):
            yield _Verifier(
                verifier.identity,
                (
                    "-signing-mode=keyless",
                    f"-keyless-identity={verifier.identity}",
                    f"-keyless-oidc-issuer={verifier.issuer}",
                ),
            )
        elif verifier.startswith(KMS):
            yield _of_kms(verifier)
        else:
            yield _Verifier(verifier, ("-signing-mode=key", f"-verifier={public_key(run.workspace.root, verifier)}"))
    signer = settings.signer
    if settings.verifiers or signer == "none":
        return
    if signer == "keyless":
        msg = "pipeline.yaml has provenance.signer: keyless, and nobody's identity: name it in provenance.verifiers."
        raise UsageError(msg)
    path = key_file(run.workspace.root, signer)
    if path is None:
        yield _of_kms(signer)
        return
    if not path.is_file():
        msg = f"The signer's key {signer} is not on this machine: name its public half in provenance.verifiers."
        raise UsageError(msg)
    yield _Verifier(signer, ("-signing-mode=key", f"-key={path}"))


def _of_kms(uri: str) -> _Verifier:
    return _Verifier(uri, ("-signing-mode=kms", f"-key={uri}"))


def public_key(root: Path, named: str) -> Path:
    """Return the file of the public key *named* by the settings, seen from the repository *root*.

    Raises:
        UsageError: It is not there, or holds a private key, of which nothing is shown.
    """
    path = root / Path(named).expanduser()
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_KEY_BYTES)
    except OSError as exc:
        msg = f"The public key {named}, of provenance.verifiers in pipeline.yaml, cannot be read: {exc.strerror}."
        raise UsageError(msg) from exc
    if b"PRIVATE KEY" in content:
        msg = (
            f"{named}, of provenance.verifiers in pipeline.yaml, is a private key, which is nobody's to have but the "
            "signer's: name the file of its public half (`openssl pkey -pubout` makes it)."
        )
        raise UsageError(msg)
    if b"-----BEGIN" not in content:
        msg = f"{named}, of provenance.verifiers in pipeline.yaml, is no PEM file: name a public key's."
        raise UsageError(msg)
    return path


def _verify(run: Invocation, file: Path, verifier: _Verifier) -> str:
    """Return what Packer has against the envelope in *file*; empty where the signature is the verifier's.

    Raises:
        UsageError: Packer cannot use the verifier.
        ToolError: Packer is missing, or does not answer.
    """
    from gpu_ami.tools import packer_program

    environment = run.access.child_environment({"CHECKPOINT_DISABLE": "1", "PACKER_NO_COLOR": "1"})
    flags = (*verifier.flags, f"-predicate-type={provenance.PREDICATE}")
    command = Command((str(packer_program().path), "verify-attestation", *flags, str(file)), env=environment)
    done = process.run(command, timeout_s=_ANSWER_WITHIN_S)
    if done.returncode == 0:
        return ""
    said = done.last_line
    if said.startswith(_UNUSABLE_KEY):
        msg = f"{verifier.name}, of provenance in pipeline.yaml, is no key that Packer can use: {limited(said)}."
        raise UsageError(msg)
    return said
