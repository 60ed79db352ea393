"""Damaged images: whatever the bytes, pixels or a reject, in little time and little memory."""

import json
import subprocess
import sys
from itertools import product

import pytest
from conftest import ROOT, environment


def fuzz(tmp_path, first, cases, *folder):
    """Read damaged images in a process of their own; return the counts of pixels and rejects."""
    last = tmp_path / "last"
    program = ROOT / "tests/support/fuzz.py"
    command = [sys.executable, program, str(first), str(cases), last, *folder]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    message = f"ended with {done.returncode} at case {last.read_text()}: {done.stderr[-2000:]}"
    assert done.returncode == 0, message
    results = json.loads(done.stdout)
    assert sum(results["outcomes"].values()) == cases
    assert results["outcomes"]["truncated"] > cases / 10
    assert results["slowest"][0] < 20, results
    assert results["peak_kb"] < 300_000, results
    return results["outcomes"]


def test_five_hundred_damaged_images(tmp_path):
    assert fuzz(tmp_path, 0, 500)["pixels"] > 50


@pytest.mark.slow
@pytest.mark.parametrize("first", [100_000, 200_000])
def test_forty_thousand_damaged_images(tmp_path, first):
    assert fuzz(tmp_path, first, 40_000)["pixels"] > 4_000


@pytest.mark.parametrize("case", [120_106, 126_306])
def test_cases_that_failed_once(tmp_path, case):
    """A tile of 1.5 GB in an image of 21 × 13 pixels; a width that is a fraction."""
    assert fuzz(tmp_path, case - 50, 100)["pixels"] > 10


@pytest.mark.parametrize("cases", [500, pytest.param(20_000, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_damaged_scenes(tmp_path, cases):
    geotiffs = pytest.importorskip("geotiffs")
    folder = tmp_path / "scenes"
    folder.mkdir()
    for (name, options), dtype, bands in product(
        geotiffs.LAYOUTS.items(), ("uint8", "uint16", "float32"), (2, 4, 13)
    ):
        floating = {"predictor": 3} if dtype == "float32" and "predictor" in options else {}
        data = geotiffs.geotiff(geotiffs.scene(dtype, bands), **{**options, **floating})
        (folder / f"{name} {dtype} {bands}.tif").write_bytes(data)
    assert fuzz(tmp_path, 0, cases, folder)["pixels"] > cases / 20
