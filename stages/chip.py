"""Stage 2 of 5, images and annotations → chips and labels: run by `dvc repro`, see dvc.yaml."""

from pipeline import run, tasks

if __name__ == "__main__":
    raise SystemExit(run.stage(tasks.Chip))
