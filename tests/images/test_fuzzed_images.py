"""Damaged images: whatever the bytes, pixels or a reject, in little time and little memory."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT, environment


def fuzz(tmp_path, first, cases):
    """Read damaged images in a process of their own; give what it says of them."""
    last = tmp_path / "last"
    command = [
        sys.executable,
        str(ROOT / "tests/support/fuzz.py"),
        str(first),
        str(cases),
        str(last),
    ]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    told = f"ended with {done.returncode} at case {last.read_text()}: {done.stderr[-2000:]}"
    assert done.returncode == 0, told
    found = json.loads(done.stdout)
    assert sum(found["found"].values()) == cases
    assert found["found"]["pixels"] > cases / 10
    assert found["found"]["truncated"] > cases / 10
    assert found["slowest"][0] < 20, found
    assert found["peak_kb"] < 300_000, found
    return found


def test_five_hundred_damaged_images(tmp_path):
    fuzz(tmp_path, 0, 500)


@pytest.mark.slow
@pytest.mark.parametrize("first", [100_000, 200_000])
def test_forty_thousand_damaged_images(tmp_path, first):
    fuzz(tmp_path, first, 40_000)


@pytest.mark.parametrize("case", [120_106, 126_306])
def test_cases_that_were_found(tmp_path, case):
    """A tile of 1.5 GB in an image of 21 × 13 pixels; a width that is a fraction."""
    fuzz(tmp_path, case - 50, 100)
