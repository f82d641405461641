"""pipeline.yaml, the environment and the flags, made into one frozen value."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from gpu_ami.errors import UsageError
from gpu_ami.files import read_text
from gpu_ami.options import Options

_Meta = msgspec.Meta
Region = Annotated[
    str, _Meta(pattern=r"^[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}$", description="AWS region, such as ap-northeast-2")
]
Account = Annotated[str, _Meta(pattern=r"^[0-9]{12}$", description="AWS account id, 12 digits in quotes")]
Family = Annotated[
    str, _Meta(pattern=r"^[a-z][a-z0-9-]{1,39}$", description="AMIs of one pipeline: lower case, digits, dashes")
]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=False):
    """A part of the settings: typed, closed to unknown keys, never changed after loading."""


class Handover(Section, frozen=True):
    """Where the new AMI's id goes for Terraform to read."""

    file: Annotated[str, _Meta(description="File that Terraform reads, from the repository's root")] = (
        "terraform/gpu-ami.auto.tfvars.json"
    )
    variable: Annotated[
        str, _Meta(pattern=r"^\S+$", description="Variable that takes the id, or a path to a value in the file")
    ] = "gpu_ami_id"
    parameter: Annotated[
        Annotated[str, _Meta(pattern=r"^/?[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$")] | None,
        _Meta(description="SSM parameter of `invoke publish`; null: /gpu-ami/FAMILY/ami-id"),
    ] = None


class Build(Section, frozen=True):
    """How `invoke build` bakes."""

    chain_limit: Annotated[
        int, _Meta(ge=1, le=100, description="So many `build --incremental` may follow a full bake")
    ] = 10


class Cleanup(Section, frozen=True):
    """Which AMIs `invoke cleanup` may consider at all."""

    older_than: Annotated[str, _Meta(description="Younger AMIs stay: 30d, 12h, 2w")] = "30d"
    keep: Annotated[int, _Meta(ge=1, le=1000, description="Newest AMIs of each family that always stay")] = 3
    max_deletions: Annotated[
        Annotated[int, _Meta(ge=1, le=100_000)] | None, _Meta(description="At most so many AMIs in one run; null: all")
    ] = None
    regions: Annotated[tuple[Region, ...], _Meta(description="Regions to clean up; empty: the pipeline's region")] = ()
    accounts: Annotated[
        tuple[Annotated[str, _Meta(pattern=r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$")], ...],
        _Meta(description="Roles in other accounts that use our AMIs; references are read there, nothing is changed"),
    ] = ()


class Cost(Section, frozen=True):
    """What `invoke cost` asks about; `invoke cost` prints every further input with its name."""

    instance_type: Annotated[str, _Meta(pattern=r"^[a-z0-9-]+\.[a-z0-9-]+$", description="What runs the jobs")] = (
        "g5.xlarge"
    )
    market: Annotated[Literal["spot", "on-demand"], _Meta(description="How these instances are bought")] = "spot"
    network: Annotated[
        Literal["gateway", "endpoint", "nat"],
        _Meta(description="How they reach ECR and S3: gateway is free, endpoint and nat are billed by the GB"),
    ] = "gateway"
    inputs: Annotated[
        dict[str, float], _Meta(description="Inputs by the names that `invoke cost` prints, such as pull_s: 600")
    ] = {}


class Settings(Section, frozen=True):
    """Everything a person decides for the whole pipeline; Packer's and Terraform's own values stay with them."""

    region: Region
    account: Annotated[
        Account | None, _Meta(description="Refuse to change anything in another account than this one")
    ] = None
    profile: Annotated[str | None, _Meta(description="AWS profile; --profile and AWS_PROFILE go before it")] = None
    family: Family = "gpu-batch"
    variables_file: Annotated[str, _Meta(description="Packer's variables, from the repository's root")] = (
        "packer/variables.auto.pkrvars.hcl"
    )
    build: Build = Build()
    handover: Handover = Handover()
    cleanup: Cleanup = Cleanup()
    cost: Cost = Cost()


# What the sandbox uses where there is no pipeline.yaml: a newcomer needs to write nothing.
EMBEDDED = Settings(region="ap-northeast-2")


def load(path: Path, options: Options) -> Settings:
    """Return the settings in *path* with *options* applied.

    Raises:
        UsageError: The file is missing (and this is not the sandbox), unreadable, not YAML, or holds a key or
            value that is not a setting.
    """
    settings = EMBEDDED if options.sandbox and not path.exists() else parse(_yaml(path), source=str(path))
    if options.region is not None:
        settings = msgspec.structs.replace(settings, region=_checked_region(options.region))
    if options.profile is not None:
        settings = msgspec.structs.replace(settings, profile=options.profile)
    return settings


def parse(raw: object, *, source: str) -> Settings:
    """Return the settings that the YAML document *raw* holds; *source* names it in errors."""
    if not isinstance(raw, dict):
        msg = f"{source} holds {_kind(raw)}, not settings: start from the pipeline.yaml of the repository."
        raise UsageError(msg)
    try:
        return msgspec.convert(raw, Settings)
    except msgspec.ValidationError as exc:
        raise UsageError(_explain(str(exc), raw, source)) from exc


def schema() -> dict[str, Any]:
    """Return the JSON schema of pipeline.yaml, for editors."""
    return msgspec.json.schema(Settings)


def _yaml(path: Path) -> object:
    import yaml

    text = read_text(path, what="settings file", hint="Restore it from git, or add --sandbox to try things locally.")
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(exc, "problem", None) or str(exc).splitlines()[0]
        msg = f"{path}{where} is not YAML: {problem}."
        raise UsageError(msg) from exc
    except RecursionError as exc:
        msg = f"{path} is nested too deeply to be settings."
        raise UsageError(msg) from exc


def _checked_region(region: str) -> str:
    try:
        return msgspec.convert(region, Region)
    except msgspec.ValidationError as exc:
        msg = f"--region {region!r} is not an AWS region: give one such as ap-northeast-2."
        raise UsageError(msg) from exc


_UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>[^`]*)`(?: - at `\$(?P<at>[^`]*)`)?")
_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?:key in )?\$(?P<at>[^`]*)`)?$", re.DOTALL)


def _explain(problem: str, raw: dict[Any, Any], source: str) -> str:
    """Return msgspec's *problem* with the value it is about and the keys there are."""
    if unknown := _UNKNOWN.search(problem):
        section = (unknown["at"] or "").lstrip(".")
        owner = _section_type(section)
        known = ", ".join(field.name for field in msgspec.structs.fields(owner))
        place = f" in {section}" if section else ""
        return f"{source} has the unknown key {unknown['key']!r}{place}: known keys are {known}."
    match = _AT.match(problem)
    what, at = (match["what"], (match["at"] or "").lstrip(".")) if match else (problem, "")
    value: object = raw
    for part in filter(None, at.split(".")):
        value = value.get(part) if isinstance(value, dict) else None
    shown = f" is {value!r}" if at else ""
    return f"{source}: {at or 'the document'}{shown}, {what[0].lower() + what[1:]}."


def _section_type(name: str) -> type[msgspec.Struct]:
    """Return the type of the settings section *name*; Settings itself for the top level."""
    for field in msgspec.structs.fields(Settings):
        if field.name == name and isinstance(field.default, Section):
            return type(field.default)
    return Settings


def _kind(raw: object) -> str:
    return "nothing" if raw is None else f"a {type(raw).__name__}"


if __name__ == "__main__":  # pragma: no cover - a maintainer's helper; a test compares its output
    Path("pipeline.schema.json").write_text(msgspec.json.format(msgspec.json.encode(schema())).decode() + "\n")
