"""Benchmarks that need nothing but this repository: each still runs, on little."""

import subprocess
import sys

import pytest
from conftest import ROOT, environment


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("annotations_in_memory.py --points 1000", "chip: 1,000 chips, 1,000 computed"),
        ("damaged_images.py --repeats 2 --width 400", "with checksums"),
        ("coverage.py --samples 20 --groups 8", "tests of equal classifiers with p < 0.05"),
        ("calibration_error.py --repeats 1 --rounds 20", "on average"),
        ("near_duplicates.py --training 2000 --validation 500 --dim 16", "500 chips against 2,000"),
        ("plan_at_scale.py --chips 20000 --shards 64", "chips: 20,000 rows"),
        ("results.py --chips 500 --classes 5 --groups 20 --rounds 20", "of a minute"),
        ("training.py --labels 2000 --dim 32 --only-ours", "2,000 labels"),
    ],
    ids=lambda text: text.partition(".py")[0],
)
def test_a_benchmark_still_runs(command, says):
    name, *arguments = command.split()
    run = [sys.executable, str(ROOT / "benchmarks" / name), *arguments]
    done = subprocess.run(run, env=environment(), capture_output=True, text=True, check=False)
    assert says in done.stdout, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
