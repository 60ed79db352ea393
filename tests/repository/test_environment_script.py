"""`make setup` says what it installs and how far it has got, with uv and with pip."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

STUB = """#!/bin/sh
case "$*" in
  *"import sys"*) exec {python} "$@" ;;
  "--version") echo "Python 3.12.1" ;;
  "-m venv"*) mkdir -p "$4/bin"; cp "$0" "$4/bin/python" ;;
  *) echo "$(basename "$0") $*" ;;
esac
"""


@pytest.fixture
def stubs(tmp_path):
    """A folder with a python that installs nothing but prints what it was asked for."""
    folder = tmp_path / "stubs"
    folder.mkdir()
    add(folder, "python3")
    return folder


def add(folder, name):
    (folder / name).write_text(STUB.format(python=sys.executable), encoding="utf-8")
    (folder / name).chmod(0o755)


def run(stubs, target, python="python3"):
    env = {**os.environ, "PATH": f"{stubs}:/usr/bin:/bin"}
    command = [ROOT / "demo/environment.sh", python, target]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("tool", ["uv", "pip"])
def test_each_step_is_announced_and_the_installer_is_not_quiet(tool, stubs, tmp_path):
    if tool == "uv":
        add(stubs, "uv")
    venv = tmp_path / "venv"
    done = run(stubs, venv)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if not line.startswith("uv venv")]
    assert lines[0] == f"1 of 3: creating {venv} for Python 3.12.1"
    assert lines[1].startswith("2 of 3: installing the ")
    assert (
        f" pinned packages of requirements.txt with {tool}; on Linux they are several" in lines[1]
    )
    assert "pip install" in lines[2]
    assert "--require-hashes -r requirements.txt" in lines[2]
    assert "--quiet" not in lines[2]
    assert lines[3] == "3 of 3: installing this checkout"
    assert lines[4].endswith("--no-deps --no-build-isolation -e .")
    assert lines[5:] == [f"{venv} is ready; to use it in this shell: source {venv}/bin/activate"]


def test_an_unsupported_python_says_which_are_supported(stubs, tmp_path):
    (stubs / "python3").write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.1"\n')
    done = run(stubs, tmp_path / "venv")
    assert done.returncode == 1
    assert done.stderr == (
        "Python 3.9.1 found; Python 3.11, 3.12 or 3.13 is needed: make PYTHON=python3.12 …\n"
    )
