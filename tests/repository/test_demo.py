"""The sample bucket: real photographs, points inside their outlines, splits that do not leak."""

import csv
import itertools
from collections import defaultdict

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from demo import make_bucket, picture, sample_points
from pipeline.config.loader import load
from pipeline.core.hashing import split_of

CHIP = load(ROOT / "params.yaml").chip.size


@pytest.fixture(scope="module")
def points():
    with sample_points.POINTS.open(encoding="utf-8", newline="") as stream:
        return [
            {**row, "row": int(row["row"]), "column": int(row["column"])}
            for row in csv.DictReader(stream)
        ]


def test_the_points_are_sampled_from_the_outlines():
    assert sample_points.POINTS.read_bytes() == sample_points.table()


def test_there_are_enough_points_classes_and_shared_classes(points):
    photographs = defaultdict(set)
    for point in points:
        photographs[point["label"]].add(point["image"])
    assert len(points) >= 1500
    assert len(photographs) >= 8
    assert sum(len(found) > 1 for found in photographs.values()) >= 2


def inside(row, col, corners):
    """Ray casting: independent of the drawing that the points were sampled from."""
    crossed = False
    for (r1, c1), (r2, c2) in zip(corners, [*corners[1:], corners[0]], strict=True):
        if (r1 > row) != (r2 > row) and col < (c2 - c1) * (row - r1) / (r2 - r1) + c1:
            crossed = not crossed
    return crossed


def test_every_point_is_in_an_outline_of_its_label(points):
    outlines = sample_points.outlines()
    for point in points:
        row, col = point["row"], point["column"]
        near = [(row + r, col + c) for r in (-1, 0, 1) for c in (-1, 0, 1)]
        assert any(
            inside(*place, corners)
            for label, corners in outlines[point["image"]]
            if label == point["label"]
            for place in near
        ), point


def test_chips_of_two_groups_share_no_pixel(points):
    """The windows that the pipeline will cut, painted one group after the other."""
    owners: dict[str, np.ndarray] = {}
    names = {group: number for number, group in enumerate(sorted({p["group"] for p in points}), 1)}
    for point in points:
        key = point["image"]
        if key not in owners:
            with Image.open(make_bucket.original(key)) as photograph:
                owners[key] = np.zeros(photograph.size[::-1], np.int32)
        top, left = max(point["row"] - CHIP // 2, 0), max(point["column"] - CHIP // 2, 0)
        window = owners[key][top : point["row"] + CHIP // 2, left : point["column"] + CHIP // 2]
        group = names[point["group"]]
        assert np.isin(window, [0, group]).all(), point
        window[:] = group


def test_a_class_of_one_photograph_is_split_by_block_and_the_others_by_photograph(points):
    groups, labels = defaultdict(set), defaultdict(set)
    for point in points:
        groups[point["image"]].add(point["group"])
        labels[point["label"]].add(point["image"])
    for image, found in groups.items():
        alone = any(photographs == {image} for photographs in labels.values())
        assert (found == {image}) != alone, image
        assert len(found) > 1 or not alone, image


def test_every_class_is_trained_on_and_nearly_all_are_evaluated(points):
    splits = defaultdict(set)
    for point in points:
        split = split_of(point["group"], validation=0.2, calibration=0.15)
        splits[point["label"]].add(split)
    assert all("train" in found for found in splits.values())
    assert sum("validation" in found for found in splits.values()) >= len(splits) - 1


def test_the_bucket_is_filled_once_and_then_left_alone(tmp_path):
    assert make_bucket.fill(tmp_path) == len(make_bucket.photographs())
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    (tmp_path / "mine.png").write_bytes(b"x")
    assert make_bucket.fill(tmp_path) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (tmp_path / "mine.png").exists()
    harmed = next(iter(before))
    harmed.write_bytes(b"other")
    assert make_bucket.fill(tmp_path) == 1
    assert harmed.read_bytes() != b"other"


def test_a_photograph_that_a_wheel_lacks_is_an_error():
    with pytest.raises(
        SystemExit, match=r"no\.png: not in this version of skimage; run 'make setup'"
    ):
        make_bucket.original("skimage/no.png")


def test_the_picture_shows_every_photograph_and_colours_every_class():
    assert len(set(picture.COLOURS)) >= len(sample_points.photographs_of())
    sheet = picture.sheet()
    assert sheet.width == picture.WIDTH * picture.ACROSS
    pixels = np.asarray(sheet.resize((200, 200)))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 1000


def test_points_of_one_class_are_not_on_top_of_each_other(points):
    places = defaultdict(list)
    for point in points:
        places[point["image"], point["label"]].append((point["row"], point["column"]))
    for found in places.values():
        for (r1, c1), (r2, c2) in itertools.combinations(found, 2):
            assert max(abs(r1 - r2), abs(c1 - c2)) > sample_points.APART
