"""Stage 4 of 5, features and labels → classifier: run by `dvc repro`, see dvc.yaml."""

if __name__ == "__main__":
    from pipeline import tasks
    from pipeline.scheduler import run

    raise SystemExit(run.main(tasks.Train))
