"""Compares what the next build would be made from with what the live AMI was made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpu_ami.aws import ecr, images, parameters, s3
from gpu_ami.aws.caller import Caller
from gpu_ami.aws.images import Image
from gpu_ami.bake import fingerprint
from gpu_ami.bake.staleness import Difference, Fact, Fingerprints, differences
from gpu_ami.errors import AwsError, PipelineError
from gpu_ami.files import read_text
from gpu_ami.invocation import Invocation
from gpu_ami.records import verification
from gpu_ami.yamltext import parse_yaml

if TYPE_CHECKING:
    from gpu_ami.bake.job import Job
    from gpu_ami.bake.variables import BuildVariables


@dataclass(frozen=True)
class Comparison:
    """A build that might be made, beside the newest AMI of its family.

    Attributes:
        live: The newest finished AMI; None when there is none.
        expected: What a build would be made from now.
        differences: Why it would make another image, or must make one; empty when it would not.
        has_failed: Whether *live* failed its verification, and the settings want one.
    """

    live: Image | None
    expected: Fingerprints
    differences: tuple[Difference, ...]
    has_failed: bool = False


def what_would_change(run: Invocation, job: Job) -> list[Difference]:
    """Return what the next build would change; empty when it would make the live image again.

    Changes nothing. What cannot be looked up counts as a difference that says so.
    """
    return list(compare(run, job).differences)


def compare(run: Invocation, job: Job) -> Comparison:
    """Look up what a build would be made from now and compare it with the family's newest finished AMI."""
    expected = expected_fingerprints(run, job)
    try:
        live = images.newest_of_family(Caller(run.access, run.settings.region), run.settings.family)
    except AwsError as exc:
        unknown = Difference("live", None, None, f"the live AMI could not be looked up ({str(exc).rstrip('.')})")
        return Comparison(None, expected, (unknown,))
    found = differences(None if live is None else live.tags, expected)
    if live is not None and _has_failed(run, live):
        found.append(Difference("verification", None, None, f"{live.image_id} failed its verification"))
        return Comparison(live, expected, tuple(found), has_failed=True)
    return Comparison(live, expected, tuple(found))


def _has_failed(run: Invocation, live: Image) -> bool:
    """Whether *live* failed its verification where one is wanted: no hand-over and no apply takes it any more."""
    if run.settings.verify.before == "never":
        return False
    folder = run.workspace.terraform
    return verification.outcome(folder, live.image_id, live.tags, sandbox=run.target.is_sandbox) == "failed"


def expected_fingerprints(run: Invocation, job: Job) -> Fingerprints:
    """Return what a build of *job* would be made from now; a fact that cannot be looked up has its problem."""
    given = job.values()
    variables = job.variables  # of which one may be of a wrong type: that is one problem, not one of each fact
    queries: dict[Fact, Callable[[], str]] = {
        "base": lambda: _base(run, variables),
        "image": lambda: _image(run, variables),
        "models": lambda: _models(run, job),
        "scripts": lambda: fingerprint.of_folder(job.packer.folder),
        "settings": lambda: fingerprint.of_settings(given),
    }
    found: dict[Fact, str] = {}
    problems: dict[Fact, str] = {}
    for fact, query in queries.items():
        try:
            found[fact] = query()
        except PipelineError as exc:
            problems[fact] = str(exc)
    return Fingerprints(found, problems)


def _base(run: Invocation, variables: BuildVariables) -> str:
    if variables.source_ami:
        return variables.source_ami
    name = variables.base_ami_parameter
    if (found := parameters.value_of(Caller(run.access), name)) is None:
        msg = f"{name} does not exist in {run.settings.region}"
        raise AwsError(msg)
    return found


def _image(run: Invocation, variables: BuildVariables) -> str:
    tag, digest = variables.image_tag, variables.image_digest
    repository = ecr.parse_repository_url(variables.ecr_repository_url)
    image = ecr.container_image(Caller(run.access), repository, tag=tag, digest=digest)
    if image is None:
        msg = f"{repository.name} has no image {digest or tag}"
        raise AwsError(msg)
    return f"{tag}@{image.digest}"


def _models(run: Invocation, job: Job) -> str:
    bucket, listed_in = job.variables.models_s3_bucket, job.packer.folder / "models.yaml"
    objects = s3.model_objects(Caller(run.access), bucket) if bucket else []
    listed = [(model.key, model.size_bytes, model.etag) for model in objects]
    text = read_text(listed_in, what="list of models") if listed_in.exists() else ""
    written = parse_yaml(text, source=str(listed_in))
    return fingerprint.of_models(listed, job.values().get("model_downloads"), written)
