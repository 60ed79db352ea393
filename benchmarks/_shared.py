"""What several benchmarks share: the machine in words, pictures, tables of chips, PySpacer."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import venv
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.chip import methods
from pipeline.config.machine import machine
from pipeline.config.sections import ExtractParams
from pipeline.core import hardware, schemas
from pipeline.core.hashing import chip_id
from pipeline.extract import recipe, runtime
from pipeline.extract.runtimes import Network
from pipeline.images.windows import Window, around
from pipeline.storage import Storage
from pipeline.store import outputs

ROOT = Path(__file__).resolve().parent.parent
PEER = "pyspacer==0.14.*"
WEIGHTS = "weights.pt"
Points = list[tuple[int, int]]

THEIRS = """
import json, sys, time
from pathlib import Path
import numpy as np, torch
from spacer.data_classes import DataLocation, ImageFeatures
from spacer.extractors import EfficientNetExtractor
from spacer.messages import ExtractFeaturesMsg
from spacer.tasks import extract_features

folder, pictures, threads = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
if threads:
    torch.set_num_threads(threads)
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
weights = folder / "weights.pt"
torch.save({"net": {"module." + k: v for k, v in network.state_dict().items()}}, weights)
extractor = EfficientNetExtractor({"weights": DataLocation("filesystem", str(weights))})
found, seconds = {}, []
for name, points in json.loads((folder / "points.json").read_text()).items():
    out = DataLocation("filesystem", str(folder / (name + ".features")))
    started = time.perf_counter()
    extract_features(ExtractFeaturesMsg(
        job_token=name, extractor=extractor, rowcols=[tuple(point) for point in points],
        image_loc=DataLocation("filesystem", str(pictures / name)), feature_loc=out))
    seconds.append(time.perf_counter() - started)
    rows = ImageFeatures.load(out)
    found[name] = np.array([rows[tuple(point)] for point in points])
np.savez(folder / "theirs.npz", seconds=seconds, **found)
"""


def about(*packages: str) -> None:
    """Print the command, the versions of *packages* and the machine."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    device = hardware.device_kind(hardware.device("auto"))
    print(f"python {' '.join(sys.argv)}\npython {platform.python_version()}, {versions}")
    print(f"{[*names, platform.machine()][0]}, {hardware.cores()} cores; features on {device}\n")


def photograph(seed: int, height: int, width: int) -> Image.Image:
    """Draw a picture with structure at every scale, which compresses as a photograph does."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for cell in (4, 16, 64, 256):
        grid = rng.uniform(0, 64, (height // cell + 2, width // cell + 2, 3)).astype(np.uint8)
        size = (width // cell + 2) * cell, (height // cell + 2) * cell
        smooth = Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC)
        total += np.asarray(smooth, np.float32)[:height, :width]
    total += rng.normal(0, 4, total.shape).astype(np.float32)
    return Image.fromarray(np.clip(total, 0, 255).astype(np.uint8))


def table(storage: Storage, windows: dict[str, list[Window]]) -> pa.Table:
    """Return the table of the chips that *windows* names by key: schemas.CHIPS."""
    rows = []
    for key in sorted(windows):
        version = storage.head(key).version
        for window in windows[key]:
            row, col, _ = methods.centre(window)
            rows.append((chip_id(key, version, window), key, version, row, col, *window))
    columns = zip(schemas.CHIPS, zip(*rows, strict=True), strict=True)
    named = {field.name: pa.array(column, field.type) for field, column in columns}
    return schemas.conform(pa.table(named), schemas.CHIPS)


def places(seed: int, count: int, height: int, width: int, size: int) -> list[Window]:
    """Return the windows of *size* around *count* random points of an image."""
    rng = np.random.default_rng(seed)
    points = sorted(zip(rng.integers(0, height, count), rng.integers(0, width, count), strict=True))
    return [around(int(row), int(col), size) for row, col in points]


def peer(given: Path | None, folder: Path) -> Path:
    """Return a Python that has PySpacer: *given*, or that of a new environment in *folder*."""
    if given:
        return given
    venv.create(folder / "peer", with_pip=True)
    python = folder / "peer" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", PEER], check=True)
    return python


def peers_features(
    python: Path, folder: Path, pictures: Path, points: Mapping[str, Points], threads: int = 0
) -> tuple[dict[str, Any], list[float]]:
    """Return PySpacer's features of *points* of *pictures*, and the seconds of each picture.

    Its weights are written to *folder* as WEIGHTS: those of an untrained network, drawn so that a
    feature depends on the picture.
    """
    (folder / "points.json").write_text(json.dumps(points), encoding="utf-8")
    command = [str(python), "-W", "ignore", "-c", THEIRS, str(folder), str(pictures), str(threads)]
    subprocess.run(command, check=True)
    theirs = dict(np.load(folder / "theirs.npz"))
    return theirs, theirs.pop("seconds").tolist()


def largest(found: Mapping[str, Any], theirs: Mapping[str, Any]) -> float:
    """Return the largest difference, relative to the largest value of the picture's features."""
    return max(
        float(np.abs(features - theirs[name]).max() / np.abs(theirs[name]).max())
        for name, features in found.items()
    )


def network(extract: ExtractParams) -> Network:
    """Load the network that this machine would use for *extract*."""
    embedding = recipe.embedding(extract, machine())
    return runtime.load(embedding)


def write_manifest(folder: Path, out: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest of an out of the checkout *folder*."""
    path = folder / outputs.manifest_path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(outputs.pretty(manifest))
