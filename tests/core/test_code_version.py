"""What counts as other code, and that the lock is that of the code as it is."""

import json
import shutil
import sys

import pytest
from conftest import ROOT

from pipeline.core import code_version

sys.path.append(str(ROOT / "tests/golden"))
import lock as golden


def digest(text):
    return code_version.code_digest("a.py", text.encode())


CODE = '''"""What it is."""
import a

LIMIT = 3
"""Metres."""


def f(x):
    """Return it."""
    return x + LIMIT  # why
'''


@pytest.mark.parametrize(
    "edit",
    [
        ('"""What it is."""', '"""Something else."""'),
        ('"""Metres."""\n', ""),
        ('    """Return it."""\n', ""),
        ("  # why", "  # because"),
        ("x + LIMIT", "(x\n            + LIMIT)"),
        ("import a\n", "\n\n# at last\nimport a\n"),
    ],
)
def test_comments_docstrings_and_layout_are_no_change_of_code(edit):
    assert CODE.replace(*edit) != CODE
    assert digest(CODE.replace(*edit)) == digest(CODE)


@pytest.mark.parametrize(
    "edit",
    [
        ("x + LIMIT", "x - LIMIT"),
        ("LIMIT = 3", "LIMIT = 3.0"),
        ("import a", "import b as a"),
        ("def f(x):", "def f(x, /):"),
        ("return x", "return y"),
        ("def f", "async def f"),
    ],
)
def test_every_other_edit_is_a_change_of_code(edit):
    assert digest(CODE.replace(*edit)) != digest(CODE)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A copy of the code, with its lock; the functions look at it instead of this checkout."""
    shutil.copytree(
        code_version.HERE, tmp_path / "pipeline", ignore=shutil.ignore_patterns("__pycache__")
    )
    monkeypatch.setattr(code_version, "HERE", tmp_path / "pipeline")
    monkeypatch.setattr(code_version, "LOCK", tmp_path / "pipeline/code.lock")
    forget()
    yield tmp_path / "pipeline"
    forget()


def forget():
    caches = (code_version.codes, code_version.edited, code_version.edited_files)
    for function in (*caches, code_version._imports):
        function.cache_clear()


def is_edited(*roots):
    forget()
    return bool(code_version.edited(*roots))


def append(path, text):
    path.write_text(path.read_text() + text)


def test_the_lock_is_that_of_the_code():
    assert code_version.LOCK.read_text() == code_version.lock(), "run make lock"
    assert code_version.edited_files() == set()


def test_released_code_is_not_edited(checkout):
    append(checkout / "train/loop.py", "\n# a comment\n")
    assert not is_edited("pipeline.train")
    assert code_version.edited_files() == set()


def test_an_edit_counts_for_the_code_that_imports_it(checkout):
    append(checkout / "train/losses.py", "\nSCALE = 2\n")
    assert is_edited("pipeline.train")
    assert not is_edited("pipeline.extract.stage")
    assert code_version.edited_files() == {"pipeline/train/losses.py"}
    append(checkout / "images/decode.py", "\nSCALE = 2\n")
    assert is_edited("pipeline.extract.stage")
    assert not is_edited("pipeline.annotations.points")


def test_different_edits_are_different_code(checkout):
    path = checkout / "train/losses.py"
    text = path.read_text()
    found = set()
    for value in (1, 2):
        path.write_text(f"{text}\nSCALE = {value}\n")
        forget()
        found.add(code_version.edited("pipeline.train")["edited"])
    assert len(found) == 2


def test_a_new_or_deleted_analysis_is_an_edit(checkout):
    (checkout / "validate/analyses/mine.py").write_text("ORDER = 1\n")
    assert is_edited("pipeline.validate")
    assert not is_edited("pipeline.train")
    (checkout / "validate/analyses/mine.py").unlink()
    assert not is_edited("pipeline.validate")
    (checkout / "validate/analyses/cover.py").unlink()
    assert is_edited("pipeline.validate")


def test_a_template_is_code(checkout):
    page = next((checkout / "validate/report").glob("*.css"))
    append(page, "\nbody { color: red; }\n")
    assert is_edited("pipeline.validate")


def test_code_without_a_lock_is_identified_by_itself(checkout):
    code_version.LOCK.unlink()
    assert is_edited("pipeline.train")


def test_a_lock_made_again_after_a_move_makes_no_code_edited(checkout):
    (checkout / "train/losses.py").rename(checkout / "train/objectives.py")
    assert is_edited("pipeline.train")
    code_version.LOCK.write_text(code_version.lock())
    assert not is_edited("pipeline.train", "pipeline.extract.stage")


def test_imports_for_type_checkers_do_not_count(tmp_path):
    file = tmp_path / "a.py"
    file.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import b\nelse:\n    import c\n"
        "def f():\n    from d import e\n"
    )
    assert code_version.imported("a", file) == {
        "a",
        "typing",
        "typing.TYPE_CHECKING",
        "c",
        "d",
        "d.e",
    }


def test_golden_values_are_those_of_the_lock(done_repo):
    stored = json.loads(golden.VALUES.read_text())
    assert stored["versions"] == golden.versions(), "run make lock"
    assert golden.changed(stored["values"], golden.values(done_repo.path)) == []


def test_other_values_need_another_version():
    old = {"versions": {"features": [1], "classifier": [1]}, "values": {}}
    values = {name: name for name in golden.PARTS}
    versions = {name: [1] for name in golden.PARTS}
    old = {"versions": versions, "values": {**values, "classifier": "before"}}
    assert golden.unexplained(old, {"versions": versions, "values": values}) == ["classifier"]
    for raised, unexplained in (("classifier", []), ("features", []), ("results", ["classifier"])):
        new = {"versions": {**versions, raised: [2]}, "values": values}
        assert golden.unexplained(old, new) == unexplained
