"""CoralNet's features against PySpacer's: the largest relative difference, by runtime.

Both get one set of weights, the same photographs as JPEG and PNG, upright and on their side, in
grey, with a palette, with transparency and with an EXIF orientation, and points in the middle,
at every border and in every corner. The weights are PySpacer's untrained network's, drawn so that a
feature depends on the picture: with PySpacer's initial values the features of all chips agree to
seven digits, and any crop would pass. That the features differ is checked, too. PySpacer runs in a
separate environment: `--spacer-python`, or a new one.

    python benchmarks/pyspacer_parity.py [--spacer-python PATH] [IMAGE ...]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from _shared import PEER, WEIGHTS, largest, peer, peers_features, photograph
from _shared import network as network_of
from PIL import Image

from pipeline.config.sections import ExtractParams
from pipeline.extract.runtimes import Network
from pipeline.images.decode import decode_image
from pipeline.images.windows import Pixels, around, crop

SIZE = 224
ORIENTATION = 0x0112
LIMIT = 1e-5
RUNTIMES = ("torch", "openvino")
Points = list[tuple[int, int]]


def points_of(height: int, width: int) -> Points:
    """Return the middle, the corners, the borders' middles, and places just inside the padding."""
    rows = (0, 1, SIZE // 2, height // 2, height - SIZE // 2, height - 2, height - 1)
    cols = (0, 1, SIZE // 2, width // 2, width - SIZE // 2, width - 2, width - 1)
    return sorted({(row, col) for row in rows for col in cols if row < height and col < width})


def variants(picture: Image.Image) -> dict[str, tuple[Image.Image, dict[str, Any]]]:
    """Return a picture in every form that PySpacer reads, and how to save it, by file name."""
    exif = picture.getexif()
    exif[ORIENTATION] = 6
    veil = Image.linear_gradient("L").resize(picture.size)
    see_through = picture.copy()
    see_through.putalpha(veil)
    return {
        "plain.jpg": (picture, {}),
        "plain.png": (picture, {}),
        "portrait.jpg": (picture.transpose(Image.Transpose.ROTATE_90), {"quality": 95}),
        "turned by exif.jpg": (picture, {"exif": exif}),
        "progressive.jpg": (picture, {"progressive": True, "subsampling": 0}),
        "grey.jpg": (picture.convert("L"), {}),
        "grey.png": (picture.convert("L"), {}),
        "palette.png": (picture.quantize(64), {}),
        "rgba.png": (see_through, {}),
    }


def prepare(folder: Path, given: list[Path]) -> dict[str, Points]:
    """Write every picture in all its forms, and a small one whose padding repeats."""
    pictures = [Image.open(path).convert("RGB") for path in given]
    pictures = pictures or [photograph(seed, 480, 640) for seed in range(2)]
    pictures.append(pictures[0].crop((0, 0, 150, 130)))
    points = {}
    for number, picture in enumerate(pictures):
        for form, (image, settings) in variants(picture).items():
            name = f"{number} {form}"
            image.save(folder / name, **settings)
            points[name] = points_of(image.height, image.width)
    return points


def ours(folder: Path, points: dict[str, Points], runtime: str) -> dict[str, Any]:
    """Return Quadrat's features by picture."""
    settings = {"extractor": "coralnet", "weights": str(folder / WEIGHTS), "runtime": runtime}
    extract = ExtractParams.model_validate(settings)
    loaded = network_of(extract)
    found = {}
    for name, places in points.items():
        pixels = decode_image((folder / name).read_bytes(), extract)
        found[name] = embedded(loaded, pixels, places)
    return found


def embedded(network: Network, pixels: Pixels, places: Points) -> Any:
    """Embed the chips around *places*, a batch at a time, the last one padded."""
    batches = np.zeros((-(-len(places) // network.batch), network.batch, SIZE, SIZE, 3), np.uint8)
    for number, (row, col) in enumerate(places):
        batches[divmod(number, network.batch)] = crop(pixels, around(row, col, SIZE))
    return np.concatenate([network(batch) for batch in batches])[: len(places)]


def smallest(found: dict[str, Any]) -> float:
    """Return the smallest difference between two places of a picture, relative in the same way."""
    return min(
        float(np.abs(features[0] - features[len(features) // 2]).max() / np.abs(features).max())
        for features in found.values()
    )


def main() -> int:
    """Run both, print the figures, and fail where they differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--spacer-python", type=Path)
    parser.add_argument("images", nargs="*", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["DVC_ROOT"] = temporary  # where trials are remembered: not in this checkout
        points = prepare(folder, asked.images)
        python = peer(asked.spacer_python, folder)
        theirs, _ = peers_features(python, folder, folder, points, threads=1)
        found = {runtime: ours(folder, points, runtime) for runtime in RUNTIMES}
    apart = smallest(theirs)
    worst = {runtime: largest(features, theirs) for runtime, features in found.items()}
    count = sum(map(len, points.values()))
    print(f"{count:,} points on {len(points)} images, against {PEER}, one thread each")
    for runtime, difference in worst.items():
        print(f"{runtime:<10} {version(runtime):<24} largest relative difference {difference:.1e}")
    print(f"limit {LIMIT:.0e}; two places of a picture differ by {apart:.1e} at least")
    return int(max(worst.values()) > LIMIT or apart < 100 * LIMIT)


if __name__ == "__main__":
    sys.exit(main())
