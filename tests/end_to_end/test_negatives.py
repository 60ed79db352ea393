"""Background chips: windows that nobody has annotated, some of which are trained on."""

import json

import pandas as pd
import pytest
from stage_counts import stage_counts


def run(repo, *stages, **env):
    done = [repo.run("python", "-m", f"stages.{stage}", **env) for stage in stages]
    printed = "".join(one.stderr for one in done)
    return {row["stage"]: row for row in stage_counts(printed)}, printed


def labels(repo):
    return pd.read_parquet(repo.path / "data/labels/labels.parquet")


@pytest.mark.slow
def test_background_is_chosen_among_free_windows_and_another_ratio_cuts_none(repo):
    repo.bucket.points = [row for row in repo.bucket.points if row["image"] != "plain/000.png"]
    repo.points()
    repo.set(chip__size=16, chip__background=2, annotations__background=0.25)
    counts, said = run(repo, "index", "chip", PYTHONHASHSEED="1")
    found = labels(repo)
    known = len(repo.bucket.points)
    chosen = found[found["label"] == "background"]
    assert len(chosen) == known // 4
    assert found["label"].notna().sum() == known + len(chosen)
    assert set(chosen["key"].str.split("/").str[0]) == {"noise", "plain", "stripes"}
    free = counts["chip"]["rows"] - known
    assert f"{len(chosen)} of {free} unlabelled chips are labelled background" in said
    manifest = json.loads((repo.path / "data/manifests/labels.json").read_bytes())
    told = {"label": "background", "candidates": free, "chosen": len(chosen)}
    assert manifest["background"] == told
    assert found.groupby("key")["split"].nunique().eq(1).all()

    repo.set(annotations__background=0.5)
    counts, _ = run(repo, "index", "chip", PYTHONHASHSEED="2")
    more = labels(repo)
    assert counts["chip"]["computed"] == 0
    assert set(chosen["chip_id"]) < set(more["chip_id"][more["label"] == "background"])
