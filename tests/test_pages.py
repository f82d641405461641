"""What the documentation tells people to type exists: tasks, flags, files, pages; and its pictures are real."""

from __future__ import annotations

import functools
import itertools
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from gpu_ami import settings
from tests.support.tasks import tasks

ROOT = Path(__file__).parents[1]
_OWN = ("scripts", "packer", "terraform", "tests", "docs", ".github", "logs")
PAGES = sorted(
    page
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob(".github/*.md"), *ROOT.glob("packer/*.md"))
    if page.name != "CHANGELOG.md"
) + sorted(ROOT.glob("terraform/**/README.md"))
# Invoke's own flags.
CORE = {"--list", "--dry", "--help"}


def blocks(page: Path) -> str:
    """Return a page's text without the indentation of lists, and with each command on one line."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    return re.sub(r"^ {2,3}(?=\S)", "", text, flags=re.MULTILINE)


def commands(page: Path) -> list[list[str]]:
    """Return the commands of a page's console blocks and inline `invoke …`, as arguments, comments removed."""
    text = blocks(page)
    lines = [
        line[2:]
        for block in re.findall(r"^```(?:console|sh|bash|powershell)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
        if line.startswith("$ ")
    ]
    lines += re.findall(r"`((?:uv run )?(?:invoke|nox) [^`]+)`", text)
    parts = [part for line in lines for part in re.split(r"\s+&&\s+|\s+\|\s+", line.partition("  #")[0])]
    found = []
    for part in parts:
        arguments = shlex.split(part, comments=True)
        while arguments[:2] == ["uv", "run"]:
            arguments = arguments[2:]
        if arguments and arguments[0] in {"invoke", "nox"} and "--print-completion-script" not in arguments:
            found.append(arguments)
    return found


TASKS = tasks()


def flags_of(task: Any) -> dict[str, bool]:
    """Return each flag of a task and whether it takes a value."""
    return {
        f"--{name.replace('_', '-')}": a.takes_value for a in task.get_arguments() for name in a.names if len(name) > 1
    }


def problems(arguments: list[str]) -> list[str]:
    """Return the arguments of a command that are no task and no flag of the task before them."""
    wrong: list[str] = []
    flags: dict[str, bool] = {}
    rest = iter(arguments)
    for argument in rest:
        if (argument in CORE and argument not in flags) or re.fullmatch(r"[A-Z…]+", argument):
            continue  # Invoke's own, or the name of something
        if argument.startswith("--"):
            name, equals, _ = argument.partition("=")
            if name not in flags:
                wrong.append(argument)
            elif flags[name] and not equals:
                next(rest, None)
        elif argument in TASKS.task_names:
            flags = flags_of(TASKS[argument])
        else:
            wrong.append(argument)
    return wrong


@functools.cache
def sessions() -> set[str]:
    """Return nox's sessions."""
    text = (ROOT / "noxfile.py").read_text(encoding="utf-8")
    return set(re.findall(r"^@nox\.session.*\ndef (\w+)", text, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_task_and_flag_of_a_page_exists(page: Path) -> None:
    """Whoever pastes a line gets what the page says, not a usage error."""
    typed = [arguments for arguments in commands(page) if arguments[0] == "invoke"]

    assert {" ".join(arguments): wrong for arguments in typed if (wrong := problems(arguments[1:]))} == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_session_of_a_page_exists(page: Path) -> None:
    """`nox -s` with another name ends before it begins."""
    pairs = [pair for arguments in commands(page) if arguments[0] == "nox" for pair in itertools.pairwise(arguments)]

    assert {name.partition("-")[0] for flag, name in pairs if flag in {"-s", "--session"}} <= sessions()


def test_the_check_itself_finds_what_is_wrong() -> None:
    """It would be worth nothing otherwise."""
    assert problems(["build", "--sandbox", "--var", "a=b"]) == []
    assert problems(["biuld", "--sandbox"]) == ["biuld", "--sandbox"]
    assert problems(["doctor", "--yes"]) == ["--yes"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    """A page that was moved takes its readers with it."""
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]

    for link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_in_a_page_s_tables_exists(page: Path) -> None:
    """A map that names a path that is not there is worse than none."""
    rows = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    made = (
        *(
            "terraform/receipts",
            "terraform/verifications",
            "terraform/benches",
            "terraform/provenance",
            "terraform/gpu-ami.auto.tfvars.json",
            "terraform/backend.tf",
            "terraform/terraform.tfvars",
        ),
        *("packer/manifest.json", "packer/release.json", "packer/variables.auto.pkrvars.hcl", "packer/builds"),
    )
    paths = {path for row in rows for path in re.findall(r"`((?:scripts|packer|terraform|tests|docs)/[\w./-]+)`", row)}

    missing = [path for path in sorted(paths) if not (ROOT / path).exists() and not path.startswith(made)]
    assert missing == []


@pytest.mark.parametrize(("line", "candidate"), [("invoke clea", "cleanup"), ("invoke cleanup --", "--older-than")])
def test_the_shell_completes_tasks_and_flags(line: str, candidate: str) -> None:
    """The script that docs/settings.md installs calls Invoke this way."""
    arguments = [sys.executable, "-m", "invoke", "--complete", "--", *line.split()]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True)

    assert candidate in done.stdout.split()


SETTINGS_PAGE = ROOT / "docs" / "settings.md"
# Sections that are not named as where they stand.
_PLACES = {
    "OrganizationScope": "fleet.organization",
    "FleetAccount": "fleet.accounts[]",
    "LeftOut": "fleet.left_out[]",
    "KeylessIdentity": "provenance.verifiers[]",
}
_SETTING = re.compile(r"\| `[a-z]")


def settings_rows() -> list[str]:
    """Return the table of settings, made from the code."""
    parts = settings.schema()["$defs"]
    of_a_family = parts.pop("FamilySettings")["properties"]
    sections = {_PLACES.get(name, name.lower()): part for name, part in parts.items() if name != "Settings"}
    top = parts["Settings"]["properties"]
    rows = {name: body for name, body in top.items() if name not in sections}
    rows |= {f"{at}.{name}": body for at, part in sections.items() for name, body in part["properties"].items()}
    rows |= {f"families.NAME.{name}": body for name, body in of_a_family.items() if name not in sections}
    required = set(parts["Settings"]["required"])
    required |= {f"{at}.{name}" for at, part in sections.items() for name in part.get("required", ())}
    return [
        "| `{}` | {} | {} |".format(
            name, "—" if name in required else f"`{json.dumps(body.get('default'))}`", body["description"]
        )
        for name, body in rows.items()
    ]


def test_the_page_of_families_says_of_every_task_which_it_is_about() -> None:
    """Whoever has several must not find out by the act that a task goes through all of them."""
    page = (ROOT / "docs" / "families.md").read_text(encoding="utf-8")
    table = page.partition("## Which families a task is about")[2].partition("`--family NAME` can be")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`([a-z-]+)`", row)]

    assert sorted(named) == sorted(TASKS.task_names)


def test_every_setting_is_documented_with_its_default() -> None:
    """People look things up in docs/settings.md; `python -m tests.test_pages` writes its table anew."""
    found = [line for line in SETTINGS_PAGE.read_text(encoding="utf-8").splitlines() if _SETTING.match(line)]

    assert found == settings_rows()


def test_every_variable_of_the_environment_is_documented() -> None:
    """Those that the code reads, and no other."""
    files = (ROOT / "scripts" / "gpu_ami").rglob("*.py")
    # GitHub's own variables are in docs/github-actions.md.
    code = [path.read_text(encoding="utf-8") for path in files if path.parent.name != "github"]
    read = {name for text in code for name in re.findall(r"\bGPU_AMI_[A-Z_]+[A-Z]\b", text)}

    found = set(re.findall(r"^\| `(GPU_AMI_\w+)` \|", SETTINGS_PAGE.read_text(encoding="utf-8"), re.MULTILINE))

    assert found == read


@pytest.mark.parametrize("picture", sorted((ROOT / "docs" / "pictures").glob("*.svg")), ids=lambda path: path.name)
def test_pictures_are_small_valid_and_fetch_nothing(picture: Path) -> None:
    """A picture that fetches a font tells somebody who reads the page."""
    text = picture.read_text(encoding="utf-8")

    ElementTree.fromstring(text)
    assert picture.stat().st_size < 100_000
    assert set(re.findall(r"https?://[^\"' )<]+", text)) <= {"http://www.w3.org/2000/svg"}


def test_the_recording_is_of_a_whole_build() -> None:
    """It was made by docs/record.py from a real run, and shows the steps that the template has now."""
    text = (ROOT / "docs" / "pictures" / "build.svg").read_text(encoding="utf-8").replace("&#160;", " ")
    from gpu_ami.bake.template import template_scripts

    steps = template_scripts(ROOT / "packer")
    assert [step for step in steps if step not in text] == []
    # Each of them, the last too, has ended well: a spinner that stands still looks like a build that was given up.
    shown = [line.strip() for line in re.findall(r">([^<>]+)<", text)]
    ended = [after for before, after in itertools.pairwise(shown) if before == "✓"]
    assert [step for step in steps if not any(re.search(rf"{step} +[\d.]+ s$", row) for row in ended)] == []
    assert ended[-1].startswith("ending the builder")
    assert "in all" in text


if __name__ == "__main__":
    lines = SETTINGS_PAGE.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not _SETTING.match(line)]
    head = kept.index("|---|---|---|") + 1
    SETTINGS_PAGE.write_text("\n".join([*kept[:head], *settings_rows(), *kept[head:]]) + "\n", encoding="utf-8")
