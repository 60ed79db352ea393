"""Run the pipeline on the sample bucket and say where the results lie."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from pipeline.core import signals

PLACES = {
    "report": Path("results/report.html"),
    "metrics": Path("results/all_metrics.json"),
    "features": Path("data/features"),
}

LOCK = Path("dvc.lock")
NAMES = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "ece")


def reproduce() -> bool:
    """Run `dvc repro`; say whether anything changed."""
    if not Path(".dvc").is_dir():
        subprocess.run(["dvc", "init", "--quiet"], check=True)
    before = LOCK.read_bytes() if LOCK.exists() else b""
    done = subprocess.run(["dvc", "repro"], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    return LOCK.read_bytes() != before


def main() -> None:
    """Reproduce, then print headline figures and places."""
    began = time.monotonic()
    changed = reproduce()
    took_s = time.monotonic() - began
    print("\nall five stages are done" if changed else "\nnothing changed", f"({took_s:.0f} s)\n")
    found = json.loads(PLACES["metrics"].read_text(encoding="utf-8"))
    for name in NAMES:
        between = f"{found[f'{name}_low']:.3f} to {found[f'{name}_high']:.3f}"
        print(f"  {name:<18} {found[name]:.3f}   95 % interval {between}")
    print(f"  {'baseline_accuracy':<18} {found['baseline_accuracy']:.3f}   always the commonest")
    chips, groups = found["n_validation"], found["n_groups"]
    print(f"\n  evaluated on {chips:,} chips of {groups:,} groups that were not trained on\n")
    for name, path in PLACES.items():
        print(f"  {name:<9} {path}")


if __name__ == "__main__":
    signals.stop_on_signals()
    sys.exit(main())
