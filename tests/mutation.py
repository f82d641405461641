"""Mutation tests of what decides about deleting, applying and rolling back: ``nox -s mutation -- [OPTIONS]``.

Each mutant is one small change of a function; one that no test notices has survived. Two trees are compared by the
mutants' names, without the folder that a module is in, and by the change itself where a function's name or lines moved:

    nox -s mutation -- --tree OTHER-CHECKOUT --out then.json
    nox -s mutation -- --out now.json --compare then.json
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Module: where it may be below the package, and which tests are its own.
MODULES = {
    "decide": (("cleanup/decide.py",), ("cleanup/test_decide.py",)),
    "guard": (("deploy/guard.py", "handover/guard.py"), ("deploy/test_guard.py", "handover/test_guard.py")),
    "history": (("deploy/history.py", "handover/history.py"), ("deploy/test_history.py", "handover/test_history.py")),
}
# mutmut's exit codes of a test run: no test failed, and no test reaches the function.
SURVIVED = {0: "survived", 33: "no tests"}
# mutmut names mutants by path and knows src/ only; the tests of a mutant must be the same at each run.
CONFIG = """
[tool.mutmut]
source_paths = ["src"]
only_mutate = {modules}
pytest_add_cli_args_test_selection = {tests}
pytest_add_cli_args = ["-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-profile=ci"]
use_git_change_detection = false
"""
SHOW = """
import json, sys
from mutmut.mutation.diff_apply import get_diff_for_mutant
diffs = {name: get_diff_for_mutant(name, path=path) for name, path in json.load(sys.stdin).items()}
json.dump(diffs, sys.stdout)
"""


def prepare(tree: Path, work: Path) -> list[Path]:
    """Copy what is needed of the checkout *tree* to *work*; return the modules that are mutated, from there."""
    for package in sorted((tree / "scripts").glob("gpu_ami*")):
        shutil.copytree(package, work / "src" / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(tree / "tests", work / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    modules: list[Path] = []
    tests: list[str] = []
    for places, own_tests in MODULES.values():
        modules.append(_first(work, [f"src/gpu_ami/{place}" for place in places]))
        tests.append(str(_first(work, [f"tests/{test}" for test in own_tests])))
    config = CONFIG.format(modules=json.dumps(list(map(str, modules))), tests=json.dumps(tests))
    (work / "pyproject.toml").write_text((tree / "pyproject.toml").read_text() + config)
    return modules


def _first(work: Path, names: Sequence[str]) -> Path:
    return next(Path(name) for name in names if (work / name).is_file())


def survivors(work: Path, modules: Sequence[Path]) -> tuple[dict[str, str], int]:
    """Return the change of each mutant that survived, by its name, and how many mutants there are.

    Raises:
        ValueError: Some mutants were not tested.
    """
    codes: dict[str, tuple[int | None, Path]] = {}
    for module in modules:
        found: dict[str, Any] = json.loads((work / "mutants" / f"{module}.meta").read_text())
        codes |= {name: (code, module) for name, code in found["exit_code_by_key"].items()}
    if untested := [name for name, (code, _) in codes.items() if code is None]:
        msg = f"{len(untested)} of {len(codes)} mutants were not tested, such as {untested[0]}: run it again."
        raise ValueError(msg)
    alive = {name: str(module) for name, (code, module) in codes.items() if code in SURVIVED}
    shown = subprocess.run(
        [sys.executable, "-c", SHOW], input=json.dumps(alive), cwd=work, capture_output=True, text=True, check=True
    )
    diffs: dict[str, str] = json.loads(shown.stdout)
    return {short_name(name): change_of(diff) for name, diff in diffs.items()}, len(codes)


def short_name(name: str) -> str:
    """Return a mutant's name without its package and folder, such as ``guard.judge 12``."""
    module, _, function = name.rpartition(".")
    match = re.fullmatch(r"x[_ǁ](?P<function>.+)__mutmut_(?P<number>\d+)", function)
    where = f"{match['function'].replace('ǁ', '.')} {match['number']}" if match else function
    return f"{module.rpartition('.')[2]}.{where}"


def change_of(diff: str) -> str:
    """Return the changed lines of a mutant's *diff* alone."""
    lines = [line for line in diff.splitlines() if line[:1] in "+-" and not line.startswith(("+++", "---"))]
    return "\n".join(re.sub(r"\s+", " ", line) for line in lines)


def new_survivors(now: Mapping[str, str], then: Mapping[str, str]) -> dict[str, str]:
    """Return the survivors of *now* that *then* has neither by name nor as the same change in the same module."""
    known = {(name.partition(".")[0], change) for name, change in then.items()}
    return {
        name: change
        for name, change in now.items()
        if name not in then and (name.partition(".")[0], change) not in known
    }


def main(arguments: Sequence[str]) -> int:
    """Test every mutant; 1 when one survived that the file to compare with does not have."""
    parser = argparse.ArgumentParser(prog="nox -s mutation --", description="Mutation tests of the decisions.")
    parser.add_argument("--tree", type=Path, default=Path(), help="the checkout to test; this one by default")
    parser.add_argument("--out", type=Path, help="where to write the survivors, as JSON")
    parser.add_argument("--compare", type=Path, help="survivors of another tree, which are accepted")
    parser.add_argument("--children", type=int, default=os.cpu_count() or 1, help="mutants tested at once")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gpu-ami-mutation-") as folder:
        work = Path(folder)
        modules = prepare(options.tree.resolve(), work)
        subprocess.run(
            [sys.executable, "-m", "mutmut", "run", f"--max-children={options.children}"], cwd=work, check=True
        )
        found, total = survivors(work, modules)
    if options.out:
        options.out.write_text(json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    print(f"{len(found)} of {total} mutants survived, in {time.monotonic() - began:.0f} s.")  # noqa: T201
    if options.compare is None:
        return 0
    new = new_survivors(found, json.loads(options.compare.read_text()))
    for name, change in new.items():
        print(f"new: {name}\n{change}")  # noqa: T201
    return 1 if new else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
