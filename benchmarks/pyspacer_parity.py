"""CoralNet's features, ours against PySpacer's own: the largest relative difference, and the speed.

Both get one set of weights, the same photographs as JPEG and PNG, and points in the middle, at
every border and in every corner. The weights are PySpacer's untrained network's, drawn so that a
feature depends on the picture: as PySpacer draws them every chip has the same features to seven
digits, and any crop would do. That too is checked.
PySpacer runs in an environment of its own: `--spacer-python`, or one that is made here.

    python benchmarks/pyspacer_parity.py [--spacer-python PATH] [IMAGE ...]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import venv
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline import images
from pipeline.extractors import build, weights_of
from pipeline.params import Extract
from pipeline.windows import Pixels, around, crop

PEER = "pyspacer==0.14.*"
SIZE = 224
LIMIT = 1e-4
Points = list[tuple[int, int]]

THEIRS = """
import json, sys, time
from pathlib import Path
import numpy as np, torch
from spacer.data_classes import DataLocation
from spacer.extractors import EfficientNetExtractor
from spacer.messages import ExtractFeaturesMsg
from spacer.tasks import extract_features
from spacer.data_classes import ImageFeatures

torch.set_num_threads(1)
folder = Path(sys.argv[1])
torch.manual_seed(0)
network = EfficientNetExtractor.untrained_model()
for part in network.modules():
    if isinstance(part, torch.nn.Conv2d):
        torch.nn.init.kaiming_normal_(part.weight)
    if isinstance(part, torch.nn.BatchNorm2d):
        torch.nn.init.normal_(part.weight, 1, 0.1)
        torch.nn.init.normal_(part.bias, 0, 0.1)
        torch.nn.init.normal_(part.running_mean, 0, 0.1)
        part.running_var.copy_(0.375 + 0.75 * torch.randn_like(part.running_var).abs())
weights = folder / "efficientnet_b0.pt"
torch.save({"net": {"module." + k: v for k, v in network.state_dict().items()}}, weights)
extractor = EfficientNetExtractor({"weights": DataLocation("filesystem", str(weights))})
found, seconds = {}, 0.0
for name, points in json.loads((folder / "points.json").read_text()).items():
    out = DataLocation("filesystem", str(folder / (name + ".features")))
    started = time.perf_counter()
    extract_features(ExtractFeaturesMsg(
        job_token=name, extractor=extractor, rowcols=[tuple(point) for point in points],
        image_loc=DataLocation("filesystem", str(folder / name)), feature_loc=out))
    seconds += time.perf_counter() - started
    rows = ImageFeatures.load(out)
    found[name] = np.array([rows[tuple(point)] for point in points])
np.savez(folder / "theirs.npz", seconds=seconds, **found)
"""


def points_of(height: int, width: int) -> Points:
    """Give the middle, the corners, the borders' middles, and places just inside the padding."""
    rows = (0, 1, SIZE // 2, height // 2, height - SIZE // 2, height - 2, height - 1)
    cols = (0, 1, SIZE // 2, width // 2, width - SIZE // 2, width - 2, width - 1)
    return sorted({(row, col) for row in rows for col in cols if row < height and col < width})


def procedural(seed: int) -> Image.Image:
    """Give a picture with structure at every scale, for where there are no photographs."""
    rng = np.random.default_rng(seed)
    total = np.zeros((480, 640, 3))
    for size in (2, 8, 32, 128):
        grid = rng.uniform(0, 255, (480 // size + 1, 640 // size + 1, 3))
        total += grid.repeat(size, 0).repeat(size, 1)[:480, :640]
    return Image.fromarray((total / 4).astype(np.uint8))


def prepare(folder: Path, given: list[Path]) -> dict[str, Points]:
    """Write every picture as JPEG and PNG, and a small one whose padding repeats."""
    pictures = [Image.open(path).convert("RGB") for path in given]
    pictures = pictures or [procedural(seed) for seed in range(2)]
    pictures.append(pictures[0].crop((0, 0, 150, 130)))
    points = {}
    for number, picture in enumerate(pictures):
        for name in (f"{number}.jpg", f"{number}.png"):
            picture.save(folder / name)
            points[name] = points_of(picture.height, picture.width)
    (folder / "points.json").write_text(json.dumps(points), encoding="utf-8")
    return points


def peer(given: Path | None, folder: Path) -> Path:
    """Give a Python that has PySpacer."""
    if given:
        return given
    venv.create(folder / "peer", with_pip=True)
    python = folder / "peer" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", PEER], check=True)
    return python


def ours(folder: Path, points: dict[str, Points]) -> tuple[dict[str, Any], float]:
    """Give our features by picture, and the seconds they took."""
    torch.set_num_threads(1)
    extract = Extract(extractor="coralnet", weights=str(folder / "efficientnet_b0.pt"), batch=16)
    extractor = build(extract, weights_of(extract))
    found, started = {}, time.perf_counter()
    for name, places in points.items():
        pixels = images.decode((folder / name).read_bytes(), extract=extract)
        chips = np.stack([crop(pixels, around(row, col, SIZE)) for row, col in places])
        found[name] = np.concatenate(
            [embedded(extractor, chips, at) for at in range(0, len(chips), 16)]
        )
    return found, time.perf_counter() - started


def embedded(extractor: Any, chips: Pixels, at: int) -> Any:
    """Embed sixteen chips, or the rest padded."""
    some = chips[at : at + 16]
    padded = np.concatenate([some, np.zeros((16 - len(some), SIZE, SIZE, 3), np.uint8)])
    with torch.inference_mode():
        return extractor(torch.from_numpy(padded)).numpy()[: len(some)]


def main() -> int:
    """Run both, print the figures, and fail where they differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--spacer-python", type=Path)
    parser.add_argument("images", nargs="*", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        points = prepare(folder, asked.images)
        python = peer(asked.spacer_python, folder)
        subprocess.run([python, "-W", "ignore", "-c", THEIRS, folder], check=True)
        theirs = np.load(folder / "theirs.npz")
        found, seconds = ours(folder, points)
    worst, nearest = 0.0, np.inf
    for name, features in found.items():
        scale = np.abs(theirs[name]).max()
        worst = max(worst, float(np.abs(features - theirs[name]).max() / scale))
        nearest = min(
            nearest, float(np.abs(features[0] - features[len(features) // 2]).max() / scale)
        )
    count = sum(map(len, points.values()))
    print(f"{count} points on {len(points)} images; torch {version('torch')}, one thread each")
    print(f"largest relative difference  {worst:.1e} (limit {LIMIT:.0e})")
    print(f"smallest between two places  {nearest:.1e} (at least {100 * LIMIT:.0e})")
    print(f"speed, ours / PySpacer       {float(theirs['seconds']) / seconds:.2f}")
    return int(worst > LIMIT or nearest < 100 * LIMIT)


if __name__ == "__main__":
    sys.exit(main())
