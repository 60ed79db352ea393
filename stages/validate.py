"""Stage 5 of 5, classifier, features and labels → results: run by `dvc repro`, see dvc.yaml."""

from pipeline import run, tasks

if __name__ == "__main__":
    raise SystemExit(run.stage(tasks.Validate))
