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
from xml.etree import ElementTree

import pytest

from gpu_ami import settings

ROOT = Path(__file__).parents[1]
_OWN = ("scripts", "packer", "terraform", "tests", "docs", ".github", "logs")
PAGES = sorted(
    page
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob(".github/*.md"), *ROOT.glob("packer/*.md"))
    if page.name != "CHANGELOG.md"
) + sorted(ROOT.glob("terraform/**/README.md"))
# Invoke's own, and what stands for a value.
CORE = {"--list", "--dry", "--help", "--print-completion-script"}


def blocks(page: Path) -> str:
    """Return a page's text without the indentation of lists, and with each command on one line."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    return re.sub(r"^ {2,3}(?=\S)", "", text, flags=re.MULTILINE)


def commands(page: Path) -> list[list[str]]:
    """Return the commands of a page's console blocks and inline `invoke …`, as words, comments removed."""
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
        words = shlex.split(part, comments=True)
        while words[:2] == ["uv", "run"]:
            words = words[2:]
        if words and words[0] in {"invoke", "nox"}:
            found.append(words)
    return found


@functools.cache
def tasks() -> dict[str, set[str]]:
    """Return each task with its flags."""
    listed = subprocess.run(
        [sys.executable, "-m", "invoke", "--list", "--list-format=json"], cwd=ROOT, capture_output=True, check=True
    )
    names = [task["name"] for task in json.loads(listed.stdout)["tasks"]]
    code = (
        "import json, tasks, invoke.collection as c; n = c.Collection.from_module(tasks);"
        "print(json.dumps({k: [f for a in n[k].get_arguments() for f in a.names] for k in n.task_names}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    flags = {name: {f"--{flag.replace('_', '-')}" for flag in given} for name, given in json.loads(done.stdout).items()}
    return {name: flags[name] for name in names}


@functools.cache
def sessions() -> set[str]:
    """Return nox's sessions."""
    text = (ROOT / "noxfile.py").read_text(encoding="utf-8")
    return set(re.findall(r"^@nox\.session.*\ndef (\w+)", text, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_task_and_flag_of_a_page_exists(page: Path) -> None:
    """Whoever pastes a line gets what the page says, not a parse error."""
    for words in commands(page):
        if words[0] == "nox":
            named = [word for flag, word in itertools.pairwise(words) if flag in {"-s", "--session"}]
            assert {name.partition("-")[0] for name in named} <= sessions(), words
            continue
        known: set[str] = set(CORE)
        takes_value = False
        for word in words[1:]:
            if word.startswith("--"):
                flag = (
                    word.partition("=")[0].replace("--no-", "--", 1)
                    if word.startswith("--no-")
                    else word.partition("=")[0]
                )
                assert flag in known or word.partition("=")[0] in known, (word, words)
                takes_value = True
            elif word in tasks() and not (takes_value and word not in tasks()):
                known |= tasks()[word]
                takes_value = False
            elif not takes_value:
                # Names in capitals, and "…", stand for something.
                assert re.fullmatch(r"[A-Z…]+|…", word), (word, words)


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
    """A map that names a place that is not there is worse than none."""
    rows = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    made = (
        *(
            "terraform/receipts",
            "terraform/gpu-ami.auto.tfvars.json",
            "terraform/backend.tf",
            "terraform/terraform.tfvars",
        ),
        *("packer/manifest.json", "packer/release.json", "packer/variables.auto.pkrvars.hcl"),
    )
    paths = {path for row in rows for path in re.findall(r"`((?:scripts|packer|terraform|tests|docs)/[\w./-]+)`", row)}

    missing = [path for path in sorted(paths) if not (ROOT / path).exists() and not path.startswith(made)]
    assert missing == []


SETTINGS_PAGE = ROOT / "docs" / "settings.md"


def settings_rows() -> list[str]:
    """Return the table of settings, made from the code."""
    parts = settings.schema()["$defs"]
    sections = {name.lower(): part["properties"] for name, part in parts.items() if name != "Settings"}
    top = parts["Settings"]["properties"]
    rows = {name: body for name, body in top.items() if name not in sections}
    rows |= {f"{section}.{name}": body for section, own in sections.items() for name, body in own.items()}
    required = set(parts["Settings"]["required"])
    return [
        "| `{}` | {} | {} |".format(
            name, "—" if name in required else f"`{json.dumps(body.get('default'))}`", body["description"]
        )
        for name, body in rows.items()
    ]


def test_every_setting_is_documented_with_its_default() -> None:
    """People look things up in docs/settings.md; `python -m tests.test_pages` writes its table anew."""
    found = [line for line in SETTINGS_PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]

    assert found == settings_rows()


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
    from gpu_ami.bake.variables import template_scripts

    steps = template_scripts(ROOT / "packer")
    assert [step for step in steps if step not in text] == []
    assert "in all" in text


if __name__ == "__main__":
    lines = SETTINGS_PAGE.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not line.startswith("| `")]
    head = kept.index("|---|---|---|") + 1
    SETTINGS_PAGE.write_text("\n".join([*kept[:head], *settings_rows(), *kept[head:]]) + "\n", encoding="utf-8")
