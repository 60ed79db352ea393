"""Stage 4 of 5, features and labels → classifier: run by `dvc repro`, see dvc.yaml."""

from pipeline import run, tasks

if __name__ == "__main__":
    raise SystemExit(run.stage(tasks.Train))
