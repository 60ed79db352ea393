"""In the wrong environment or folder, stages and commands say in one sentence what to do."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, environment

DVC = str(Path(sys.executable).with_name("dvc"))
ACTIVATE = (
    "luigi is not installed for {python}; activate the environment first: "
    "source .venv/bin/activate (make setup creates it)\n"
)


def run(command, cwd, **env):
    return subprocess.run(
        command, cwd=cwd, env=environment(env), capture_output=True, text=True, check=False
    )


def test_a_python_without_the_packages_says_to_activate_the_environment():
    done = run([sys.executable, "-S", "-m", "stages.index"], ROOT)
    assert done.returncode == 2
    assert done.stderr == ACTIVATE.format(python=sys.executable)


def test_dvc_repro_with_another_python_on_the_path_says_to_activate_the_environment(repo, tmp_path):
    """As `.venv/bin/dvc repro` does if the environment is not active."""
    python = tmp_path / "bin" / "python3"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    path = f"{python.parent}:/usr/bin:/bin"
    done = run([DVC, "repro"], repo.path, PATH=path)
    assert done.returncode
    assert ACTIVATE.format(python=sys.executable) in done.stderr
    assert "Traceback" not in done.stderr


def test_an_environment_that_is_not_activated_works_by_its_own_python(repo):
    for stage in ("index", "store"):
        done = run([sys.executable, "-m", f"stages.{stage}"], repo.path, PATH="/usr/bin:/bin")
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "command",
    ["index", "trace a.png", "store", "export out", "annotate coco a.json", "bounds b", "worker"],
)
def test_another_folder_than_the_root_says_where_to_go(command, tmp_path):
    done = run([sys.executable, "-m", *f"stages.{command}".split()], tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        f"{tmp_path}: has no params.yaml; go to the repository's root first: cd {ROOT}\n"
    )
    assert not list(tmp_path.iterdir())


def test_dvc_repro_in_a_subfolder_is_one_sentence(repo):
    (repo.path / "pipeline").mkdir()
    done = run([DVC, "repro"], repo.path / "pipeline")
    assert done.returncode
    assert done.stderr.startswith(f"ERROR: '{repo.path}/pipeline/dvc.yaml' does not exist")


STOP = """
import os, signal, sys

class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["STOP_AT"]:
            os.kill(os.getpid(), signal.SIGTERM)

sys.meta_path.insert(0, Stop())
"""


@pytest.mark.parametrize(
    "module", ["typing", "pipeline.core.errors", "luigi", "multiprocessing", "pipeline.tasks"]
)
def test_sigterm_while_a_stage_imports_prints_the_usual_line(repo, tmp_path, module):
    """All that comes before is Python's own start."""
    (tmp_path / "sitecustomize.py").write_text(STOP)
    path = f"{tmp_path}:{repo.env['PYTHONPATH']}"
    done = repo.run("python", "-m", "stages.index", check=False, PYTHONPATH=path, STOP_AT=module)
    assert done.returncode == 128 + signal.SIGTERM
    assert done.stderr.startswith("stopped by SIGTERM; finished work is kept")
    assert done.stderr.count("\n") == 1
