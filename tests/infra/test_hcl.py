"""The editor's idea of HCL beside Terraform's own: what parses, and what a string means."""

from __future__ import annotations

import json
import os
import re
import subprocess
import unicodedata
from pathlib import Path

from gpu_ami.errors import UsageError
from gpu_ami.handover.readable import check
from gpu_ami.hcl import parse, quoted
from gpu_ami.tools import terraform_tools

AMI = "ami-0123456789abcdef0"
# Each is a corner of the language; Terraform decides which of them are in it.
TEXTS = [
    "",
    "\ufeff# only a comment",
    f'\ufeffa /* = */ = /* "x" */ "{AMI}" /* y\n */ # z',
    f'\ta\t=\t"{AMI}"\r\nb = 1e2\r\nc = -1.5E+3',
    f'변수 = {{ 서울 = "{AMI}", "ap-northeast-2" : null, (var.k) = 1\n us-east-1 = "x" }}\n',
    'a = "$${" # }\nb = "}"\nc = ["%%{", "$$", "\\"", "\\\\"]\n',
    'a = <<EOT\nEOT2\n a = "x"\n${"EOT"}\n"\n  EOT  \nb = <<-끝\n끝\nc = 1\n',
    'a = "${"${ /* } */ { b = "}" }["b"] }"}%{ if true ~} } %{ endif }"\n',
    'a = [ # "\n  "x" # }\n  , "y",\n]\nb = f(\n 1, # c\n [for x in y : x if x != ""]...\n)\n',
    'variable "x" { default = "a" }\nvariable y {\n}\nb "a.b" "c" {\n  d { e = var.f.0.g[*].h }\n}\n',
    "for = 1\nin = 2\nif = null\n",
    'a = "x',
    'a = "x\ny"\n',
    "a = \n",
    "a = <<EOT\nx\n",
    "/* x",
    'a = "${b"\n',
    'a = ["x"\n',
    "a = “x”\n",
    "a b = 1\n",
    'b {\n  a = "x"\n',
]


def _terraform(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}
    program = str(terraform_tools().terraform.path)
    return subprocess.run(
        [program, *arguments], cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False
    )


def test_what_terraform_reads_is_read_and_what_it_refuses_is_refused(tmp_path: Path) -> None:
    """An editor that knows another language than Terraform finds values where there are none."""
    for number, text in enumerate(TEXTS):
        (tmp_path / f"t{number}.tf").write_bytes(text.encode())

    said = _terraform(tmp_path, "fmt", "-no-color", "-check", "-list=false", "-write=false").stderr

    theirs = {int(number) for number in re.findall(r"on t(\d+)\.tf line", said)}
    ours = {number for number, text in enumerate(TEXTS) if not _parses(text)}
    assert ours == theirs
    assert 5 < len(theirs) < len(TEXTS) - 5


def test_a_quoted_string_means_the_same_to_terraform(tmp_path: Path) -> None:
    """Whatever a value holds, nothing of it becomes code."""
    values = [
        "",
        "a",
        "${x}",
        "%{x}",
        "$${x}",
        "$$${x}",
        "%%{",
        "$",
        "%",
        '"',
        "\\",
        "\n\r\t",
        "한글 é 😀",
        '"}\n#',
        "${",
    ]
    text = "".join(f'output "o{number}" {{\n  value = {quoted(value)}\n}}\n' for number, value in enumerate(values))
    (tmp_path / "main.tf").write_text(text, newline="")

    applied = _terraform(tmp_path, "apply", "-auto-approve", "-no-color")
    assert applied.returncode == 0, applied.stderr
    outputs = json.loads(_terraform(tmp_path, "output", "-json").stdout)

    # Terraform normalizes every string.
    theirs = [outputs[f"o{number}"]["value"] for number in range(len(values))]
    assert theirs == [unicodedata.normalize("NFC", value) for value in values]


VARIABLES = {
    "a.auto.tfvars.json": '{"a": 1}',
    "b.auto.tfvars.json": '\ufeff{"a": 1}',
    "c.auto.tfvars.json": '{"a": 1, "a": 2}',
    "d.auto.tfvars.json": '{"//": 1, "//": {"b": 1, "b": 2}, "a": 1E400}',
    "e.auto.tfvars.json": '{"a": NaN}',
    "g.auto.tfvars.json": "",
    "h.auto.tfvars.json": '{"a": [-Infinity]}',
    "i.auto.tfvars.json": '{\r\n\t"a" : 0.10000000000000000000001\r\n}',
    "j.auto.tfvars": "\ufeffa = 1\n",
    "k.auto.tfvars": "a = 1\na = 2\n",
    "l.auto.tfvars": 'a = 1\nx "y" {\n}\n',
    "n.auto.tfvars.json": '[{"a": 1}]',
}
# What Terraform finds only once every file has been parsed.
VALUES = {
    "f.auto.tfvars.json": '{"f": {"b": 1, "b": 2}}',
    "g.auto.tfvars.json": '{"g": [{"//": 1, "//": 2}]}',
    "h.auto.tfvars.json": '{"h": {"b": "\\ud800"}}',
    "m.auto.tfvars": "m = { b = 1, b = 2 }\n",
}


def test_a_variables_file_is_refused_where_terraform_refuses_it(tmp_path: Path) -> None:
    """`validate` answers for Terraform, which says so only in a plan, after the bake."""
    for texts in (VARIABLES, VALUES):
        folder = tmp_path / str(len(texts))
        folder.mkdir()
        variables = [f'variable "{name}" {{\n  type    = any\n  default = 1\n}}\n' for name in "afghm"]
        (folder / "main.tf").write_text("".join(variables))
        for name, text in texts.items():
            (folder / name).write_bytes(text.encode())

        said = _terraform(folder, "plan", "-no-color").stderr

        theirs = {name for name in texts if f"on {name} line" in said}
        assert {name for name in texts if not _is_readable(folder / name)} == theirs
        assert 1 < len(theirs) < len(texts) - 1


def _is_readable(file: Path) -> bool:
    folder = file.parent / "none"
    try:
        check(file, folder)
    except UsageError:
        return False
    return True


def _parses(text: str) -> bool:
    try:
        parse(text, "f")
    except UsageError:
        return False
    return True
