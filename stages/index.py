"""Stage 1 of 5, bucket → images: run by `dvc repro`, see dvc.yaml."""

from pipeline import run, tasks

if __name__ == "__main__":
    raise SystemExit(run.stage(tasks.Index))
