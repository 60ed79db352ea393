"""Stage 3 of 5, chips and the bucket → features: run by `dvc repro`, see dvc.yaml."""

if __name__ == "__main__":
    from pipeline import tasks
    from pipeline.scheduler import run

    raise SystemExit(run.main(tasks.Extract))
