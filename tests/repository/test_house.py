"""The house: imports that cost, pages that must agree with the code, words and addresses."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from docs import generate

CODE = sorted([*(ROOT / "pipeline").rglob("*.py"), *(ROOT / "stages").glob("*.py")])


@pytest.mark.parametrize("module", ["pipeline.config.loader", "pipeline.tasks"])
def test_the_index_and_reading_params_import_nothing_heavy(module):
    """The index runs at every `dvc repro`: torch alone would cost it three seconds."""
    code = f"import sys, {module}\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


HEAVY = ["torch", "torchvision", "pandas", "sklearn", "dvc", "scipy", "skimage"]


def test_params_are_read_without_luigi_and_boto3():
    names = "('luigi', 'boto3')"
    code = f"import sys, pipeline.config.loader\nprint([m for m in {names} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("name", sorted(generate.PAGES))
def test_generated_pages_are_what_the_code_says(name):
    page = (ROOT / name).read_text(encoding="utf-8")
    assert page == generate.PAGES[name](), "run make fix"


def test_no_module_is_two_ideas_long():
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in CODE}
    assert {str(path): n for path, n in lengths.items() if n > 360} == {}


def test_a_stage_file_only_runs_its_stage():
    for name in ("index", "chip", "extract", "train", "validate"):
        assert len((ROOT / "stages" / f"{name}.py").read_text().splitlines()) <= 20


def test_requirements_are_pinned_with_digests_and_name_no_address():
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert "://" not in text
    pins = re.findall(r"^([\w.-]+)==", text, re.MULTILINE)
    assert {"dvc", "luigi", "torch", "torchvision", "pyarrow"} <= set(pins)
    assert text.count("--hash=sha256:") >= len(pins)


def readme_paths():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"`((?:pipeline|stages|tests|docs|demo)/[\w./]+)`", text)
    return sorted(set(found) | set(re.findall(r"\]\(([\w./]+)\)", text)))


@pytest.mark.parametrize("path", readme_paths())
def test_what_the_readme_names_is_there(path):
    assert (ROOT / path).exists()


def test_the_readme_shows_every_make_target_it_speaks_of():
    text = (ROOT / "README.md").read_text() + (ROOT / "CONTRIBUTING.md").read_text()
    targets = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z]+)", text)) - {"up"} <= targets
    assert {"setup", "demo", "test", "check", "bench", "trace", "slow", "fix"} <= targets


def test_every_reason_of_a_reject_is_raised_somewhere():
    from pipeline.core.rejects import REASONS

    text = "".join(path.read_text(encoding="utf-8") for path in CODE if path.name != "rejects.py")
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(ROOT / "tests").rglob("*.py"))
    for reason in REASONS:
        assert f'"{reason}"' in text, reason
        assert f'"{reason}"' in tests or f"_{reason}" in tests or reason in tests, reason
