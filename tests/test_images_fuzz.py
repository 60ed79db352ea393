"""Damaged images: whatever the bytes, pixels or a reject, in little time and little memory."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT, environment


def fuzz(tmp_path, first, cases):
    """Read damaged images in a process of their own; give what it says of them."""
    last = tmp_path / "last"
    command = [sys.executable, str(ROOT / "tests/fuzz.py"), str(first), str(cases), str(last)]
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
@pytest.mark.parametrize("first", [100_000, 200_000, 300_000, 400_000])
def test_forty_thousand_damaged_images(tmp_path, first):
    fuzz(tmp_path, first, 40_000)


def test_the_case_of_a_tile_much_larger_than_its_image(tmp_path):
    """It is 21 × 13 pixels, and libtiff would make a tile of 1.5 GB."""
    fuzz(tmp_path, 120_106 - 100, 200)
