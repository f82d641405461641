"""What handing an AMI over changes, in each kind of file that Terraform reads."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_ami.errors import SafetyError, UsageError
from gpu_ami.handover import change as changes
from gpu_ami.handover import tfvars
from gpu_ami.handover.change import Change, apply
from gpu_ami.hcl import find, insert, parse_json

OLD, NEW, OTHER = "ami-0123456789abcdef0", "ami-12345678", "ami-0fedcba9876543210"
SEOUL, VIRGINIA = "ap-northeast-2", "us-east-1"


def _plan(file: Path, variable: str = "gpu_ami_id", ami: str = NEW, **more: str) -> Change:
    amis = {SEOUL: ami} | {region.replace("_", "-"): other for region, other in more.items()}
    return tfvars.plan(file, variable, amis, region=SEOUL)


def _file(tmp_path: Path, content: str | None = None, name: str = "gpu-ami.auto.tfvars.json") -> Path:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content.encode())
    return file


def test_a_new_file_holds_the_variable_alone(tmp_path: Path) -> None:
    """The first hand-over makes the file."""
    change = _plan(_file(tmp_path))
    apply(change)

    assert (change.old, change.changed) == (None, True)
    assert change.file.read_text() == f'{{\n  "gpu_ami_id": "{NEW}"\n}}\n'


@pytest.mark.parametrize(("between", "conflicts"), [("\n", 1), ("\n\n", 0)])
@pytest.mark.parametrize("name", ["gpu-ami.auto.tfvars.json", "gpu-ami.auto.tfvars"])
def test_pull_requests_of_two_regions_merge_where_an_empty_line_is_between_them(
    tmp_path: Path, name: str, between: str, conflicts: int
) -> None:
    """Git takes changes of neighbouring lines for a conflict; docs/handover.md says what to do, and it has to be so."""
    entries = [f'    "{region}": "{OLD}"' for region in (SEOUL, VIRGINIA)]
    text = '{{\n  "gpu_ami_ids": {{\n{}\n  }}\n}}\n'.format(f",{between}".join(entries))
    if not name.endswith(".json"):
        text = "gpu_ami_ids = {{\n{}\n}}\n".format(between.join(entry.replace(":", " =") for entry in entries))
    sides = []
    for number, region in enumerate((SEOUL, VIRGINIA)):
        (tmp_path / str(number)).mkdir()
        file = _file(tmp_path / str(number), text, name)
        apply(tfvars.plan(file, "gpu_ami_ids", {region: NEW}, region=region))
        assert file.read_text().count(NEW) == 1
        sides.append(file)
    base = _file(tmp_path, text, name)

    merged = subprocess.run(
        ["git", "merge-file", "-p", sides[0], base, sides[1]], capture_output=True, text=True, check=False
    )

    assert merged.returncode == conflicts, merged.stderr
    assert conflicts or merged.stdout == text.replace(OLD, NEW)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"z": [1], "a": {"한": "글"}}', '{"z": [1], "a": {"한": "글"}, NEW}'),
        ('{\r\n\t"z" : 1E400,\r\n\t"a" : 0.10000000000000000000001\r\n}', None),
        ('{"//": "x", "//": "y",\n "a": 1.0}\n', '{"//": "x", "//": "y",\n "a": 1.0,\n NEW}\n'),
        ('{\n  "a": "\\u0041}"\n}\n', '{\n  "a": "\\u0041}",\n  NEW\n}\n'),
        ('{"a": 1}', '{"a": 1, NEW}'),
        ('{ "a": {"b": [ ] } }', '{ "a": {"b": [ ] }, NEW }'),
        ('{"b":1,"a":2}', '{"b":1,"a":2,"gpu_ami_id":"ami-12345678"}'),
        ('{"a":1}', '{"a":1,"gpu_ami_id":"ami-12345678"}'),
        ('{ "a": 1\n, "b": 2\n}', '{ "a": 1\n, "b": 2\n, NEW\n}'),
        ("{}", "{\n  NEW\n}"),
        ("{\n}\n", "{\n  NEW\n}\n"),
        (" {\r\n}\r\n", " {\r\n  NEW\r\n}\r\n"),
    ],
)
def test_an_added_variable_is_one_member_more(tmp_path: Path, before: str, after: str | None) -> None:
    """Whoever keeps other variables there finds them as they were: order, numbers, comments, layout and line ends."""
    file = _file(tmp_path, before)

    change = _plan(file)
    apply(change)

    if after is None:
        after = before.replace("0001\r\n", f'0001,\r\n\t"gpu_ami_id" : "{NEW}"\r\n')
    assert file.read_bytes() == after.replace("NEW", f'"gpu_ami_id": "{NEW}"').encode()
    assert change.document("f") == {"file": "f", "variable": "gpu_ami_id", "old": None, "new": NEW, "changed": True}


@pytest.mark.parametrize("text", ['{"gpu_ami_id": "OLD"}\r\n', '{"a": 1}', "{}", "", " \r\n"])
def test_a_byte_order_mark_goes_from_json(tmp_path: Path, text: str) -> None:
    """Terraform refuses it ("Invalid start of value"), after the whole bake; that it went is said."""
    plain, marked = (
        _file(tmp_path, text.replace("OLD", OLD)),
        _file(tmp_path, "\ufeff" + text.replace("OLD", OLD), "m.tfvars.json"),
    )

    change = _plan(marked)
    apply(change)
    apply(_plan(plain))

    assert marked.read_bytes() == plain.read_bytes()
    assert change.notes == (
        "m.tfvars.json begins with a byte-order mark, which Terraform takes for no JSON: it is left out.",
    )


def test_a_byte_order_mark_alone_is_a_change(tmp_path: Path) -> None:
    """The id is right, and yet Terraform reads nothing of the file."""
    file = _file(tmp_path, f'\ufeff{{"gpu_ami_id": "{OLD}"}}')

    change = _plan(file, ami=OLD)
    apply(change)

    assert (change.changed, change.old, change.new, change.diff("f")) == (True, OLD, OLD, "")
    assert file.read_text() == f'{{"gpu_ami_id": "{OLD}"}}'
    assert not _plan(file, ami=OLD).changed


@given(st.text(max_size=5).filter(lambda name: name != "gpu_ami_id"))
def test_any_member_keeps_its_bytes(name: str) -> None:
    """Keys and values of every kind, as Python writes them."""
    text = json.dumps({name: [name, {name: 1.5}]}, indent=1)

    assert json.loads(insert(parse_json(text, "f"), "gpu_ami_id", NEW)) == {**json.loads(text), "gpu_ami_id": NEW}


@pytest.mark.parametrize(
    ("name", "text", "variable"),
    [
        ("x.tfvars.json", '{"z": 1e2,\r\n\t"gpu_ami_id" : "OLD" ,"a":"한"}', "gpu_ami_id"),
        ("x.tfvars.json", '{"amis": {"us-east-1": "ami-1", "ap-northeast-2": "OLD"}}\n', 'amis["ap-northeast-2"]'),
        ("x.tfvars.json", '{"a": [{"b": "ami-1"}, {"b": "OLD"}]}', "a[1].b"),
        ("x.auto.tfvars", '# gpu_ami_id = "x"\r\ngpu_ami_id = "OLD" # Seoul', "gpu_ami_id"),
        ("terraform.tfvars", 'amis = {\n  ap-northeast-2 = "OLD"\n}\n', "amis.ap-northeast-2"),
        ("x.tf", 'variable "gpu_ami_id" {\n  type    = string\n  default = "OLD"\n}\n', "gpu_ami_id"),
        ("x.tf", 'variable "gpu_ami_id" {\n  default = "OLD"\n}\n', "variable.gpu_ami_id.default"),
        ("x.tf", 'variable "m" {\n  default = { ap-northeast-2 = "OLD" }\n}\n', 'm["ap-northeast-2"]'),
        ("x.tf", 'locals {\n  gpu_ami_id = "OLD"\n}\n', "locals.gpu_ami_id"),
        (
            "batch-video-analysis-gpu.tf",
            'resource "aws_batch_compute_environment" "gpu" {\n  compute_resources {\n    image_id = "OLD"#x\n  }\n}\n',
            "resource.aws_batch_compute_environment.gpu.compute_resources.image_id",
        ),
    ],
)  # fmt: skip
def test_exactly_the_id_changes(tmp_path: Path, name: str, text: str, variable: str) -> None:
    """In every kind of file every other byte stays, and git's diff shows one line."""
    file = _file(tmp_path, text.replace("OLD", OLD), name)

    change = _plan(file, variable)
    apply(change)

    assert file.read_bytes() == text.replace("OLD", NEW).encode()
    assert change.document("f") == {"file": "f", "variable": variable, "old": OLD, "new": NEW, "changed": True}
    marked = [line for line in change.diff("f").splitlines() if line[:1] in {"+", "-"}]
    assert len(marked) == 4
    assert not _plan(file, variable).changed


@pytest.mark.parametrize("old", ["null", '""', '"ami-NEW_AMI_ID"'])
def test_a_placeholder_is_replaced(tmp_path: Path, old: str) -> None:
    """The first hand-over finds what a person has left there."""
    for name, text in (("x.tfvars", f"gpu_ami_id = {old}\n"), ("x.tfvars.json", f'{{"gpu_ami_id": {old}}}')):
        file = _file(tmp_path, text, name)
        apply(_plan(file))
        assert file.read_text() == text.replace(old, f'"{NEW}"')


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.tfvars", 'gpu_ami_id = {{\n  us-east-1 = "{}" # V\n  eu-west-1 = "ami-11111111"\n  "{}" = "{}"\n}}\n'),
        ("x.tfvars.json", '{{"gpu_ami_id": {{"us-east-1": "{}","eu-west-1": "ami-11111111",\n "{}": "{}"}}}}'),
    ],
)
def test_a_region_map_gets_each_regions_ami(tmp_path: Path, name: str, text: str) -> None:
    """A copy in another region has an id of its own; regions that were not baked keep theirs, and that is said."""
    file = _file(tmp_path, text.format(OLD, SEOUL, OLD), name)

    change = _plan(file, us_east_1=OTHER)
    apply(change)

    assert file.read_text() == text.format(OTHER, SEOUL, NEW)
    assert (change.old, change.new) == ({SEOUL: OLD, VIRGINIA: OLD}, {SEOUL: NEW, VIRGINIA: OTHER})
    assert change.notes == ("gpu_ami_id keeps its other entries: eu-west-1.",)


def test_one_ami_changes_one_entry_of_a_region_map(tmp_path: Path) -> None:
    """--ami is an AMI of the pipeline's region."""
    file = _file(tmp_path, f'{{"gpu_ami_id": {{"{SEOUL}": "{OLD}", "{VIRGINIA}": "{OLD}"}}}}')

    apply(_plan(file))

    assert json.loads(file.read_text()) == {"gpu_ami_id": {SEOUL: NEW, VIRGINIA: OLD}}


def test_a_plain_variable_gets_the_regions_own_ami(tmp_path: Path) -> None:
    """Of a build for several regions only one id can stand there."""
    assert _plan(_file(tmp_path), us_east_1=OTHER).new == NEW


def test_an_equal_value_touches_nothing(tmp_path: Path) -> None:
    """A file in another layout is not rewritten: git would show a change where there is none."""
    file = _file(tmp_path, f'{{"gpu_ami_id":"{OLD}"}}')
    before = file.stat().st_mtime_ns

    change = _plan(file, ami=OLD)
    apply(change)

    assert (change.changed, change.diff("f"), file.stat().st_mtime_ns) == (False, "", before)


def test_planning_writes_nothing(tmp_path: Path) -> None:
    """--check and --dry-run only plan."""
    assert not _plan(_file(tmp_path)).file.exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "ami", ["", "ami-", "ami-123", "i-0123456789abcdef0", "ami-0123456789ABCDEF0", f"{OLD}\n", f" {OLD}"]
)
def test_only_an_ami_id_is_handed_over(tmp_path: Path, ami: str) -> None:
    """Terraform would accept any string until the apply."""
    with pytest.raises(UsageError, match="is not an AMI id"):
        _plan(_file(tmp_path), ami=ami)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("x.tfvars.json", '{"gpu_ami_id": ', "is not JSON at line 1"),
        (
            "x.tfvars.json",
            '{"gpu_ami_id": "ami-',
            "is not JSON at line 1: Unterminated string starting at column 16. Fix",
        ),
        ("x.tfvars.json", "[]", "holds no JSON object"),
        ("x.tfvars.json", "[" * 100_000, "nested too deeply"),
        ("x.tfvars.json", '{"gpu_ami_id": ' + "9" * 5000 + "}", "is not JSON that can be read|is 9+ at line 1"),
        ("x.tfvars.json", '{"gpu_ami_id": {"eu-west-1": "ami-12345678"}}', "has no 'ap-northeast-2' but eu-west-1"),
        ("x.tfvars.json", '{"gpu_ami_id": 1}', "is 1 at line 1 of .*, not a string"),
        ("x.tfvars.json", '{"gpu_ami_id": "a", "gpu_ami_id": "b"}', "occurs twice"),
        ("x.tfvars.json", '{"a": 1,\n "b": NaN}', "is not JSON at line 2: NaN is no number"),
        ("x.tfvars.json", '{"a": [-Infinity], "gpu_ami_id": null}', "is not JSON at line 1: -Infinity is no number"),
        ("x.tfvars.json", '{"gpu_ami_id": "g5.xlarge"}', 'is "g5.xlarge", no AMI id'),
        ("x.tfvars.json", "\udcff", "not UTF-8"),
        ("x.tfvars.json", " " * 1024 * 1024 + "{}", "larger than 1 MiB"),
        ("x.tfvars", None, "does not exist"),
        ("x.tfvars", "", "has no gpu_ami_id but nothing"),
        ("x.tfvars", "gpu_ami_ids = {}\n", "has no gpu_ami_id but gpu_ami_ids"),
        ("x.tfvars", f'gpu_ami_id = "{OLD}"\n\ngpu_ami_id = "{OLD}"\n', "occurs twice in .*, at lines 1 and 3"),
        ("x.tfvars", 'gpu_ami_id = "ami-', "does not parse at line 1"),
        ("x.tfvars", "gpu_ami_id = var.x\n", "is the expression `var.x` at line 1"),
        ("x.tfvars", 'gpu_ami_id = "g5.xlarge"\n', 'gpu_ami_id at line 1 .* is "g5.xlarge", no AMI id'),
        ("x.tfvars", "gpu_ami_id = <<E\nami-1\nE\n", "a heredoc at line 1"),
        ("x.tfvars", "\udcff", "not UTF-8"),
        ("x.tfvars", "# " + "x" * 1024 * 1024, "larger than 1 MiB"),
        ("x.tf", 'variable "gpu_ami_id" {}\n', "The variable gpu_ami_id at line 1 of .* has no default"),
        ("x.tf", 'resource "a" "b" {\n gpu_ami_id = 1\n}\n', r"but resource.a.b.gpu_ami_id \(line 2\): name one"),
        ("x.tf", 'variable "gpu_ami_id" {}\nvariable "gpu_ami_id" {}\n', "occurs twice in .*, at lines 1 and 2"),
    ],
)
def test_a_file_without_one_plain_value_is_refused(
    tmp_path: Path, name: str, content: str | None, problem: str
) -> None:
    """What cannot be read for certain cannot be kept, so nothing is written."""
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content.encode("utf-8", "surrogateescape"))

    with pytest.raises(UsageError, match=problem) as caught:
        apply(_plan(file))

    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == ([file] if content is not None else [])


def test_a_map_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """Which regions belong in it is a person's decision."""
    with pytest.raises(UsageError, match="has no amis: add the map by hand"):
        _plan(_file(tmp_path), f'amis["{SEOUL}"]')


@pytest.mark.parametrize("name", ["x.json", "x.hcl", "tfvars", "x.tf.json", "x.tfvars.bak"])
def test_other_file_kinds_are_refused(tmp_path: Path, name: str) -> None:
    """A file that Terraform reads otherwise, or not at all, hands nothing over."""
    with pytest.raises(UsageError, match=r"is not a \.tfvars, \.tf or \.tfvars\.json file"):
        _plan(tmp_path / name)


@pytest.mark.parametrize("name", ["x.tfvars.json", "x.tfvars", "x.tf"])
@pytest.mark.parametrize("kind", ["symlink", "directory", "read-only", "read-only folder"])
def test_unwritable_targets_are_refused_before_anything_happens(tmp_path: Path, kind: str, name: str) -> None:
    """--check must see them too, and root gets no special treatment."""
    file = tmp_path / "folder" / name
    file.parent.mkdir()
    if kind == "symlink":
        file.symlink_to(tmp_path / "other.tfvars.json")
    elif kind == "directory":
        file.mkdir()
    else:
        file.write_text("{}")
        (file if kind == "read-only" else file.parent).chmod(0o500)

    with pytest.raises(UsageError, match=str(file)):
        _plan(file)
    file.parent.chmod(0o700)


def test_a_change_in_between_is_not_overwritten(tmp_path: Path) -> None:
    """Two hand-overs at once: the second one must not undo what it never saw."""
    file = _file(tmp_path, f'{{"gpu_ami_id": "{OLD}"}}')
    change = _plan(file)
    file.write_text(f'{{"gpu_ami_id": "{OLD}", "other": 1}}')

    with pytest.raises(UsageError, match="changed by somebody else"):
        apply(change)
    assert "other" in file.read_text()


def test_a_file_that_another_run_writes_is_left_to_it(tmp_path: Path) -> None:
    """Between its read of the file and its write nobody else may write."""
    from filelock import FileLock

    file = _file(tmp_path, f'gpu_ami_id = "{OLD}"\n', "x.tfvars")
    change = _plan(file)

    with FileLock(tmp_path / ".x.tfvars.lock"), pytest.raises(SafetyError, match=r"Another run is writing .*x\.tfvars"):
        apply(change)
    assert OLD in file.read_text()

    apply(change)
    assert NEW in file.read_text()


def test_a_lock_that_cannot_be_made_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full or read-only disk ends in one line, and before the file is touched."""
    file = _file(tmp_path, f'gpu_ami_id = "{OLD}"\n', "x.tfvars")
    change = _plan(file)
    (tmp_path / ".x.tfvars.lock").mkdir()

    with pytest.raises(UsageError, match="cannot be locked"):
        apply(change)
    assert changes.read(file) == change.before


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), _JSON, max_size=4), st.sampled_from([None, 1, "\t"]), st.booleans())
def test_every_json_file_is_read_with_its_places(
    values: dict[str, object], indent: int | str | None, wide: bool
) -> None:
    """Locations come from a reader of our own, so it must agree with Python's on every text."""
    document = parse_json(json.dumps({**values, "id": OLD}, indent=indent, ensure_ascii=wide), "f")

    found = find(document, ("id",))
    assert document.text[found.start : found.end] == f'"{OLD}"'
    for attribute in document.body.attributes:
        assert json.loads(attribute.value.text) == {**values, "id": OLD}[attribute.name]
