"""Stage 5 of 5, classifier, features and labels → results: run by `dvc repro`, see dvc.yaml."""

if __name__ == "__main__":
    from pipeline import tasks
    from pipeline.scheduler import run

    raise SystemExit(run.main(tasks.Validate))
