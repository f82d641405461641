"""Template variables and who owns them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpu_ami.bake import template
from gpu_ami.bake.secret_values import private_names
from gpu_ami.bake.template import (
    check_owner,
    effective,
    load_hcl,
    parse_given,
    template_defaults,
    template_kinds,
    template_scripts,
)
from gpu_ami.errors import UsageError

TEMPLATE = """
variable "region" {
  type = string
}
variable "volume_gib" {
  type    = number
  default = 60
}
build {
  sources = ["source.amazon-ebs.gpu"]
  provisioner "file" {
    source = "x"
  }
  provisioner "shell" {
    script = "${path.root}/scripts/update-system.sh"
  }
  provisioner "shell" {
    scripts = ["scripts/pull-image.sh", "scripts/cleanup.sh"]
  }
  provisioner "shell" {
    inline = ["true"]
  }
}
"""


def _template(tmp_path: Path) -> Path:
    (tmp_path / "a.pkr.hcl").write_text(TEMPLATE)
    return tmp_path


def test_defaults_and_scripts_are_read_from_the_template(tmp_path: Path) -> None:
    """The count of steps and preflight must follow the template, not a second list."""
    assert template_defaults(_template(tmp_path)) == {"volume_gib": 60}
    assert template_scripts(tmp_path) == ("update-system", "pull-image", "cleanup")


def test_types_are_read_from_the_template(tmp_path: Path) -> None:
    """They decide what a value becomes; without a type Packer takes what comes."""
    listed = "list( object({ url = string, path = string }) )"
    (tmp_path / "b.pkr.hcl").write_text(f'variable "a" {{\n  type = {listed}\n}}\nvariable "b" {{\n  default = 1\n}}\n')

    assert template_kinds(_template(tmp_path)) == {
        "region": "string",
        "volume_gib": "number",
        "a": "list(object({url=string,path=string}))",
        "b": "",
    }


def test_a_default_is_what_packer_makes_of_it(tmp_path: Path) -> None:
    """Compared with the live AMI's, and shown: what is written is another text where it is an escape or a heredoc."""
    written = {
        "dollar": '"$${HOME}"',
        "list": '["%%{a}", "\\"$${b}\\"", "plain"]',
        "map": '{ "k$${x}" = "v" }',
        "heredoc": "<<-EOT\n    first $${x}\n      second\n  EOT",
        "looks": '"<<EOT"',
        "escaped": r'"a\\b\tc\n\u00e9 \"d\""',
        "sum": "2 * 30",
        "minus": "-5",
    }
    texts = [f'variable "{name}" {{\n  default = {text}\n}}\n' for name, text in written.items()]
    (tmp_path / "a.pkr.hcl").write_text("".join(texts) + 'variable "typed" {\n  type = number\n  default = "60"\n}\n')

    assert effective(tmp_path, [], {}, environment={}) == {
        "dollar": "${HOME}",
        "list": ["%{a}", '"${b}"', "plain"],
        "map": {"k${x}": "v"},
        "heredoc": "first ${x}\n  second\n",
        "looks": "<<EOT",
        "escaped": 'a\\b\tc\né "d"',
        "sum": 60,
        "minus": -5,
        "typed": 60,
    }


@pytest.mark.parametrize(
    "default", ['"${timestamp()}"', 'upper("a")', "<<EOT\n  ${uuidv4()}\n  EOT", '[{ a = "%{if true}b%{endif}" }]']
)
def test_a_default_that_only_packer_evaluates_is_refused_where_it_counts(tmp_path: Path, default: str) -> None:
    """Nobody knows what it will be; what replaces it, and who asks for another variable, go on."""
    (tmp_path / "b.pkr.hcl").write_text(f'variable "a" {{\n  default = {default}\n}}\n')
    folder, file = _template(tmp_path), tmp_path / "v.pkrvars.hcl"
    file.write_text('a = "b"\n')

    with pytest.raises(
        UsageError, match=r"variable a is the expression .* at line 2 of .*b\.pkr\.hcl, which only Packer"
    ):
        effective(folder, [], {}, environment={})
    assert effective(folder, [file], {}, environment={})["a"] == "b"
    assert effective(folder, [], {}, environment={}, wanted={"volume_gib"}) == {"volume_gib": 60}


def test_who_needs_few_values_fails_by_no_other(tmp_path: Path) -> None:
    """An expression that only Packer evaluates is no hindrance where nobody asks for it."""
    file = tmp_path / "v.pkrvars.hcl"
    file.write_text('volume_gib = 80\nregion = "${1}"\n')
    folder, given = _template(tmp_path), {"PKR_VAR_region": "x"}

    assert effective(folder, [file], {}, environment=given, wanted={"volume_gib"}) == {"volume_gib": 80}
    with pytest.raises(UsageError, match="region is the expression"):
        effective(folder, [file], {}, environment={}, wanted={"region"})


def test_later_values_beat_earlier_ones(tmp_path: Path) -> None:
    """The order is Packer's: default, PKR_VAR_, files in turn, -var."""
    folder = _template(tmp_path)
    first, second = tmp_path / "v.pkrvars.hcl", tmp_path / "a.pkrvars.json"
    first.write_text('volume_gib = 80 # bigger\nregion = "a"')
    second.write_text('{"volume_gib": 90}')
    environment = {"PKR_VAR_volume_gib": "70", "PKR_VAR_region": "e", "PKR_VAR_other": "1"}

    assert effective(folder, [], {}, environment={}) == {"volume_gib": 60}
    assert effective(folder, [], {}, environment=environment) == {"volume_gib": 70, "region": "e"}
    assert effective(folder, [first], {}, environment=environment) == {"volume_gib": 80, "region": "a"}
    assert effective(folder, [first, second], {}, environment=environment) == {"volume_gib": 90, "region": "a"}
    assert effective(folder, [first, second], {"volume_gib": "1e2"}, environment=environment) == {
        "volume_gib": 100,
        "region": "a",
    }


def test_json_variables_are_read_too(tmp_path: Path) -> None:
    """Packer takes .pkrvars.json as well; the sandbox writes one."""
    file = tmp_path / "v.pkrvars.json"
    file.write_text('{"a": 1}')

    assert load_hcl(file, what="file") == {"a": 1}


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("v.hcl", 'a = "b"\nb = = 3\n', "does not parse at line 2"),
        ("v.hcl", "a = [" * 3000, "does not parse"),
        ("v.json", "{", "is not JSON"),
        ("v.json", "[1]", "holds no object"),
    ],
)
def test_what_does_not_parse_names_the_place(tmp_path: Path, name: str, content: str, problem: str) -> None:
    """A slip in a variables file is found by its line number."""
    file = tmp_path / name
    file.write_text(content)

    with pytest.raises(UsageError, match=problem):
        load_hcl(file, what="Packer variables file")


def test_a_value_with_two_owners_must_agree(tmp_path: Path) -> None:
    """The same region twice is fine; two regions would bake in one and hand over to the other."""
    file, owner = tmp_path / "v.pkrvars.hcl", tmp_path / "pipeline.yaml"
    check_owner({"region": "a"}, file, {"region": "a", "family": "f"}, owner)

    with pytest.raises(UsageError, match=r"region is 'b' in .*v\.pkrvars\.hcl but 'a' in .*pipeline\.yaml"):
        check_owner({"region": "b"}, file, {"region": "a"}, owner)


def test_given_variables_are_name_value_pairs() -> None:
    """The value may hold anything, equals signs too."""
    assert parse_given(["a=b=c", "d="]) == {"a": "b=c", "d": ""}


@pytest.mark.parametrize("argument", ["a", "=b", "a b=c", ""])
def test_other_words_are_refused(argument: str) -> None:
    """A forgotten name would silently build with the default."""
    with pytest.raises(UsageError, match="is not name=value"):
        parse_given([argument])


def test_a_template_is_parsed_once_however_many_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To parse it takes a second: as long as the rest of most commands. A changed one is another."""
    folder = _template(tmp_path)
    parsed: list[Path] = []
    parse = template._parse_hcl
    monkeypatch.setattr(template, "_parsed", {})

    def counted(text: str, path: Path, what: str) -> Any:
        parsed.append(path)
        return parse(text, path, what)

    monkeypatch.setattr(template, "_parse_hcl", counted)

    for _ in range(2):
        assert template_defaults(folder) == {"volume_gib": 60}
        assert template_scripts(folder) == ("update-system", "pull-image", "cleanup")
        assert private_names(folder) == frozenset()
    assert parsed == [folder / "a.pkr.hcl"]
    (folder / "a.pkr.hcl").write_text(TEMPLATE.replace("60", "70"))
    assert template_defaults(folder) == {"volume_gib": 70}
