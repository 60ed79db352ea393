"""Bounds: chips of GeoTIFFs in the coordinates of their scene."""

import sys

import numpy as np
import pandas as pd
import pytest
from conftest import Bucket, new_repo, texture

pytest.importorskip("rasterio", reason="the extra geo is not installed")
import rasterio
from rasterio.transform import Affine

pytestmark = pytest.mark.slow

NORTH_UP = Affine(10, 0, 500_000, 0, -10, 4_000_000)
TURNED = Affine(0, 5, 100, 5, 0, 200)  # x grows with the row, y with the column


@pytest.fixture
def scenes(tmp_path):
    bucket = Bucket(tmp_path / "bucket")
    bucket.folder.mkdir()
    for name, crs, transform in (("a", "EPSG:32632", NORTH_UP), ("b", "EPSG:3857", TURNED)):
        made = {"count": 1, "dtype": "uint8", "crs": crs, "transform": transform}
        size = {"height": 70, "width": 64}
        path = bucket.folder / f"{name}.tif"
        with rasterio.open(path, "w", driver="GTiff", **size, **made) as scene:
            scene.write(np.arange(70 * 64, dtype=np.uint8).reshape(1, 70, 64))
    texture("noise", 0).save(bucket.folder / "plain.tif")
    texture("noise", 0).save(bucket.folder / "photo.png")
    repo = new_repo(tmp_path / "repo", bucket)
    repo.set(annotations__format="folders", annotations__path=None, chip__method="grid")
    repo.set(chip__edge="pad")
    repo.run(sys.executable, "-m", "stages.index")
    repo.run(sys.executable, "-m", "stages.chip")
    return repo


def test_each_chip_has_the_bounds_of_its_window_in_the_scenes_own_coordinates(scenes):
    done = scenes.run(sys.executable, "-m", "stages.bounds", "bounds.parquet")
    assert done.stdout == "bounds.parquet: 12 chips of 2 scenes\n"
    assert done.stderr == (
        "left out, since they are not georeferenced: 2 images, the first of them photo.png\n"
    )
    table = pd.read_parquet(scenes.path / "bounds.parquet")
    chips = pd.concat(map(pd.read_parquet, (scenes.path / "data/chips").glob("[0-9]*.parquet")))
    both = table.merge(chips, on="chip_id", suffixes=("", "_px"))
    assert len(both) == 12
    for row in both.itertuples():
        first, last = row.top, row.top + row.height
        left, right = row.left, row.left + row.width
        if row.key == "a.tif":
            x, y = 500_000 + 10 * np.array([left, right]), 4_000_000 - 10 * np.array([last, first])
            assert row.crs == "EPSG:32632"
        else:
            x, y = 100 + 5 * np.array([first, last]), 200 + 5 * np.array([left, right])
            assert row.crs == "EPSG:3857"
        assert [row.x_min, row.y_min, row.x_max, row.y_max] == [x[0], y[0], x[1], y[1]]


def test_a_scene_that_has_changed_is_said_to_have_and_not_left_out(scenes):
    with rasterio.open(scenes.bucket.folder / "a.tif", "r+") as scene:
        scene.write(np.zeros((1, 70, 64), np.uint8))
    done = scenes.run(sys.executable, "-m", "stages.bounds", "bounds.parquet", check=False)
    assert done.returncode
    assert "a.tif" in done.stderr
    assert not (scenes.path / "bounds.parquet").exists()


def test_without_rasterio_the_message_says_what_to_install(scenes):
    (scenes.path / "rasterio.py").write_text("raise ImportError('not there')", encoding="utf-8")
    done = scenes.run(sys.executable, "-m", "stages.bounds", "bounds.parquet", check=False)
    assert done.returncode
    assert "pip install 'quadrat[geo]'" in done.stderr
