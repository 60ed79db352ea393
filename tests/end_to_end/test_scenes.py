"""Scenes with holes: what of each chip shows something, and which chips are left out for it."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import Bucket, new_repo
from PIL import Image
from stage_counts import stage_counts

SIDE, SIZE = 80, 32
SCENES = 6


def scene(seed):
    """A picture whose lower left corner, along a slope, is no-data; and which pixels are not."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(1, 256, (SIDE, SIDE, 3), np.uint8)
    pixels[rng.random((SIDE, SIDE)) < 0.1, 0] = 0  # black in one band is no no-data
    rows, cols = np.mgrid[:SIDE, :SIDE]
    hole = rows - cols > 40 - 10 * seed
    pixels[hole] = 0
    return pixels, ~hole


class Scenes:
    """A clone whose bucket holds scenes, cut into grids."""

    def __init__(self, folder):
        bucket = Bucket(folder / "bucket")
        self.valid = {}
        for seed in range(SCENES):
            pixels, valid = scene(seed)
            key = f"{'ab'[seed % 2]}/{seed}.png"
            (bucket.folder / key).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(bucket.folder / key)
            self.valid[key] = valid
        self.repo = new_repo(folder / "repo", bucket)
        self.repo.set(split__validation=0, split__calibration=0)  # six groups, and no training
        self.repo.set(
            annotations__format="folders",
            annotations__path=None,
            chip__method="grid",
            chip__size=SIZE,
            chip__nodata=0,
            shards__count=2,
        )

    def run(self, *stages, **env):
        """Run *stages*; give each one's counts, and all that was logged."""
        done = [self.repo.run("python", "-m", f"stages.{stage}", **env) for stage in stages]
        printed = "".join(one.stderr for one in done)
        return {row["stage"]: row for row in stage_counts(printed)}, printed

    def chips(self):
        folder = self.repo.path / "data" / "chips"
        return pd.concat(pd.read_parquet(path) for path in sorted(folder.glob("[0-9]*.parquet")))

    def rejects(self):
        return pd.read_parquet(self.repo.path / "data/rejects/chip.parquet")

    def share(self, row):
        """The share of valid pixels of a chip, from the mask that the scene was made with."""
        window = np.s_[row.top : row.top + row.height, row.left : row.left + row.width]
        return self.valid[row.key][window].mean()


@pytest.fixture
def scenes(tmp_path):
    return Scenes(tmp_path)


@pytest.mark.slow
def test_chips_carry_the_share_of_valid_pixels_and_those_with_less_are_left_out(scenes):
    counts, said = scenes.run("index", "chip")
    chips = scenes.chips()
    shares = [scenes.share(row) for row in chips.itertuples()]
    assert len(chips) == 9 * SCENES == counts["chip"]["computed"]
    assert chips["valid_share"].tolist() == shares
    none, every = shares.count(1), shares.count(0)
    partial = len(shares) - none - every
    assert min(none, partial, every) > 0
    sentence = f"{none} chips without no-data, {partial} with some, {every} all of it"
    assert f"{sentence}; chip.max_nodata drops 0" in said
    manifest = json.loads((scenes.repo.path / "data/manifests/chips.json").read_bytes())
    told = {"none": none, "partial": partial, "all": every, "dropped": 0}
    assert manifest["nodata"] == told
    features, _ = scenes.run("extract")
    assert features["extract"]["rows"] == len(chips)

    # Another limit reads no image: there is none to be read.
    scenes.repo.bucket.folder.rename(scenes.repo.bucket.folder.with_name("away"))
    scenes.repo.set(chip__max_nodata=0.25)
    counts, _ = scenes.run("chip")
    left = scenes.chips()
    wanted = [share >= 0.75 for share in shares]
    assert left["chip_id"].tolist() == chips["chip_id"][wanted].tolist()
    dropped = len(shares) - len(left)
    assert (counts["chip"]["computed"], counts["chip"]["rejected"]) == (0, dropped)
    assert scenes.rejects()["reason"].tolist() == ["no_data"] * dropped
    first = chips[[share < 0.75 for share in shares]].iloc[0]
    detail = scenes.rejects()["detail"][0]
    window = f"{first.top}, {first.left}, 32 × 32"
    none = f"{1 - scenes.share(first):.4g}"
    assert detail == f"{none} of window {window} is no-data, over chip.max_nodata 0.25"
    labels = pd.read_parquet(scenes.repo.path / "data/labels/labels.parquet")
    assert set(labels["chip_id"]) == set(left["chip_id"])
    features, _ = scenes.run("extract")
    assert (features["extract"]["rows"], features["extract"]["computed"]) == (len(left), 0)


@pytest.mark.slow
def test_only_new_scenes_are_measured(scenes):
    scenes.repo.set(chip__max_nodata=0.5, chip__max_rejects=0.5)
    scenes.run("index", "chip")
    pixels, scenes.valid["a/new.png"] = scene(3)
    Image.fromarray(pixels).save(scenes.repo.bucket.folder / "a/new.png")
    damaged = (scenes.repo.bucket.folder / "a/new.png").read_bytes()[:-3000]
    (scenes.repo.bucket.folder / "a/cut.png").write_bytes(damaged)
    counts, _ = scenes.run("index", "chip", QUADRAT_ISOLATE_DECODING="true")
    chips = scenes.chips()
    assert chips["valid_share"].tolist() == [scenes.share(row) for row in chips.itertuples()]
    assert (chips["valid_share"] >= 0.5).all()
    new = chips[chips["key"] == "a/new.png"]
    assert len(new) <= counts["chip"]["computed"] <= 9
    refused = scenes.rejects().query("reason != 'no_data'")
    assert refused[["key", "reason"]].to_numpy().tolist() == [["a/cut.png", "truncated"]]


@pytest.mark.slow
def test_masks_say_where_there_is_data_and_a_changed_one_costs_its_scene(scenes):
    bucket = scenes.repo.bucket.folder
    for key in scenes.valid:
        scenes.valid[key] = np.random.default_rng(len(key)).random((SIDE, SIDE)) < 0.9
        mask = bucket / key.replace("/", "/masks/")
        mask.parent.mkdir(exist_ok=True)
        Image.fromarray(scenes.valid[key].astype(np.uint8) * 7).save(mask)
    scenes.repo.set(chip__nodata="{folder}/masks/{stem}.png", chip__max_rejects=0.5)
    counts, _ = scenes.run("index", "chip")
    assert counts["index"]["rows"] == SCENES
    chips = scenes.chips()
    assert len(chips) == 9 * SCENES
    assert chips["valid_share"].tolist() == [scenes.share(row) for row in chips.itertuples()]

    scenes.valid["a/0.png"][:40] = False
    Image.fromarray(scenes.valid["a/0.png"]).save(bucket / "a/masks/0.png")
    Image.new("L", (3, 3)).save(bucket / "a/masks/2.png")
    (bucket / "b/masks/1.png").unlink()
    counts, _ = scenes.run("index", "chip")
    chips = scenes.chips()
    assert chips["valid_share"].tolist() == [scenes.share(row) for row in chips.itertuples()]
    assert counts["chip"]["computed"] == 9
    assert scenes.rejects()[["key", "detail"]].to_numpy().tolist() == [
        ["a/2.png", "a/2.png: its mask a/masks/2.png is 3 × 3, and the image 80 × 80"],
        ["b/1.png", "b/1.png: there is no mask b/masks/1.png"],
    ]
    counts, _ = scenes.run("index", "chip")
    assert counts["chip"]["computed"] == 0


@pytest.mark.slow
def test_nothing_but_no_data_stops_with_what_to_do(scenes):
    scenes.repo.set(chip__nodata="alpha", chip__max_nodata=0.0)
    scenes.run("index", "chip")
    assert (scenes.chips()["valid_share"] == 1).all()  # nothing is transparent
    for path in scenes.repo.bucket.folder.rglob("*.png"):
        Image.new("RGBA", (SIDE, SIDE), (9, 9, 9, 0)).save(path)
    scenes.run("index")
    done = scenes.repo.run("python", "-m", "stages.chip", check=False)
    assert done.returncode
    message = (
        f"chip.max_nodata: none of {9 * SCENES} chips has as little no-data as 0; set it higher"
    )
    assert message in done.stderr


@pytest.mark.slow
def test_without_dvc_another_limit_leaves_other_chips(scenes):
    chain = ("luigi", "--module", "pipeline.tasks", "Chip", "--local-scheduler")
    scenes.repo.run(*chain)
    every = len(scenes.chips())
    scenes.repo.set(chip__max_nodata=0.25)
    scenes.repo.run(*chain)
    assert len(scenes.chips()) < every


@pytest.mark.slow
def test_exported_chips_are_named_by_what_the_scenes_own_names_carry(scenes):
    scenes.repo.set(index__pattern="{letter}/{quadkey}.png", chip__max_nodata=0.5)
    scenes.run("index", "chip")
    name = "{quadkey}_{row}_{col}"
    scenes.repo.run("python", "-m", "stages.export", "out", "--name", name)
    rows = scenes.chips()[["key", "row", "col"]].itertuples(index=False)
    names = {f"{key[2:-4]}_{row}_{col}.png" for key, row, col in rows}
    assert {path.name for path in (scenes.repo.path / "out").rglob("*.png")} == names
