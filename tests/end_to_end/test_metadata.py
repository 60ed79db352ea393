"""What keys and EXIF say of images: columns of the index, groups, and tables of the results."""

import shutil

import pandas as pd
import pytest
from PIL import Image
from stage_counts import stage_counts

UNDIVIDED = {"split__validation": 0, "split__calibration": 0}
"""Few groups, and no training."""


def stages(repo, *names):
    """Run *names*; give each one's counts, and what was logged."""
    done = [repo.run("python", "-m", f"stages.{name}") for name in names]
    printed = "".join(one.stderr for one in done)
    return {row["stage"]: row for row in stage_counts(printed)}, printed


@pytest.mark.slow
def test_a_pattern_gives_columns_and_groups(repo):
    shutil.copy(repo.bucket.folder / "noise" / "000.png", repo.bucket.folder / "stray.png")
    repo.set(index__pattern="{kind}/{n}.png", split__by="n", **UNDIVIDED)
    _, said = stages(repo, "index", "chip")
    assert "1 file without the form of index.pattern, such as stray.png: their kind, n are" in said
    assert "split.by: the n of 1 of 25 images is not known; each is a group by itself" in said
    images = pd.read_parquet(repo.path / "data/index/images.parquet").set_index("key")
    assert images.loc["plain/003.png", ["kind", "n"]].tolist() == ["plain", "003"]
    assert images.loc["stray.png", ["kind", "n"]].isna().all()
    assert "kind 'plain'  n '003'" in repo.said("python", "-m", "stages.trace", "plain/003.png")
    labels = pd.read_parquet(repo.path / "data/labels/labels.parquet")
    assert (labels["group"] == labels["key"].str[-7:-4]).all()
    assert labels.groupby("group")["split"].nunique().eq(1).all()


@pytest.mark.slow
def test_another_pattern_reads_no_image(repo):
    repo.set(index__pattern="{kind}/{n}.png", split__by="n", **UNDIVIDED)
    stages(repo, "index", "chip")
    repo.set(index__pattern="{n}/{kind}.png")
    counts, _ = stages(repo, "index", "chip")
    assert (counts["index"]["computed"], counts["chip"]["computed"]) == (0, 0)
    labels = pd.read_parquet(repo.path / "data/labels/labels.parquet")
    assert set(labels["group"]) == {"noise", "plain", "stripes"}


def test_a_pattern_like_no_key_stops_before_any_work(repo):
    repo.set(index__pattern="{site}/{year}/{n}.png")
    done = repo.run("python", "-m", "stages.index", check=False)
    assert done.returncode
    message = "no key has the form '{site}/{year}/{n}.png'; the first key is 'noise/000.png'"
    assert message in done.stderr
    assert not (repo.path / "data/manifests/index.json").exists()


@pytest.mark.slow
def test_points_on_images_as_they_are_displayed(repo):
    path = repo.bucket.folder / "noise" / "000.png"
    image = Image.open(path)
    image.getexif()[0x0112] = 6  # turned clockwise
    image.save(path, exif=image.getexif())
    _, said = stages(repo, "index", "chip")
    assert (
        "chip: 1 image with annotations has an EXIF orientation, such as noise/000.png; rows and "
        "columns are read as those of the stored image, as in points; annotations.frame says which"
    ) in said
    stored = pd.read_parquet(repo.path / "data/labels/labels.parquet")
    repo.set(annotations__frame="displayed")
    _, said = stages(repo, "index", "chip")
    assert "rows and columns are read as those of the displayed image" in said
    shown = pd.read_parquet(repo.path / "data/labels/labels.parquet")
    is_turned = stored["key"] == "noise/000.png"
    points = {(row.row, row.col) for row in stored[is_turned].itertuples()}
    turned = {(row.row, row.col) for row in shown[shown["key"] == "noise/000.png"].itertuples()}
    assert turned == {(image.height - 1 - col, row) for row, col in points} != points
    others = shown[shown["key"] != "noise/000.png"].reset_index(drop=True)
    assert others.equals(stored[~is_turned].reset_index(drop=True))


@pytest.mark.slow
def test_accuracy_by_day_and_field_is_in_the_tables_and_the_report(repo):
    for path in repo.bucket.folder.rglob("*.png"):
        image = Image.open(path)
        exif = image.getexif()
        exif[0x0132] = f"2024:05:0{1 + int(path.stem) % 2} 12:00:00"
        image.save(path, exif=exif)
    repo.set(index__pattern="{kind}/{n}.png", validate__by=["kind", "day"], split__validation=0.5)
    repo.said("dvc", "repro")
    predictions = pd.read_parquet(repo.path / "results/predictions.parquet")
    right = predictions["label"] == predictions["predicted"]
    known = {
        "kind": predictions["key"].str.split("/").str[0],
        "day": "2024-05-0" + (1 + predictions["key"].str[-7:-4].astype(int) % 2).astype(str),
    }
    report = (repo.path / "results/report.html").read_text(encoding="utf-8")
    for name, values in known.items():
        table = pd.read_csv(repo.path / f"results/tables/by_{name}.csv").set_index("value")
        assert table["n"].to_dict() == values.value_counts().to_dict()
        assert table["accuracy"].to_dict() == pytest.approx(right.groupby(values).mean().to_dict())
        assert f"By {name}, worst first" in report
    repo.set(validate__by=[])
    repo.said("dvc", "repro")
    assert not list((repo.path / "results/tables").glob("by_*"))


@pytest.mark.slow
def test_without_dvc_another_pattern_is_another_index_and_other_labels(repo):
    chain = ("luigi", "--module", "pipeline.tasks", "Chip", "--local-scheduler")
    groups = []
    for pattern in ("{kind}/{n}.png", "{n}/{kind}.png"):
        repo.set(index__pattern=pattern, split__by="n", **UNDIVIDED)
        repo.run("python", "-m", "stages.index")  # as in a run that was cut off behind it
        repo.run(*chain)
        labels = pd.read_parquet(repo.path / "data/labels/labels.parquet")
        groups.append(set(labels["group"]))
    assert groups == [{f"{n:03d}" for n in range(8)}, {"noise", "plain", "stripes"}]
