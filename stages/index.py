"""Stage 1 of 5, bucket → images: run by `dvc repro`, see dvc.yaml."""

if __name__ == "__main__":
    from pipeline.index import fast_path

    if fast_path.report():
        raise SystemExit(0)
    from pipeline import tasks
    from pipeline.scheduler import run

    raise SystemExit(run.main(tasks.Index))
