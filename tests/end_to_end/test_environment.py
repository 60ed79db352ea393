"""Unusual machines: the same bytes, or one sentence that says what is needed."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from conftest import ROOT, Repo, new_repo, textures
from faults import can_unshare, full_disk

pytestmark = pytest.mark.slow
needs_mounts = pytest.mark.skipif(not can_unshare(), reason="nobody may mount here")

INDEX = ("python", "-m", "stages.index")
READ_ONLY = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"'
NO_SHM = 'mount -t tmpfs -o ro,size=4k none /dev/shm && exec "$@"'
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def in_namespace(script, *arguments):
    return ["unshare", "-rm", "sh", "-c", script, "sh", *arguments]


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    repo = new_repo(folder / "repo", textures(folder / "bucket"))
    repo.run("dvc", "repro")
    return repo.digests()


def stops(repo, code, sentence, *command, **env):
    """Run a command, which is to stop with one sentence; then it works where nothing hinders it."""
    done = repo.run(*command, check=False, **env)
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    repo.run(*INDEX)


@needs_mounts
def test_a_store_that_cannot_be_written_is_an_error(repo, tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    command = in_namespace(READ_ONLY, str(store), *INDEX)
    sentence = (
        "cannot be written (Read-only file system); make room there, or name a folder that can"
    )
    stops(repo, 4, sentence, *command, QUADRAT_STORE=str(store))


@needs_mounts
def test_a_full_disk_is_an_error(repo):
    (repo.path / "data").mkdir()
    command = full_disk("4k", repo.path / "data")
    stops(repo, 4, "data/index: cannot be written (No space left on device)", *command, *INDEX)


def test_a_limit_on_file_sizes_is_an_error(repo):
    limited = ("sh", "-c", 'ulimit -f 4; exec "$@"', "sh", *INDEX)
    stops(repo, 4, "bytes cannot be written (File too large); make room there", *limited)


@needs_mounts
def test_a_machine_without_shared_memory_is_an_error(repo):
    stops(
        repo,
        4,
        "shared memory: no semaphore can be created (Read-only file system); mount /dev/shm",
        *in_namespace(NO_SHM, *INDEX),
    )


def test_a_locale_that_is_not_utf_8_is_an_error(repo):
    sentence = "the encoding of file names is 'ascii'; set PYTHONUTF8=1"
    stops(repo, 2, sentence, *INDEX, **ASCII)


def test_another_folder_is_an_error(repo):
    done = subprocess.run(INDEX, cwd="/", env=repo.env, capture_output=True, text=True)
    assert done.returncode == 2
    sentence = f"/: has no params.yaml; go to the repository's root first: cd {ROOT}\n"
    assert done.stderr == sentence


ODD = {
    "few open files": (("sh", "-c", "ulimit -n 64; exec dvc repro"), {}),
    "no HOME": (("env", "-u", "HOME", "dvc", "repro"), {}),
    "a HOME that cannot be written": (("dvc", "repro"), {"HOME": "/proc/1"}),
    "the C locale, and another day": (("dvc", "repro"), {"LC_ALL": "C", "TZ": "Pacific/Apia"}),
    "from elsewhere": (("sh", "-c", 'here=$PWD; cd /; exec dvc --cd "$here" repro'), {}),
    "hashes and threads": (("dvc", "repro"), {"PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "3"}),
    "one worker": (("dvc", "repro"), {"QUADRAT_WORKERS": "1", "TMPDIR": "/var/tmp"}),
}


@pytest.mark.parametrize("what", ODD)
def test_an_odd_environment_changes_no_byte(repo, wanted, what):
    command, env = ODD[what]
    done = repo.run(*command, **env)
    assert "Traceback" not in done.stderr
    assert repo.digests() == wanted


def test_spaces_and_letters_in_paths_change_no_byte(tmp_path, wanted):
    folder = tmp_path / "Übersicht der Riffe (alt) & 'neu' \U0001f41f"
    repo = new_repo(folder / "my clone", textures(folder / "my bucket"))
    repo.env["QUADRAT_STORE"] = str(folder / "my store")
    repo.run("dvc", "repro")
    assert repo.digests() == wanted


@needs_mounts
def test_a_checkout_that_cannot_be_written_works_with_its_outs_elsewhere(tmp_path, wanted):
    """The code's folder is never written: settings and outs lie where the run begins."""
    code = tmp_path / "code"
    keep = shutil.ignore_patterns("__pycache__", ".*", "tests", "docs", "benchmarks")
    shutil.copytree(ROOT, code, ignore=keep)
    repo = new_repo(tmp_path / "repo", textures(tmp_path / "bucket"))
    repo.env["PYTHONPATH"] = str(code)
    where = "import pipeline; print(pipeline.__file__)"
    assert str(code) in Repo.said(repo, "python", "-c", where)
    touch = 'touch "$PYTHONPATH/x" 2>/dev/null && exit 9; exec dvc repro'
    repo.run(*in_namespace(READ_ONLY, str(code), "sh", "-c", touch))
    assert repo.digests() == wanted
