"""`invoke init`: where the values come from, and when the file is written."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.aws.access import Access
from gpu_ami.bake import init as initializing
from gpu_ami.console import Console
from gpu_ami.errors import DifferenceError, SafetyError, TerraformError, UsageError
from gpu_ami.invocation import Invocation
from gpu_ami.options import Options
from gpu_ami.process import Command, Finished
from gpu_ami.tools.tool import TerraformTools, Tool
from gpu_ami_sandbox.session import Sandbox

ROOT = Path(__file__).parents[2]
REPOSITORY = "210987654321.dkr.ecr.ap-northeast-2.amazonaws.com/own"
SUBNET = "subnet-0123456789abcdef0"
GIVEN: dict[str, str | None] = {"ecr_repository_url": REPOSITORY, "subnet_id": SUBNET}
NAME = "packer/variables.auto.pkrvars.hcl"


class Terminal(io.StringIO):
    """A stream with a person at it."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout without anybody's values."""
    (tmp_path / "packer").mkdir()
    for name in ("aws-gpu-ami.pkr.hcl", "variables.pkr.hcl", "variables.auto.pkrvars.hcl.example"):
        shutil.copy2(ROOT / "packer" / name, tmp_path / "packer")
    (tmp_path / "terraform").mkdir()
    (tmp_path / "pipeline.yaml").write_text("region: ap-northeast-2\n")
    return tmp_path


def started(root: Path, **options: Any) -> tuple[Invocation, io.StringIO, io.StringIO]:
    """Return an invocation, its results and its talk."""
    out, err = io.StringIO(), io.StringIO()
    run = Invocation(root, Options(output="json", **options), Console("json", out=out, err=err))
    run.__dict__["access"] = Access(region="ap-northeast-2", environment={})
    return run, out, err


def init(
    root: Path, flags: dict[str, str | None], *, check: bool = False, yes: bool = False, dry_run: bool = False
) -> dict[str, Any]:
    """Run the job and return its document."""
    run, out, _ = started(root, dry_run=dry_run)
    initializing.finish(run, initializing.plan(run, flags), check=check, yes=yes)
    document: dict[str, Any] = json.loads(out.getvalue())
    return document


def applied(root: Path, monkeypatch: pytest.MonkeyPatch, text: str, *, status: int = 0, error: str = "") -> None:
    """Make the Terraform folder one that was applied, with *text* for its outputs."""
    (root / "terraform" / ".terraform").mkdir()
    tools = TerraformTools(Tool("terraform", "1.11.4", Path("terraform"), "PATH"), None)
    monkeypatch.setattr(initializing, "terraform_tools", lambda: tools)

    def answer(command: Command, **_: Any) -> Finished:
        assert command.argv == ("terraform", "output", "-json", "-no-color")
        return Finished(status, text, error)

    monkeypatch.setattr("gpu_ami.process.run", answer)


def outputs(**values: str) -> str:
    """Return what `terraform output -json` prints."""
    return json.dumps({name: {"value": value, "type": "string", "sensitive": False} for name, value in values.items()})


@pytest.mark.parametrize(("coming", "said"), [((), " Next: `invoke doctor`."), (("doctor", "build"), "")])
def test_what_follows_is_said_last(root: Path, coming: tuple[str, ...], said: str) -> None:
    """Above a table of what was written, "Next" is not where anybody looks for it; what comes anyway is not said."""
    both = io.StringIO()
    run = Invocation(root, Options(), Console(out=both, err=both))
    run.__dict__["access"] = Access(region="ap-northeast-2", environment={})
    run.coming = coming

    initializing.finish(run, initializing.plan(run, GIVEN), check=False, yes=False)

    assert both.getvalue().endswith(f"Wrote {NAME}.{said}\n")


def test_flags_are_enough(root: Path) -> None:
    """Who has no Terraform of ours still gets the file."""
    document = init(root, GIVEN)

    assert (document["file"], document["changed"], document["written"]) == (NAME, True, True)
    assert [row["name"] for row in document["values"]][:2] == ["ecr_repository_url", "subnet_id"]
    assert f'subnet_id         = "{SUBNET}"' in (root / NAME).read_text()


def test_terraform_is_not_asked_for_what_the_flags_give(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of another account, or one whose state is out of reach, is none of this run's business."""
    applied(root, monkeypatch, "nonsense")

    document = init(root, GIVEN | {"security_group_id": "", "models_s3_bucket": "", "iam_instance_profile": ""})

    assert {row["source"][:2] for row in document["values"]} == {"--"}


def test_terraforms_outputs_fill_in_what_no_flag_gives(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `terraform apply`, `invoke init` needs no typing."""
    applied(
        root,
        monkeypatch,
        outputs(
            ecr_repository_url=REPOSITORY,
            subnet_id=SUBNET,
            iam_instance_profile="p",
            region="ap-northeast-2",
            log_group_name="/x",
        ),
    )

    document = init(root, {"subnet_id": "subnet-11111111"})

    values = {row["name"]: (row["new"], row["source"]) for row in document["values"]}
    assert values["ecr_repository_url"] == (REPOSITORY, "terraform output ecr_repository_url")
    assert values["subnet_id"] == ("subnet-11111111", "--subnet-id")
    assert values["iam_instance_profile"] == ("p", "terraform output iam_instance_profile")
    assert "log_group_name" not in values


def test_another_region_than_the_settings_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A subnet of another region would fail in the bake, after the doctor."""
    applied(root, monkeypatch, outputs(ecr_repository_url=REPOSITORY, subnet_id=SUBNET, region="us-east-1"))

    with pytest.raises(UsageError, match="was applied in us-east-1"):
        init(root, {})


def test_a_terraform_that_refuses_is_told_with_what_is_missing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its reason is the way out; with flags it does not matter."""
    applied(root, monkeypatch, "", status=1, error="Error: Backend initialization required\n")

    with pytest.raises(UsageError, match=r"subnet_id \(`terraform output` in terraform refuses: Backend init"):
        init(root, {})
    assert init(root, GIVEN)["written"]


def test_an_answer_that_is_none_is_an_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half-read outputs would be half a file."""
    applied(root, monkeypatch, "nonsense")

    with pytest.raises(TerraformError):
        init(root, {})


def test_an_output_that_packer_would_refuse_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not written first and complained about later."""
    applied(root, monkeypatch, outputs(ecr_repository_url=REPOSITORY, subnet_id="vpc-1"))

    with pytest.raises(UsageError, match="'vpc-1' by terraform output subnet_id"):
        init(root, {})
    assert not (root / NAME).exists()


def test_nobody_to_ask_is_an_error_with_the_flags(root: Path) -> None:
    """In CI a question would wait for ever."""
    with pytest.raises(UsageError, match="give --ecr-repository-url and --subnet-id"):
        init(root, {})


def test_a_person_is_asked_for_what_is_missing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only on a terminal, and only for what nothing else gives."""
    monkeypatch.setattr(sys, "stdin", Terminal(f"{SUBNET}\n"))
    monkeypatch.setenv("TERM", "xterm")
    err = Terminal()
    run = Invocation(root, Options(), Console(out=io.StringIO(), err=err))

    planned = initializing.plan(run, {"ecr_repository_url": REPOSITORY})

    assert {setting.name: setting.source for setting in planned.settings}["subnet_id"] == "your answer"
    assert err.getvalue() == "subnet_id (subnet- and 8 or 17 hexadecimal digits): "


def test_an_empty_answer_is_no_subnet(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is the end of the input."""
    monkeypatch.setattr(sys, "stdin", Terminal(""))
    monkeypatch.setenv("TERM", "xterm")
    run = Invocation(root, Options(), Console(out=io.StringIO(), err=Terminal()))

    with pytest.raises(UsageError, match="subnet_id is '' by your answer"):
        initializing.plan(run, {"ecr_repository_url": REPOSITORY})


def test_hand_set_values_need_yes(root: Path) -> None:
    """Shown, refused, and left as they were; with --yes only they move."""
    text = f'# mine\necr_repository_url = "{REPOSITORY}"\nsubnet_id = "subnet-11111111" # mine\n'
    (root / NAME).write_text(text)
    run, out, err = started(root)

    with pytest.raises(SafetyError, match="other values of subnet_id, set by hand"):
        initializing.finish(run, initializing.plan(run, GIVEN), check=False, yes=False)

    assert (root / NAME).read_text() == text
    assert json.loads(out.getvalue())["written"] is False
    assert '-subnet_id = "subnet-11111111" # mine' in err.getvalue()
    assert init(root, GIVEN, yes=True)["written"]
    assert (root / NAME).read_text() == text.replace("subnet-11111111", SUBNET)


def test_a_byte_order_mark_stays(root: Path) -> None:
    """Editors on Windows write one."""
    text = f'\ufeffecr_repository_url = "{REPOSITORY}"\r\nsubnet_id = "subnet-11111111"\r\n'
    (root / NAME).write_text(text, encoding="utf-8", newline="")

    init(root, GIVEN, yes=True)

    assert (root / NAME).read_bytes().decode() == text.replace("subnet-11111111", SUBNET)


def test_check_and_dry_run_write_nothing(root: Path) -> None:
    """The one ends with 9 for scripts, the other with 0 for people."""
    with pytest.raises(DifferenceError, match="run it"):
        init(root, GIVEN, check=True)
    assert init(root, GIVEN, dry_run=True)["written"] is False
    assert not (root / NAME).exists()


def test_a_file_that_is_right_is_left_alone(root: Path) -> None:
    """No write, no new date, and --check is content."""
    init(root, GIVEN)
    before = (root / NAME).stat().st_mtime_ns

    document = init(root, GIVEN, check=True)

    assert (document["changed"], document["written"]) == (False, False)
    assert (root / NAME).stat().st_mtime_ns == before


def test_a_file_changed_meanwhile_is_not_overwritten(root: Path) -> None:
    """What was shown is what is written, or nothing."""
    run, _, _ = started(root)
    planned = initializing.plan(run, GIVEN)
    (root / NAME).write_text('image_tag = "v9"\n')

    with pytest.raises(UsageError, match="changed by somebody else"):
        initializing.finish(run, planned, check=False, yes=True)


def test_a_link_is_refused(root: Path) -> None:
    """Replacing it would cut it off from what it points to."""
    (root / "shared.hcl").write_text("")
    (root / NAME).symlink_to(root / "shared.hcl")

    with pytest.raises(UsageError, match="symbolic link"):
        init(root, GIVEN)


def in_sandbox(root: Path, sandbox: Any) -> tuple[Invocation, dict[str, Any]]:
    """Run the job in *sandbox*; return the invocation and the values by name."""
    run = Invocation(root, Options(sandbox=True), Console("json", out=io.StringIO(), err=io.StringIO()))
    run.target.__dict__["sandbox"] = sandbox
    run.__dict__["access"] = Access(region="ap-northeast-2", environment={})
    planned = initializing.plan(run, {})
    initializing.finish(run, planned, check=False, yes=False)
    return run, {setting.name: (setting.new, setting.source) for setting in planned.settings}


def test_the_sandbox_gives_the_demo_account(root: Path, local_aws: Sandbox) -> None:
    """And writes under .sandbox/ only, where no build reads it."""
    _, values = in_sandbox(root, local_aws)

    assert values["subnet_id"] == (local_aws.account.subnet_id, "the demo account")
    assert not (root / NAME).exists()
    assert (root / ".sandbox" / "variables.auto.pkrvars.hcl").exists()


def test_a_running_sandbox_is_asked_for_what_was_applied_there(
    root: Path, local_aws: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """State of one that has ended would name what is gone; an attached one's is alive."""
    (root / ".sandbox" / "terraform").mkdir(parents=True)
    applied(root, monkeypatch, outputs(subnet_id=SUBNET))
    (root / "terraform" / ".terraform").rename(root / ".sandbox" / "terraform" / ".terraform")
    attached = Sandbox(local_aws.access, local_aws.account, attached=True, identity="this")
    (root / ".sandbox" / "terraform" / ".sandbox-session").write_text("this")

    _, values = in_sandbox(root, attached)

    assert values["subnet_id"] == (SUBNET, "terraform output subnet_id")
    assert values["models_s3_bucket"] == (local_aws.account.models_bucket, "the demo account")


def test_what_a_sandbox_left_that_has_ended_is_neither_used_nor_kept(
    root: Path, local_aws: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody set these values by hand: init itself wrote them, of what is gone now."""
    (root / ".sandbox" / "terraform").mkdir(parents=True)
    applied(root, monkeypatch, outputs(iam_instance_profile="gone", subnet_id=SUBNET))
    (root / "terraform" / ".terraform").rename(root / ".sandbox" / "terraform" / ".terraform")
    mark = root / ".sandbox" / "terraform" / ".sandbox-session"
    mark.write_text("ended")
    in_sandbox(root, Sandbox(local_aws.access, local_aws.account, attached=True, identity="ended"))
    file = root / ".sandbox" / "variables.auto.pkrvars.hcl"
    assert '"gone"' in file.read_text()

    _, values = in_sandbox(root, Sandbox(local_aws.access, local_aws.account, attached=True, identity="another"))

    assert values["iam_instance_profile"] == (local_aws.account.instance_profile, "the demo account")
    assert '"gone"' not in file.read_text()
