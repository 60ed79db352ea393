"""The code's name: what git says of the same files."""

import subprocess
from pathlib import Path

import pytest

from pipeline.core import code_version


def git(folder, *words):
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_code_has_the_name_that_git_gives_it(tmp_path):
    code = tmp_path / "code"
    for name in ("a.py", "a/b.py", "a/c/page.html.j2", "a-b/x.py", "a0.py", "\u00e4.py"):
        (code / name).parent.mkdir(parents=True, exist_ok=True)
        (code / name).write_text(name)
    (code / "a0.py").chmod(0o755)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    want = git(tmp_path, "write-tree", "--prefix=code/")
    for litter in ("__pycache__/a.cpython-311.pyc", "notes/draft.py~", "a/.a.py.swp"):
        (code / litter).parent.mkdir(exist_ok=True)
        (code / litter).write_text(litter)
    assert code_version.tree(code) == want
    (code / "a/b.py").write_text("changed")
    assert code_version.tree(code) != want


def test_a_clean_checkout_is_named_by_its_commit(tmp_path):
    """Some exports of the code have no git; then there is nothing to compare with."""
    top = Path(code_version.__file__).parents[1]
    if not (top / ".git").exists():
        pytest.skip("this is no git checkout")
    git(top, "clone", "-q", "--shared", str(top), str(tmp_path / "clone"))
    assert code_version.tree(tmp_path / "clone/pipeline") == git(
        tmp_path / "clone", "rev-parse", "HEAD:pipeline"
    )


def test_git_has_no_file_of_pipeline_that_the_name_leaves_out():
    folder = Path(code_version.__file__).parent
    names = git(folder, "ls-files").splitlines()
    assert names
    assert {Path(name).suffix for name in names} <= set(code_version.SUFFIXES)
