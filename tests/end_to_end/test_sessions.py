"""Sessions of an imaging instrument, from the bucket to chips, labels, measurements, features."""

from __future__ import annotations

import csv
import re
import shutil

import pandas as pd
import pytest
import sessions
from conftest import Bucket, new_repo
from stage_counts import stage_counts

NAMES = ("Lake_Tank10_54.0143_-2.7770_04052023_1", "Lake_Tank11_-54.5_2.25_05052023")


class Lake:
    """A clone whose bucket holds two sessions; whoever's number is even is called long."""

    def __init__(self, folder, particles=30):
        self.sessions = [
            sessions.make(folder / "bucket" / "2023" / name, particles, seed=number, side=96)
            for number, name in enumerate(NAMES)
        ]
        self.repo = new_repo(folder / "repo", Bucket(folder / "bucket"))
        with (self.repo.path / "params.yaml").open(encoding="utf-8") as stream:
            lines = [line for line in stream if not line.startswith("  size:")]
        (self.repo.path / "params.yaml").write_text("".join(lines), encoding="utf-8")
        self.repo.set(
            chip__method="flowcam",
            annotations__format="images",
            split__by="image",
            split__validation=0.4,
        )
        rows = [
            (f"2023/{name}/{n}", ["round", "long"][n % 2 == 0])
            for name in NAMES
            for n in range(1, particles + 1)
        ]
        with (self.repo.path / "points.csv").open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows([("image", "label"), *rows])

    def run(self, *stages):
        """Run *stages*; give each one's counts; *told* is what was logged."""
        done = [self.repo.run("python", "-m", f"stages.{stage}") for stage in stages]
        self.told = "".join(one.stderr for one in done)
        return {row["stage"]: row for row in stage_counts(self.told)}

    def table(self, name):
        return pd.read_parquet(self.repo.path / "data" / name)


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path)


@pytest.mark.slow
def test_chips_labels_and_measurements_of_sessions_join(lake):
    table = lake.sessions[0].table
    table.write_text(table.read_text(encoding="ascii") + "61|torn\n", encoding="ascii")
    done = lake.run("index", "chip")
    assert (done["chip"]["rows"], done["chip"]["rejected"]) == (60, 1)
    assert "have no annotation" not in lake.told, "of every collage particles are labelled"
    chips = pd.concat(map(pd.read_parquet, sorted(lake.repo.path.glob("data/chips/0*.parquet"))))
    joined = chips.merge(lake.table("labels/labels.parquet"), on=["chip_id", "key", "row", "col"])
    joined = joined.merge(lake.table("labels/measurements"), on=["chip_id", "key", "row", "col"])
    assert len(joined) == 60
    assert (joined["label"] == joined["id"].map(lambda n: ("round", "long")[n % 2 == 0])).all()
    for session, (name, latitude) in zip(
        lake.sessions, zip(NAMES, (54.0143, -54.5), strict=True), strict=True
    ):
        own = joined[joined["session"] == name].set_index("id").sort_index()
        assert set(own["latitude"]) == {latitude}
        assert own["height"].tolist() == [row["image_h"] for row in session.rows]
        assert own["abd_area"].tolist() == [row["abd_area"] for row in session.rows]


@pytest.mark.slow
def test_a_changed_session_costs_itself_and_the_bytes_are_those_of_an_empty_store(lake):
    lake.repo.set(extract__resize="pad", extract__pad_extent=50)
    sides = [max(row["image_h"], row["image_w"]) for one in lake.sessions for row in one.rows]
    larger = sum(side > 50 for side in sides)
    assert (
        f"extract: {larger} of 60 chips are larger than extract.pad_extent 50 and were shrunk to "
        f"it; {max(sides)} would keep all at one scale"
    ) in lake.repo.said("dvc", "repro")
    folder = lake.repo.path / "data/labels/measurements"
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    changed = lake.sessions[1]
    changed.rows[4]["image_w"] -= 2
    changed.rows[7]["abd_area"] = -1.5
    changed.write()
    done = lake.run("index", "chip", "extract")
    assert done["index"]["computed"] == 0
    assert done["chip"]["computed"] == 1
    assert done["extract"]["computed"] == 1
    second = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert [name for name in first if first[name] == second[name]] == [
        name for name in first if name.startswith(NAMES[0])
    ]
    lake.repo.run("dvc", "repro")
    grown = lake.repo.digests()
    for name in (".quadrat", "data", "models", "results"):
        shutil.rmtree(lake.repo.path / name)
    lake.repo.run("dvc", "repro", "--no-run-cache", "--force")
    assert lake.repo.digests() == grown
    said = lake.repo.said("python", "-m", "stages.store", "--unneeded", "--grace", "0")
    assert re.search(r"^tables +[0-9a-f]{12} +2 +[\d.]+ k?B +0 B ", said, re.MULTILINE), said
