"""Stage 2 of 5, images and annotations → chips and labels: run by `dvc repro`, see dvc.yaml."""

from pipeline import tasks

if __name__ == "__main__":
    raise SystemExit(tasks.run(tasks.Chip))
