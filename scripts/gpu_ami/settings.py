"""Reads pipeline.yaml and applies the environment and the flags: one frozen, validated value."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from gpu_ami.errors import UsageError
from gpu_ami.files import read_text
from gpu_ami.foreign_text import limited
from gpu_ami.options import Options
from gpu_ami.units import parse_duration
from gpu_ami.workspace import SETTINGS_FILE
from gpu_ami.yamltext import as_written, parse_yaml

_Meta = msgspec.Meta
Region = Annotated[
    str, _Meta(pattern=r"^[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}\Z", description="AWS region, such as ap-northeast-2")
]
Account = Annotated[str, _Meta(pattern=r"^[0-9]{12}\Z", description="AWS account id, 12 digits in quotes")]
_FAMILY = re.compile(r"^[a-z][a-z0-9-]{1,39}\Z")
Family = Annotated[str, _Meta(pattern=_FAMILY.pattern, description="AMIs of one pipeline: lower case, digits, dashes")]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=False):
    """A part of the settings: typed, closed to unknown keys, never changed after loading."""


class Handover(Section, frozen=True):
    """Where the new AMI's id goes for Terraform to read."""

    file: Annotated[str, _Meta(description="File that Terraform reads, from the repository's root")] = (
        "terraform/gpu-ami.auto.tfvars.json"
    )
    variable: Annotated[
        str, _Meta(pattern=r"^\S+\Z", description="Variable that takes the id, or a path to a value in the file")
    ] = "gpu_ami_id"
    parameter: Annotated[
        Annotated[str, _Meta(pattern=r"^/?[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*\Z")] | None,
        _Meta(description="SSM parameter of `invoke publish`; null: /gpu-ami/FAMILY/ami-id"),
    ] = None


class Build(Section, frozen=True):
    """How `invoke build` bakes."""

    chain_limit: Annotated[
        int, _Meta(ge=1, le=100, description="So many `build --incremental` may follow a full bake")
    ] = 10


class Verify(Section, frozen=True):
    """How `invoke verify` boots an AMI, and what waits for it."""

    before: Annotated[
        Literal["never", "handover", "apply"],
        _Meta(description="What a verification has to come before; handover has `build` verify by itself"),
    ] = "never"
    instance_types: Annotated[
        tuple[Annotated[str, _Meta(pattern=r"^[a-z0-9-]+\.[a-z0-9-]+\Z")], ...],
        _Meta(description="GPU types to boot on, in the order to try; empty: cost.instance_type"),
    ] = ()
    instance_profile: Annotated[
        str, _Meta(pattern=r"^[\w+=,.@-]{1,128}\Z", description="Its profile: SSM's agent may report, nothing else")
    ] = "gpu-ami-verify"


class Bench(Section, frozen=True):
    """How `invoke bench` measures."""

    arms: Annotated[
        tuple[Literal["stock", "plain", "rated", "live"], ...],
        _Meta(description="What is compared: docs/bench.md has the arms; empty: all that there can be"),
    ] = ()
    hosts: Annotated[int, _Meta(ge=1, le=20, description="Fresh hosts of each arm")] = 3
    instance_type: Annotated[
        Annotated[str, _Meta(pattern=r"^[a-z0-9-]+\.[a-z0-9-]+\Z")] | None,
        _Meta(description="The GPU type of all hosts; null: the first of verify.instance_types"),
    ] = None
    python: Annotated[str, _Meta(description="The interpreter in the image that runs the probe")] = "python3"
    imports: Annotated[
        tuple[Annotated[str, _Meta(pattern=r"^\w+(\.\w+)*\Z")], ...],
        _Meta(description="Modules that a job imports first, in their order, such as torch"),
    ] = ()
    models: Annotated[
        tuple[Annotated[str, _Meta(pattern=r"^/.+\Z")], ...],
        _Meta(description="Folders and files that a job reads first, as they are on the host and in the container"),
    ] = ("/opt/ml/models",)


class Cleanup(Section, frozen=True):
    """Which AMIs `invoke cleanup` may consider at all."""

    older_than: Annotated[str, _Meta(description="Younger AMIs stay: 30d, 12h, 2w")] = "30d"
    keep: Annotated[int, _Meta(ge=1, le=1000, description="Newest AMIs of each family that always stay")] = 3
    max_deletions: Annotated[
        Annotated[int, _Meta(ge=1, le=100_000)] | None, _Meta(description="At most so many AMIs in one run; null: all")
    ] = None
    regions: Annotated[tuple[Region, ...], _Meta(description="Regions to clean up; empty: the pipeline's region")] = ()
    accounts: Annotated[
        tuple[Annotated[str, _Meta(pattern=r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+\Z")], ...],
        _Meta(description="Roles in other accounts that use our AMIs; references are read there, nothing is changed"),
    ] = ()
    usage_report_minutes: Annotated[
        int, _Meta(ge=1, le=720, description="How long `invoke cleanup --usage-reports` waits for EC2's reports")
    ] = 15
    skip_sources: Annotated[
        tuple[str, ...],
        _Meta(description="Sources that are left out, by `invoke sweep` too: what the role may not read"),
    ] = ()


class Cost(Section, frozen=True):
    """What `invoke cost` asks about; `invoke cost --inputs` prints every further input with its name."""

    instance_type: Annotated[str, _Meta(pattern=r"^[a-z0-9-]+\.[a-z0-9-]+\Z", description="What runs the jobs")] = (
        "g5.xlarge"
    )
    market: Annotated[Literal["spot", "on-demand"], _Meta(description="How these instances are bought")] = "spot"
    network: Annotated[
        Literal["gateway", "endpoint", "nat"],
        _Meta(description="How they reach ECR and S3: gateway is free, endpoint and nat are billed by the GB"),
    ] = "gateway"
    inputs: Annotated[
        dict[str, float],
        _Meta(description="Inputs by the names that `invoke cost --inputs` prints, such as pull_s: 600"),
    ] = {}


class Promotion(Section, frozen=True):
    """What `invoke apply` asks of an AMI's bench, and what `invoke bench --gate` refuses."""

    bench: Annotated[
        Literal["off", "optional", "required"],
        _Meta(description="optional refuses an AMI whose bench says no; required also one without a bench"),
    ] = "off"
    target_s: Annotated[
        Annotated[float, _Meta(gt=0, le=86_400)] | None,
        _Meta(description="What its slowest host may take, from submission to models ready; null: any time"),
    ] = None
    max_regression: Annotated[
        float, _Meta(ge=0, le=10, description="How much slower than the live AMI it may be: 0.2 is by a fifth")
    ] = 0.2


class KeylessIdentity(Section, frozen=True):
    """Who may sign without a key: whom Sigstore's certificate names."""

    identity: Annotated[
        str, _Meta(min_length=1, description="Such as https://github.com/OWNER/REPO/.github/workflows/FILE@REF")
    ]
    issuer: Annotated[str, _Meta(pattern=r"^https://", description="Who says so: the OIDC issuer")] = (
        "https://token.actions.githubusercontent.com"
    )


class Provenance(Section, frozen=True):
    """Who signs the provenance of an AMI, and whose signature counts."""

    signer: Annotated[
        str,
        _Meta(
            pattern=r"^(none|keyless|awskms:///.+|[^:]+)\Z",
            description="none, keyless, a KMS key (awskms:///alias/NAME) or a private key's PEM file",
        ),
    ] = "none"
    verifiers: Annotated[
        tuple[Annotated[str, _Meta(pattern=r"^(awskms:///.+|[^:]+)\Z")] | KeylessIdentity, ...],
        _Meta(description="Whose signature counts: public keys' PEM files, KMS keys, identities; empty: the signer's"),
    ] = ()
    required: Annotated[bool, _Meta(description="Whether an AMI without provenance is refused")] = False


class FamilySettings(Section, frozen=True):
    """One of several families: what it leaves out, of a section too, is as the whole pipeline has it."""

    variables_file: Annotated[
        str | None,
        _Meta(description="Its Packer variables, from the repository's root; no other family's bake reads them"),
    ] = None
    build: Build = Build()
    handover: Handover = Handover()
    verify: Verify = Verify()
    cleanup: Cleanup = Cleanup()
    cost: Cost = Cost()
    bench: Bench = Bench()
    promotion: Promotion = Promotion()


Role = Annotated[str, _Meta(pattern=r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+\Z")]
RoleName = Annotated[str, _Meta(pattern=r"^[\w+=,.@/-]{1,128}\Z")]


class OrganizationScope(Section, frozen=True):
    """Which accounts of the organization are in the fleet."""

    ou_paths: Annotated[
        tuple[Annotated[str, _Meta(pattern=r"^o-[a-z0-9]+/r-[a-z0-9]+/(ou-[a-z0-9-]+/)*\Z")], ...],
        _Meta(description="Units, each as o-…/r-…/ou-…/, with all that is below; empty: the whole organization"),
    ] = ()


class FleetAccount(Section, frozen=True):
    """One account of a fleet that is listed by hand."""

    id: Account
    name: Annotated[str, _Meta(description="For people")] = ""
    regions: Annotated[tuple[Region, ...], _Meta(description="Its regions to read; empty: as everywhere")] = ()


class LeftOut(Section, frozen=True):
    """An account that is not read, by somebody's decision: what it could launch stays."""

    id: Account
    reason: Annotated[str, _Meta(min_length=1, description="Why; each plan shows it")]
    until: Annotated[date, _Meta(description="The last day on which that holds, such as 2027-03-31")]


class Fleet(Section, frozen=True):
    """The accounts over which one clean-up plans; either an organization or a list."""

    organization: Annotated[
        OrganizationScope | None, _Meta(description="Accounts from AWS Organizations; null: those of accounts")
    ] = None
    accounts: Annotated[tuple[FleetAccount, ...], _Meta(description="Accounts, listed by hand")] = ()
    hub_role: Annotated[Role | None, _Meta(description="Role that enters the others; null: the caller's own")] = None
    read_role: Annotated[RoleName, _Meta(description="Role of each account that may read")] = "gpu-ami-fleet-read"
    cleanup_role: Annotated[RoleName, _Meta(description="Role of each account with AMIs that may delete them")] = (
        "gpu-ami-fleet-cleanup"
    )
    left_out: Annotated[tuple[LeftOut, ...], _Meta(description="Accounts that are not read, each with its end")] = ()


class Settings(Section, frozen=True):
    """Everything a person decides for the whole pipeline; Packer's and Terraform's own values stay with them."""

    region: Region
    account: Annotated[
        Account | None, _Meta(description="Refuse to change anything in another account than this one")
    ] = None
    profile: Annotated[str | None, _Meta(description="AWS profile; --profile and AWS_PROFILE go before it")] = None
    family: Family = "gpu-batch"
    families: Annotated[
        dict[Family, FamilySettings],
        _Meta(description="Several families by name, in place of family; sections beside it hold for each of them"),
    ] = {}
    variables_file: Annotated[str, _Meta(description="Packer's variables, from the repository's root")] = (
        "packer/variables.auto.pkrvars.hcl"
    )
    build: Build = Build()
    handover: Handover = Handover()
    verify: Verify = Verify()
    bench: Bench = Bench()
    cleanup: Cleanup = Cleanup()
    cost: Cost = Cost()
    promotion: Promotion = Promotion()
    provenance: Provenance = Provenance()
    fleet: Annotated[Fleet | None, _Meta(description="Other accounts; null: this one alone")] = None

    @property
    def verified_types(self) -> tuple[str, ...]:
        """The types that a verification boots on, in the order to try."""
        return self.verify.instance_types or (self.cost.instance_type,)

    @property
    def bench_type(self) -> str:
        """The type of a bench's hosts."""
        return self.bench.instance_type or self.verified_types[0]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the families, as the file has them in order; of one family its name."""
        return tuple(self.families) or (self.family,)

    @property
    def other_variables_files(self) -> tuple[str, ...]:
        """The variables files of the other families, which a bake of this one must not read."""
        return tuple(
            other.variables_file
            for name, other in self.families.items()
            if name != self.family and other.variables_file is not None
        )

    @property
    def published_to(self) -> str:
        """The SSM parameter of `invoke publish`; the default names the family."""
        return self.handover.parameter or f"/gpu-ami/{self.family}/ami-id"

    def of_family(self, name: str) -> Settings:
        """Return the settings of the family *name*, one of `names`: its own, and the common ones where it has none."""
        own = self.families.get(name)
        if own is None:
            return self
        sections = {part: getattr(own, part) for part in _PARTS}
        file = own.variables_file or self.variables_file
        return msgspec.structs.replace(self, family=name, variables_file=file, **sections)


# The sections that a family may have of its own.
_PARTS = ("build", "handover", "verify", "cleanup", "cost", "bench", "promotion")

# What the sandbox uses where there is no pipeline.yaml: a newcomer needs to write nothing.
EMBEDDED = Settings(region="ap-northeast-2")


def load(path: Path, options: Options, *, is_required: bool = True) -> Settings:
    """Return the settings in *path* with *options* applied.

    Args:
        path: The settings file.
        options: The common options of the invocation.
        is_required: Whether the file has to be there; otherwise the sandbox's own settings are used.

    Raises:
        UsageError: The file is missing although it is required, unreadable, not YAML, or holds a key or
            value that is not a setting.
    """
    if not is_required and not path.exists():
        settings = EMBEDDED
    else:
        hint = "Restore it from git, or add --sandbox to try things locally."
        settings = parse(read_text(path, what="settings file", hint=hint), source=str(path))
    if options.region is not None:
        settings = msgspec.structs.replace(settings, region=_checked_region(options.region))
    if options.profile is not None:
        settings = msgspec.structs.replace(settings, profile=options.profile)
    return settings


def parse(text: str, *, source: str) -> Settings:
    """Return the settings that the YAML document *text* holds; *source* names it in errors.

    Raises:
        UsageError: It is not YAML, or holds a key or value that is not a setting.
    """
    raw = parse_yaml(text, source=source)
    if not isinstance(raw, dict):
        msg = f"{source} holds {_kind(raw)}, not settings: start from the pipeline.yaml of the repository."
        raise UsageError(msg)
    own = raw.get("families")
    is_mapping = isinstance(own, dict)
    try:
        settings = msgspec.convert(_with_off({**raw, "families": {}} if is_mapping else raw), Settings)
    except msgspec.ValidationError as exc:
        raise UsageError(_explain(str(exc), raw, text, source)) from exc
    # Here, where the file can be named: what reads the age later cannot tell it from a flag's.
    parse_duration(settings.cleanup.older_than, name=f"{source}: cleanup.older_than")
    if not (is_mapping and own):
        return _checked(settings, source)
    common = {**_with_off(raw), "variables_file": settings.variables_file}
    families = {_family_name(name, source): _family(name, own[name], common, text, source) for name in own}
    settings = msgspec.structs.replace(settings, families=families)
    _check_families(settings, raw, source)
    return _checked(settings, source)


def _checked(settings: Settings, source: str) -> Settings:
    if settings.fleet is not None:
        _check_fleet(settings.fleet, source)
    return settings


def _family_name(name: object, source: str) -> str:
    # Looked at whole: to a pattern's $ a line's end at the end is none, and names go into paths and commands.
    if isinstance(name, str) and _FAMILY.fullmatch(name):
        return name
    rule = "2 to 40 of lower-case letters, digits and dashes, a letter first"
    msg = f"{source}: families has {limited(repr(name))}, which is no name of a family: {rule}."
    raise UsageError(msg)


def _family(name: str, own: Any, common: Mapping[str, Any], text: str, source: str) -> FamilySettings:
    """Return what the family *name* has of its *own*, each section filled up from the *common* ones.

    Raises:
        UsageError: A key or value is none of a family's settings.
    """
    try:
        given = _with_off(own)
        msgspec.convert(given, FamilySettings)
        sections = {part: common.get(part, {}) | given.get(part, {}) for part in _PARTS}
        file = own.get("variables_file") or common["variables_file"]
        family = msgspec.convert({**sections, "variables_file": file}, FamilySettings)
    except msgspec.ValidationError as exc:
        raise UsageError(_explain(str(exc), own, text, source, of_family=name)) from exc
    parse_duration(family.cleanup.older_than, name=f"{source}: families.{name}.cleanup.older_than")
    return family


def _check_families(settings: Settings, raw: Mapping[str, Any], source: str) -> None:
    """Refuse families that would take each other's place.

    Raises:
        UsageError: Two of them have the same variables file, hand-over target or SSM parameter, or there is a `family`
            beside them.
    """
    if not settings.families:
        return
    if "family" in raw:
        msg = f"{source} has family and families: put {settings.family} under families, or keep one of the two."
        raise UsageError(msg)
    taken: dict[tuple[str, str], str] = {}
    for name in settings.names:
        for what, value, same in _claims(settings.of_family(name)):
            other = taken.setdefault((what, same), name)
            if other != name:
                msg = f"{source}: the families {other} and {name} have the same {what}, {value}: give each its own."
                raise UsageError(msg)


def _claims(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """Yield what a family must have to itself: what it is, which one, and the same however it is written."""
    file, target = settings.variables_file, settings.handover
    yield "variables_file", file, os.path.normpath(file)
    yield "handover target", f"{target.variable} in {target.file}", f"{os.path.normpath(target.file)} {target.variable}"
    yield "SSM parameter", settings.published_to, settings.published_to.lstrip("/")


def chosen_names(settings: Settings, options: Options, *, source: str = SETTINGS_FILE) -> tuple[str, ...]:
    """Return the families that ``--family`` or ``GPU_AMI_FAMILY`` names, as the settings have them; all if none.

    Raises:
        UsageError: One of them is no family of the settings, or all are asked for and some named.
    """
    if options.all_families and options.families:
        msg = "--all-families takes every family and --family some: give one of them."
        raise UsageError(msg)
    if wrong := [name for name in options.families if name not in settings.names]:
        msg = f"{options.families_by} {wrong[0]!r} is no family of {source}: there are {', '.join(settings.names)}."
        raise UsageError(msg)
    return tuple(name for name in settings.names if name in options.families) or settings.names


def _with_off(raw: Any) -> Any:
    """Return *raw* with ``promotion.bench: off`` as it is meant: YAML 1.1, as PyYAML reads it, calls off false."""
    promotion = raw.get("promotion") if isinstance(raw, dict) else None
    if isinstance(promotion, dict) and promotion.get("bench") is False:
        return {**raw, "promotion": {**promotion, "bench": "off"}}
    return raw


def _check_fleet(fleet: Fleet, source: str) -> None:
    """Refuse a fleet that names no accounts, or some twice.

    Raises:
        UsageError: It does.
    """
    if (fleet.organization is None) == (not fleet.accounts):
        msg = f"{source}: fleet needs organization, or accounts with at least one id, and not both."
        raise UsageError(msg)
    for name, ids in (("accounts", [one.id for one in fleet.accounts]), ("left_out", [o.id for o in fleet.left_out])):
        if twice := next((one for one in ids if ids.count(one) > 1), None):
            msg = f"{source}: fleet.{name} names {twice} twice: once is enough."
            raise UsageError(msg)


def schema() -> dict[str, Any]:
    r"""Return the JSON schema of pipeline.yaml, for editors, whose regular expressions know no ``\Z``."""
    whole: dict[str, Any] = _for_editors(msgspec.json.schema(Settings))
    return whole


def _for_editors(part: Any) -> Any:
    if isinstance(part, list):
        return [_for_editors(item) for item in part]
    if not isinstance(part, dict):
        return part
    ends = {"pattern": re.sub(r"\\Z$", "$", part["pattern"])} if isinstance(part.get("pattern"), str) else {}
    return {key: _for_editors(value) for key, value in part.items()} | ends


def _checked_region(region: str) -> str:
    try:
        return msgspec.convert(region, Region)
    except msgspec.ValidationError as exc:
        msg = f"--region {region!r} is not an AWS region: give one such as ap-northeast-2."
        raise UsageError(msg) from exc


_UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>[^`]*)`(?: - at `\$(?P<at>[^`]*)`)?")
_AT = re.compile(r"(?P<what>.*?)(?: - at (?P<key>`key` in )?`\$(?P<path>[^`]*)`)?", re.DOTALL)
_STEP = re.compile(r"\.(\w+)|\[(\d+|\.\.\.)\]")
_GOT = re.compile(r", got `(\w+)`")
# msgspec's names of the types in a document, as messages say them.
_TYPE_NAMES = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "keys with values",
    "null": "null",
}
_TYPES = re.compile(rf"`((?:{'|'.join(_TYPE_NAMES)})(?: \| (?:{'|'.join(_TYPE_NAMES)}))*)`")
# Sections that are not there by default, or in a list.
_NESTED: dict[str, type[msgspec.Struct]] = {
    "fleet": Fleet,
    "fleet.organization": OrganizationScope,
    "fleet.accounts": FleetAccount,
    "fleet.left_out": LeftOut,
    "provenance.verifiers": KeylessIdentity,
}
_NAMES = {type(None): "null", list: "array", dict: "object"}


def _explain(problem: str, raw: Any, text: str, source: str, *, of_family: str | None = None) -> str:
    """Return msgspec's *problem* with the value it is about, as *text* has it, or with the keys there are.

    Args:
        problem: What msgspec says.
        raw: The document, or what it has of one family.
        text: The document as it is written.
        source: Names the document.
        of_family: Whose *raw* is; None of the document's.
    """
    within: list[str | int] = [] if of_family is None else ["families", of_family]
    if unknown := _UNKNOWN.search(problem):
        section = (unknown["at"] or "").lstrip(".")
        owner = _section_type(section, Settings if of_family is None else FamilySettings)
        known = ", ".join(field.name for field in msgspec.structs.fields(owner))
        where = ".".join(filter(None, [*map(str, within), section]))
        return (
            f"{source} has the unknown key {unknown['key']!r}{f' in {where}' if where else ''}: known keys are {known}."
        )
    match = _AT.fullmatch(problem)
    what, path = (match["what"], match["path"] or "") if match else (problem, "")
    got = found[1] if (found := _GOT.search(what)) else ""
    steps, value = _followed(raw, path, got)
    steps = [*within, *steps]
    at = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).lstrip(".")
    if match and match["key"]:
        key = next((key for key in value if not isinstance(key, str)), None)
        return f"{source}{': ' if at else ''}{at} has the key {key!r}, which is no text: keys are names of settings."
    what = what.replace(r"\\Z'", "$'")  # as people write the end; Python's $ is also before a last line break
    message = _TYPES.sub(lambda types: " or ".join(_TYPE_NAMES[name] for name in types[1].split(" | ")), what)
    shown = f" is {_shown(value, text, steps)}" if at else ""
    quotes = (
        ": put it in quotes" if "Expected `str" in what and not isinstance(value, (str, list, dict, type(None))) else ""
    )
    return f"{source}: {at or 'the document'}{shown}, {limited(message[0].lower() + message[1:])}{quotes}."


def _followed(raw: Any, path: str, got: str) -> tuple[list[str | int], Any]:
    """Return the steps of msgspec's *path* through *raw* and the value there; it does not say which key of a mapping.

    Args:
        raw: The document.
        path: Such as ``.cleanup.regions[0]`` or ``.cost.inputs[...]``.
        got: msgspec's name of the type there: tells the key.
    """
    steps: list[str | int] = []
    for name, index in _STEP.findall(path):
        step = name or index
        if index == "...":
            step = next((key for key, item in raw.items() if _NAMES.get(type(item), type(item).__name__) == got), None)
            if step is None:
                break
        steps.append(int(step) if index.isdigit() else step)
        raw = raw[steps[-1]]
    return steps, raw


def _shown(value: object, text: str, steps: list[str | int]) -> str:
    """Return *value* as a person wrote it: 012345670123 is another number by then."""
    if value is None:
        return "null"
    written: Any = as_written(text)
    try:
        for step in steps:
            written = written[step]
    except (LookupError, TypeError):  # merged into its section
        written = None
    is_plain = isinstance(written, str) and not isinstance(value, str)
    return (str(written) if is_plain else repr(value))[:80]


def _section_type(name: str, owner: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """Return the type of the section *name* of *owner*; *owner* itself for its top level."""
    for field in msgspec.structs.fields(owner):
        if field.name == name and isinstance(field.default, Section):
            return type(field.default)
    return _NESTED.get(name.partition("[")[0], owner)


def _kind(raw: object) -> str:
    return "nothing" if raw is None else f"a {type(raw).__name__}"


if __name__ == "__main__":  # pragma: no cover - a maintainer's helper; a test compares its output
    Path("pipeline.schema.json").write_text(msgspec.json.format(msgspec.json.encode(schema())).decode() + "\n")
