"""Stage 2 of 5, images and annotations → chips and labels: run by `dvc repro`, see dvc.yaml."""

if __name__ == "__main__":
    from pipeline import tasks
    from pipeline.scheduler import run

    raise SystemExit(run.main(tasks.Chip))
