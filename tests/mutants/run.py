"""Change one operator, number or argument of the code at a time, and see whether a test fails.

    make mutants T=metrics

runs mutmut over the folder or file of `pipeline/` that has this name (`T=train/calibration` where
several have it), with the tests of its folder in `tests/`. A change that no test notices has
survived. `equivalent.toml` lists those that nobody could ever notice, with the reason; any other is
printed, and the exit code is 1. The work is kept in `.mutants/`: the next run tries only what is
new, and what survived.

Texts are not changed: messages are tested where they are raised. Neither are constants outside
functions, nor functions with a decorator: mutmut has no means for them.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EQUIVALENT = Path(__file__).with_name("equivalent.toml")
KILLED = {"killed", "timeout", "segfault", "caught by type check"}


def code_and_tests(name: str) -> tuple[str, str]:
    """Return the pattern of the code called *name*, and the folder of its tests."""
    found = [
        path.relative_to(ROOT / "pipeline")
        for path in sorted((ROOT / "pipeline").rglob("*"))
        if f"/{path.relative_to(ROOT).with_suffix('')}".endswith(f"/{name}")
        and (path.suffix == ".py" or (path / "__init__.py").exists())
    ]
    if len(found) != 1:
        places = ", ".join(map(str, found)) or "nothing"
        raise SystemExit(f"T={name}: one place in pipeline/ must have this name; found: {places}")
    tests = found[0].parent if found[0].suffix else found[0]
    while not (ROOT / "tests" / tests).is_dir():
        tests = tests.parent
    pattern = found[0] if found[0].suffix else found[0] / "*"
    return f"pipeline/{pattern}", f"tests/{tests}"


def prepare(folder: Path, code: str, tests: str) -> None:
    """Make a folder that looks like this checkout, with mutmut's settings in pyproject.toml."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [path.name for path in ROOT.iterdir() if not path.name.startswith(".")]
    names.append(".gitignore")  # of the clones that tests make
    for path in [*(ROOT / name for name in names), ROOT.parent / "shared"]:
        link = folder / path.name
        if path.name != "pyproject.toml" and path.exists() and not link.exists():
            link.symlink_to(path)
    settings = f"""
[tool.mutmut]
source_paths = ["pipeline"]
only_mutate = ["{code}"]
also_copy = {[name for name in names if name not in {"pipeline", "tests", "pyproject.toml"}]}
pytest_add_cli_args_test_selection = ["{tests}"]
pytest_add_cli_args = ["-p", "no:xdist", "-p", "no:cacheprovider"]
process_isolation = "forkserver"  # threads of torch do not survive a fork
use_git_change_detection = false
"""
    (folder / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text() + settings)


def run() -> list[tuple[str, str, str]]:
    """Run mutmut here; return each mutant's name, what became of it, and its diff."""
    import libcst
    from mutmut import __main__ as mutmut
    from mutmut.mutation import mutators
    from mutmut.mutation.data import SourceFileMutationData
    from mutmut.mutation.diff_apply import get_diff_for_mutant
    from mutmut.stats import status_by_exit_code
    from mutmut.utils.file_utils import walk_mutatable_files

    mutators.mutation_operators.remove((libcst.BaseString, mutators.operator_string))
    for path in walk_mutatable_files():
        data = SourceFileMutationData(path=path)
        data.load()
        for mutant, code in data.exit_code_by_key.items():
            if status_by_exit_code[code] not in KILLED:
                data.exit_code_by_key[mutant] = None
        if data.exit_code_by_key:
            data.save()
    mutmut._run([], None)
    found = []
    for path in walk_mutatable_files():
        data = SourceFileMutationData(path=path)
        data.load()
        for mutant, code in data.exit_code_by_key.items():
            status = status_by_exit_code[code]
            diff = "" if status in KILLED else get_diff_for_mutant(mutant, path=path)
            found.append((mutant, status, diff))
    return found


def change(diff: str) -> tuple[str, str]:
    """Return the lines that a diff takes out and those that it puts in, each as one line."""
    sides = (re.findall(rf"^\{sign}(?!\{sign})(.*)$", diff, re.MULTILINE) for sign in "-+")
    before, after = (" ".join(line.strip() for line in side) for side in sides)
    return before, after


def main(name: str) -> int:
    """Run the mutants of one package; return the exit code."""
    code, tests = code_and_tests(name)
    folder = ROOT / ".mutants" / name.replace("/", "-")
    prepare(folder, code, tests)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    found = run()
    listed = tomllib.loads(EQUIVALENT.read_text())
    anywhere = [re.compile(pattern) for pattern in listed.pop("anywhere")]
    counts = Counter[str]()
    for mutant, status, diff in found:
        module, _, mangled = mutant.rpartition("__mutmut_")[0].rpartition(".")
        function = f"{module}.{re.sub('^x[_ǁ]', '', mangled).replace('ǁ', '.')}"
        before, after = change(diff)
        if status in KILLED:
            counts["killed"] += 1
        elif after in listed.get(function, {}) or any(
            pattern.search(f"{before} -> {after}") for pattern in anywhere
        ):
            counts["equivalent"] += 1
        else:
            counts["survived"] += 1
            print(f"{function} ({mutant.rpartition('_')[2]}, {status})\n  - {before}\n  + {after}")
    others = counts["killed"] + counts["survived"]
    print(
        f"{code}, by {tests}: {counts['killed']} of {others} changes noticed "
        f"({counts['killed'] / others:.1%}); {counts['equivalent']} more make no difference"
    )
    return 1 if counts["survived"] else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("make mutants needs the name of a package or module, as in T=metrics")
    sys.exit(main(sys.argv[1]))
