"""What several benchmarks share: the machine in words, pictures, tables of chips, PySpacer."""

from __future__ import annotations

import platform
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline import chips, numerics, schemas
from pipeline.storage import Storage
from pipeline.windows import Window, around

ROOT = Path(__file__).resolve().parent.parent
PEER = "pyspacer==0.14.*"


def about(*packages: str) -> None:
    """Print the command, the versions of *packages* and the machine."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    device = numerics.device_kind(numerics.device("auto"))
    print(f"python {' '.join(sys.argv)}\npython {platform.python_version()}, {versions}")
    print(f"{[*names, platform.machine()][0]}, {numerics.cores()} cores; features on {device}\n")


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
    """Give the table of the chips that *windows* names by key: schemas.CHIPS."""
    rows = []
    for key in sorted(windows):
        version = storage.head(key).version
        for window in windows[key]:
            top, left, height, width = window
            centre = top + height // 2, left + width // 2
            rows.append((chips.chip_id(key, version, window), key, version, *centre, *window))
    columns = zip(schemas.CHIPS, zip(*rows, strict=True), strict=True)
    named = {field.name: pa.array(column, field.type) for field, column in columns}
    return schemas.conform(pa.table(named), schemas.CHIPS)


def places(seed: int, count: int, height: int, width: int, size: int) -> list[Window]:
    """Give the windows of *size* around *count* random points of an image."""
    rng = np.random.default_rng(seed)
    points = sorted(zip(rng.integers(0, height, count), rng.integers(0, width, count), strict=True))
    return [around(int(row), int(col), size) for row, col in points]


def peer(given: Path | None, folder: Path) -> Path:
    """Give a Python that has PySpacer: the one that is *given*, or one that is made in *folder*."""
    if given:
        return given
    venv.create(folder / "peer", with_pip=True)
    python = folder / "peer" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", PEER], check=True)
    return python
