"""Stage 1 of 5, bucket → images: run by `dvc repro`, see dvc.yaml."""

from pipeline import tasks

if __name__ == "__main__":
    raise SystemExit(tasks.run(tasks.Index))
