"""What validate.compare names: a revision, a folder, or nothing at all."""

import subprocess

import pytest
from conftest import environment

from pipeline.core.errors import SettingError
from pipeline.validate import baselines


@pytest.fixture
def lock(tmp_path, monkeypatch):
    """Commit a dvc.lock of given bytes to a new repository, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    baselines._locked.cache_clear()

    def committed(data):
        (tmp_path / "dvc.lock").write_bytes(data)
        for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "lock"]):
            subprocess.run(["git", *command], env=environment(), check=True)

    yield committed
    baselines._locked.cache_clear()


@pytest.mark.parametrize("name", ["https://[", "n" * 5000, "a\0b", "-x", "HEAD~9", "*"])
def test_what_names_no_classifier_is_refused(lock, name):
    lock(b"stages: {}\n")
    with pytest.raises(SettingError, match="^validate.compare: '") as stop:
        baselines.digest_of(name)
    assert "\n" not in str(stop.value)


NO_LOCKS = [
    b"",
    b"[]",
    b"stages: 5",
    b"stages: {a: 5}",
    b"stages: {a: {outs: 5}}",
    b"\x01",
    b"a: [",
]


@pytest.mark.parametrize("data", NO_LOCKS)
def test_a_revision_whose_lock_file_is_invalid_is_refused(lock, data):
    lock(data)
    with pytest.raises(SettingError, match="^validate.compare: the dvc.lock of 'HEAD' is not one"):
        baselines.digest_of("HEAD")
