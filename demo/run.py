"""Run the pipeline on the sample bucket, and print headline scores and where the results are."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

from pipeline.core import signals

RESULTS = {
    "report": Path("results/report.html"),
    "metrics": Path("results/all_metrics.json"),
    "features": Path("data/features"),
}

LOCK = Path("dvc.lock")
METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "ece")


def reproduce() -> bool:
    """Run `dvc repro`, and return True if anything changed."""
    if not Path(".dvc").is_dir():
        subprocess.run(["dvc", "init", "--quiet"], check=True)
    before = LOCK.read_bytes() if LOCK.exists() else b""
    done = subprocess.run(["dvc", "repro"], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    return LOCK.read_bytes() != before


def main() -> None:
    """Run the pipeline, then print headline scores and where the results are."""
    began = time.monotonic()
    changed = reproduce()
    took_s = time.monotonic() - began
    print("\nall five stages are done" if changed else "\nnothing changed", f"({took_s:.0f} s)\n")
    metrics = json.loads(RESULTS["metrics"].read_text(encoding="utf-8"))
    for name in METRICS:
        between = f"{metrics[f'{name}_low']:.3f} to {metrics[f'{name}_high']:.3f}"
        print(f"  {name:<18} {metrics[name]:.3f}   95 % interval {between}")
    baseline = metrics["baseline_accuracy"]
    print(f"  {'baseline_accuracy':<18} {baseline:.3f}   always the commonest label")
    chips, groups = metrics["n_validation"], metrics["n_groups"]
    print(f"\n  evaluated on {chips:,} chips of {groups:,} groups that were not trained on\n")
    for name, path in RESULTS.items():
        print(f"  {name:<9} {path}")


if __name__ == "__main__":
    signals.stop_on_signals()
    main()
