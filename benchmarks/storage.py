"""Stored features: size and reading time against PySpacer's files, and their conversion to a table.

The same features, as many chips an image as asked, are written by Quadrat and by PySpacer itself,
and read by both into one array. PySpacer's files are then converted to a table by
`python -m stages.pyspacer_features`, and every value is compared.

    python benchmarks/storage.py [--spacer-python PATH] [--images 800] [--points 25] [--dim 1280]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _shared import ROOT, about, peer
from numpy.typing import NDArray

from pipeline.core import schemas

LIMIT = 1.02

THEIRS = """
import sys, time
from pathlib import Path
import numpy as np
from spacer.data_classes import DataLocation, ImageFeatures, PointFeatures

folder, points = Path(sys.argv[1]), int(sys.argv[2])
features = np.load(folder / "features.npy")
places = [DataLocation("filesystem", str(folder / f"{n:06d}.jpg.featurevector"))
          for n in range(len(features) // points)]
for number, place in enumerate(places):
    some = features[number * points:(number + 1) * points]
    found = [PointFeatures(row=n, col=n, data=some[n]) for n in range(points)]
    ImageFeatures(point_features=found, valid_rowcol=True, feature_dim=features.shape[1],
                  npoints=points).store(place)
def read():
    rows = [point.data for place in places for point in ImageFeatures.load(place).point_features]
    return np.array(rows, np.float32)

seconds = []
for _ in range(3):
    started = time.perf_counter()
    found = read()
    seconds.append(time.perf_counter() - started)
assert np.array_equal(found, features)
print(min(seconds))
"""


def table(features: NDArray[np.float32], points: int, store: str) -> pa.Table:
    """Return *features* as a features table, *points* chips an image."""
    count, dim = features.shape
    rng = np.random.default_rng(0)
    number = np.arange(count)
    columns = {
        "chip_id": [rng.bytes(16) for _ in range(count)],
        "key": [f"{image:06d}.jpg" for image in number // points],
        "row": number % points,
        "col": number % points,
        "feature": pa.FixedSizeListArray.from_arrays(pa.array(features.astype(store).ravel()), dim),
        "decoder_warning": pa.nulls(count, pa.string()),
    }
    return schemas.conform(pa.table(columns), schemas.features(dim, store))


def read(path: Path, dim: int) -> NDArray[np.float32]:
    """Read a table's features as every reader of Parquet does."""
    column = pq.read_table(path, columns=["feature"])["feature"].combine_chunks()
    found: NDArray[np.float32] = column.flatten().to_numpy().reshape(-1, dim)
    return found


def main() -> int:
    """Write, read, print the figures; fail where a size or a value is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--spacer-python", type=Path)
    parser.add_argument("--images", type=int, default=800)
    parser.add_argument("--points", type=int, default=25)
    parser.add_argument("--dim", type=int, default=1280)
    asked = parser.parse_args()
    about("pyarrow")
    rng = np.random.default_rng(0)
    shape = asked.images * asked.points, asked.dim
    features = rng.normal(size=shape).astype(np.float32)
    sizes = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        np.save(folder / "features.npy", features)
        for store in ("float32", "float16"):
            path = folder / f"{store}.parquet"
            path.write_bytes(schemas.to_bytes(table(features, asked.points, store)))
            sizes[store] = path.stat().st_size / (features.size * np.dtype(store).itemsize)
        seconds = []
        for _ in range(3):
            started = time.perf_counter()
            found = read(folder / "float32.parquet", asked.dim)
            seconds.append(time.perf_counter() - started)
        ours_s = min(seconds)
        wrong = not np.array_equal(found, features)
        python = peer(asked.spacer_python, folder)
        command = [str(python), "-W", "ignore", "-c", THEIRS, str(folder), str(asked.points)]
        theirs_s = float(subprocess.run(command, check=True, capture_output=True).stdout)
        files = list(folder.glob("*.featurevector"))
        theirs = sum(path.stat().st_size for path in files) / features.nbytes
        started = time.perf_counter()
        target = folder / "converted.parquet"
        command = [sys.executable, "-m", "stages.pyspacer_features", str(folder), str(target)]
        subprocess.run(command, check=True, cwd=ROOT)
        converting_s = time.perf_counter() - started
        wrong |= not np.array_equal(read(target, asked.dim), features)
    million = len(features) / 1e6
    print(f"{len(features):,} chips of {asked.dim:,} values; seconds a million chips")
    print(f"Quadrat float32   {sizes['float32']:.4f} of raw   read in {ours_s / million:7.1f}")
    print(f"Quadrat float16   {sizes['float16']:.4f} of raw")
    print(f"PySpacer          {theirs:.4f} of raw   read in {theirs_s / million:7.1f}")
    print(f"read {theirs_s / ours_s:.0f} times as fast as PySpacer's, the best of three each")
    print(
        f"PySpacer's files converted to a table in {converting_s / million:.0f}, every value equal"
    )
    return int(wrong or max(sizes.values()) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
