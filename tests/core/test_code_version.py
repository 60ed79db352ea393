"""The id of the code is the id that git gives the same files."""

import subprocess
from pathlib import Path

import pytest

from pipeline.core import code_version


def git(folder, *arguments):
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_id_of_the_code_is_that_of_git(tmp_path):
    code = tmp_path / "code"
    for name in ("a.py", "a/b.py", "a/c/page.html.j2", "a-b/x.py", "a0.py", "\u00e4.py"):
        (code / name).parent.mkdir(parents=True, exist_ok=True)
        (code / name).write_text(name)
    (code / "a0.py").chmod(0o755)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    expected = git(tmp_path, "write-tree", "--prefix=code/")
    for untracked in ("__pycache__/a.cpython-311.pyc", "notes/draft.py~", "a/.a.py.swp"):
        (code / untracked).parent.mkdir(exist_ok=True)
        (code / untracked).write_text(untracked)
    assert code_version.tree(code) == expected
    (code / "a/b.py").write_text("changed")
    assert code_version.tree(code) != expected


def test_a_clean_checkout_has_the_id_of_its_commits_tree(tmp_path):
    """Exports of the code without git have nothing to compare with."""
    top = code_version.HERE.parent
    if not (top / ".git").exists():
        pytest.skip("not a git checkout")
    git(top, "clone", "-q", "--shared", str(top), str(tmp_path / "clone"))
    assert code_version.tree(tmp_path / "clone/pipeline") == git(
        tmp_path / "clone", "rev-parse", "HEAD:pipeline"
    )


def test_every_file_that_git_tracks_is_part_of_the_id():
    names = git(code_version.HERE, "ls-files").splitlines()
    assert names
    assert {Path(name).suffix for name in names} <= set(code_version.SUFFIXES)
