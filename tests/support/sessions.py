"""FlowCam sessions, made as the instrument makes them: collages, and the table beside them.

The header's fields and types, the order of the windows, the gutters of two black pixels, the LZW
TIFFs and the ends of the lines are those of a real session of VisualSpreadsheet's version 017;
a test in test_chips_flowcam.py compares the two where the real one is at hand.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

INTS = [
    "id",
    "image_x",
    "image_y",
    "image_w",
    "image_h",
    "src_x",
    "src_y",
    "src_image",
    "cal_image",
    "ppc",
    "camera",
]
DOUBLES = ("cal_const", "fringe_size")
AFTER = [
    "raw_sphere_volume",
    "raw_sphere_complement",
    "raw_sphere_unknown",
    "raw_area",
    "raw_feret_max",
    "raw_feret_min",
    "raw_feret_mean",
    "raw_perimeter",
    "raw_convex_perimeter",
    "raw_legendre_major",
    "raw_legendre_minor",
    "abd_area",
    "abd_diameter",
    "length",
    "width",
    "esd_diameter",
    "fd_diameter",
    "perimeter",
    "convex_perimeter",
    "intensity",
    "sigma_intensity",
    "sum_intensity",
    "compactness",
    "elongation",
    "roughness",
    "edge_gradient",
    "elapsed_time",
    "circle_fit",
    "symmetry",
    "circularity_hu",
    "intensity_calimage",
    "raw_convex_hull_area",
    "raw_filled_area",
    "filled_area",
    "feret_max_angle",
    "feret_min_angle",
]
FIELDS = {
    **dict.fromkeys(INTS, "int32"),
    **dict.fromkeys(DOUBLES, "double"),
    "sphere_count": "int32",
    **dict.fromkeys(AFTER, "double"),
    "timestamp": "timestamp",
    "collage_file": "string",
    "image_id": "guid",
}
GUTTER = 2
BEGUN = datetime(2023, 5, 22, 12, 46, 35, 875000)


@dataclass
class Session:
    """A session's folder: its rows, as the table has them, and each particle's pixels."""

    folder: Path
    rows: list[dict[str, Any]] = field(default_factory=list)
    pixels: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    version: str = "017"
    fields: dict[str, str] = field(default_factory=lambda: dict(FIELDS))
    newline: str = "\n"

    @property
    def table(self) -> Path:
        """The session's table."""
        return self.folder / "metadata.lst"

    def text(self) -> str:
        """The table as the instrument writes it."""
        lines = [self.version, f"num-fields|{len(self.fields)}"]
        lines += [f"{name}|{kind}" for name, kind in self.fields.items()]
        lines += ["|".join(str(row[name]) for name in self.fields) for row in self.rows]
        return self.newline.join(lines) + self.newline

    def write(self) -> None:
        """Write the table again, after a change of rows, fields or version."""
        self.table.write_bytes(self.text().encode())


def make(
    folder: Path,
    particles: int,
    *,
    seed: int = 0,
    side: int = 256,
    sizes: tuple[int, int] = (13, 60),
) -> Session:
    """Make a session of so many particles, on as many square collages as they need.

    Particles stand in rows from the top left, in the table's order; every other one is long.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    session = Session(folder)
    collages: list[NDArray[np.uint8]] = []
    top = left = tallest = 0
    for number in range(1, particles + 1):
        height, width = rng.integers(*sizes, 2, endpoint=True).tolist()
        if not collages or left + width + GUTTER > side:
            top, left, tallest = top + tallest + GUTTER, GUTTER, 0
        if not collages or top + height + GUTTER > side:
            collages.append(np.zeros((side, side, 3), np.uint8))
            top, left, tallest = GUTTER, GUTTER, 0
        pixels = _particle(rng, height, width, long=number % 2 == 0)
        collages[-1][top : top + height, left : left + width] = pixels
        window = {"image_x": left, "image_y": top, "image_w": width, "image_h": height}
        name = f"{folder.name}_images_{len(collages):06d}.tif"
        session.rows.append(_row(rng, number) | window | {"collage_file": name})
        session.pixels[number] = pixels
        left, tallest = left + width + GUTTER, max(tallest, height)
    for number, collage in enumerate(collages, 1):
        path = folder / f"{folder.name}_images_{number:06d}.tif"
        Image.fromarray(collage).save(path, compression="tiff_lzw")
    session.write()
    return session


def _particle(
    rng: np.random.Generator, height: int, width: int, *, long: bool
) -> NDArray[np.uint8]:
    """A dark body on a bright ground, never black to the edge: 1 to 255."""
    down, right = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    body = (down * (3 if long else 1)) ** 2 + right**2 < 0.7
    grey = np.where(body, rng.uniform(40, 110), 210) + rng.normal(0, 6, (height, width))
    tint = np.array([1.0, 0.98, 0.9])
    pixels: NDArray[np.uint8] = np.clip(grey[:, :, None] * tint, 1, 255).astype(np.uint8)
    return pixels


def _row(rng: np.random.Generator, number: int) -> dict[str, Any]:
    row: dict[str, Any] = {name: int(rng.integers(0, 2000)) for name in INTS}
    row |= {name: round(float(rng.uniform(0, 1000)), 4) for name in (*DOUBLES, *AFTER)}
    guid = "".join(f"{value:X}" for value in rng.integers(0, 16, 32))
    parts = (guid[:8], guid[8:12], guid[12:16], guid[16:20], guid[20:])
    at = BEGUN + timedelta(milliseconds=125 * number)
    return row | {
        "id": number,
        "sphere_count": 0,
        "timestamp": at.isoformat(timespec="milliseconds"),
        "image_id": "-".join(parts),
    }
