"""Stage 3 of 5, chips and the bucket → features: run by `dvc repro`, see dvc.yaml."""

from pipeline import run, tasks

if __name__ == "__main__":
    raise SystemExit(run.stage(tasks.Extract))
