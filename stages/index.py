"""Stage 1 of 5, bucket → images: run by `dvc repro`, see dvc.yaml."""

if __name__ == "__main__":
    from pipeline import unchanged

    if unchanged.report():
        raise SystemExit(0)
    from pipeline import run, tasks

    raise SystemExit(run.stage(tasks.Index))
