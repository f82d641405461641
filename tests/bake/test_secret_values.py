"""What is a secret, and that it stays one."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_ami.bake.secret_values import private_names, redact, variables_text
from gpu_ami.bake.template import load_hcl

PACKER = Path(__file__).parents[2] / "packer"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "get https://b.s3.amazonaws.com/m.pt?X-Amz-Signature=5ec2e7&X-Amz-Date=1 now",
            "get https://b.s3.amazonaws.com/m.pt?... now",
        ),
        ('1,,ui,say,"http://h/x?a=5ec2e7%!(PACKER_COMMA)b"', '1,,ui,say,"http://h/x?..."'),
        ('{"url":"https://h/x?a=1\\u0026sig=5ec2e7","path":"x"}', '{"url":"https://h/x?...","path":"x"}'),
        ("aws_session_token = 5ec2e75ec2e7 next", "aws_session_token = ... next"),
        ("Authorization: Bearer 5ec2e75ec2e7", "Authorization: ..."),
        ("from https://me:5ec2e7@models.example.com/m.pt now", "from https://...@models.example.com/m.pt now"),
        ("https://example.com/page stays", "https://example.com/page stays"),
        (
            "login-ecr: ECR gave no token; may the profile call it?",
            "login-ecr: ECR gave no token; may the profile call it?",
        ),
    ],
)
def test_queries_and_named_secrets_are_taken_out(text: str, shown: str) -> None:
    """Logs are attached to tickets; the text around them stays readable."""
    assert redact(text) == shown


def test_the_template_s_own_secret_is_known() -> None:
    """Addresses of models may be presigned; nothing else that a person sets is a secret."""
    assert private_names(PACKER) == {"model_downloads"}


def test_sensitive_variables_and_what_sensitive_locals_are_made_of_are_secrets(tmp_path: Path) -> None:
    """The template says what is secret, once: directly, or by way of other locals, which may go round in circles."""
    (tmp_path / "a.pkr.hcl").write_text(
        """
variable "plain" { default = "x" }
variable "token" {
  type      = string
  sensitive = true
}
variable "far" { default = [] }
locals {
  near  = [local.other, var.missing]
  other = concat(var.far, local.near)
  open  = var.plain
}
local "hidden" {
  expression = local.near
  sensitive  = true
}
local "shown" {
  expression = var.plain
}
"""
    )

    assert private_names(tmp_path) == {"token", "far"}


@pytest.mark.parametrize(
    ("said", "is_secret"), [('"true"', True), ("!false", True), ("false", False), ('"false"', False)]
)
def test_a_secret_may_be_called_one_in_other_words(tmp_path: Path, said: str, is_secret: bool) -> None:
    """Packer 1.16.0 converts them: it writes <sensitive>, and its value must not be on a command line nor archived."""
    (tmp_path / "a.pkr.hcl").write_text(
        f'variable "own" {{\n  sensitive = {said}\n}}\nvariable "far" {{}}\n'
        f'local "hidden" {{\n  expression = var.far\n  sensitive = {said}\n}}\n'
    )

    assert private_names(tmp_path) == ({"own", "far"} if is_secret else set())


def test_given_values_mean_in_the_file_what_they_mean_on_a_command_line(tmp_path: Path) -> None:
    """Text for a string, whatever is in it; an expression for anything else."""
    types = {"text": "type = string", "list": "type = list(string)", "untyped": 'default = ""'}
    template = "".join(f'variable "{name}" {{ {body} }}\n' for name, body in types.items())
    (tmp_path / "a.pkr.hcl").write_text(template)
    text = 'a "quoted" ${not} %{template} \\ line'

    written = variables_text(tmp_path, {"text": text, "list": '["a", "b"]', "untyped": "u"})

    file = tmp_path / "given.pkrvars.hcl"
    file.write_text(written)
    assert 'text = "a \\"quoted\\" $${not} %%{template} \\\\ line"' in written
    assert load_hcl(file, what="variables")["list"] == ["a", "b"]
    assert 'untyped = "u"' in written
