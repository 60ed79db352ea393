"""Damage images of every format, and count in which of them the damage is noticed.

    python benchmarks/damaged_images.py [--repeats 40] [--width 4000]

Each format's file, of 300 × 200 pixels, is damaged in three ways at places that are spread over it:
it is cut off; the rest of it is zeros, as an unfinished copy leaves it; one bit is flipped. Prints
the share of files that are rejects, and of those that have a decoder's warning. Then it prints what
comparing checksums adds to the time of decoding a picture of that width (12 megapixels).
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable, Iterator
from unittest import mock

import numpy as np
import tifffile
from PIL import Image

from pipeline.config.sections import ExtractParams
from pipeline.core.errors import Rejected
from pipeline.images import opening
from pipeline.images.decode import decode_with_warning

EXTRACT = ExtractParams(extractor="filters")
ROUNDS = 5


def photograph(height: int, width: int) -> Image.Image:
    """Return a picture with structure at two scales and a little noise."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(30, 220, (height // 20, width // 20, 3)).repeat(20, 0).repeat(20, 1)
    fine = rng.normal(0, 8, coarse.shape)
    return Image.fromarray(np.clip(coarse + fine, 0, 255).astype(np.uint8))


def multiband_tiff(image: Image.Image, compression: str) -> bytes:
    """Return a TIFF of four bands of 16 bits."""
    sink, pixels = io.BytesIO(), np.asarray(image).astype(np.uint16) * 257
    bands = np.concatenate([pixels, pixels[..., :1]], axis=2)
    tifffile.imwrite(
        sink, bands, photometric="rgb", extrasamples=[0], compression=compression, rowsperstrip=16
    )
    return sink.getvalue()


def files(image: Image.Image) -> Iterator[tuple[str, bytes]]:
    """Yield a file of each format, with its name."""
    options: dict[str, tuple[str, dict[str, object]]] = {
        "JPEG, quality 75": ("JPEG", {"quality": 75}),
        "JPEG, quality 95": ("JPEG", {"quality": 95}),
        "JPEG, progressive": ("JPEG", {"quality": 95, "progressive": True}),
        "PNG": ("PNG", {}),
        "TIFF": ("TIFF", {}),
        "TIFF, Deflate": ("TIFF", {"compression": "tiff_adobe_deflate"}),
        "TIFF, LZW": ("TIFF", {"compression": "tiff_lzw"}),
        "WebP": ("WEBP", {"quality": 90}),
        "GIF": ("GIF", {}),
        "BMP": ("BMP", {}),
        "JPEG 2000": ("JPEG2000", {}),
        "PPM": ("PPM", {}),
        "AVIF": ("AVIF", {"quality": 90}),
    }
    for name, (kind, more) in options.items():
        sink = io.BytesIO()
        image.save(sink, kind, **more)
        yield name, sink.getvalue()
    yield "TIFF of many bands, Deflate", multiband_tiff(image, "zlib")


def cut(data: bytes, at: int) -> bytes:
    """Return the beginning."""
    return data[:at]


def zeroed(data: bytes, at: int) -> bytes:
    """Return *data* with zeros from *at* on."""
    return data[:at] + bytes(len(data) - at)


def flipped(data: bytes, at: int) -> bytes:
    """Return *data* with one bit flipped."""
    return data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]


def noticed(data: bytes, damage: Callable[[bytes, int], bytes], repeats: int) -> str:
    """Return the percentages of damaged files that are rejects, and that have a warning."""
    rejected = warned = 0
    for at in np.linspace(0.1, 0.99, repeats):
        try:
            decoded = decode_with_warning(damage(data, int(at * len(data))), EXTRACT)
            warned += decoded.warning is not None
        except Rejected:
            rejected += 1
    share = f"{rejected / repeats:.0%}"
    return f"{share} + {warned / repeats:.0%}" if warned else share


def seconds(data: bytes) -> float:
    """Return the shortest time of decoding a file."""
    times = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        decode_with_warning(data, EXTRACT)
        times.append(time.perf_counter() - begun)
    return min(times)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--width", type=int, default=4000)
    asked = parser.parse_args()
    repeats, width = asked.repeats, asked.width
    print("| format | cut off | zeros at the end | one bit |\n|---|---|---|---|")
    for name, data in files(photograph(200, 300)):
        shares = [noticed(data, damage, repeats) for damage in (cut, zeroed, flipped)]
        print(f"| {name} | {' | '.join(shares)} |")
    for name, data in files(photograph(width * 3 // 4, width)):
        if name in {"PNG", "TIFF, Deflate"}:
            with mock.patch.multiple(opening, check_png=mock.Mock(), check_deflate=mock.Mock()):
                without = seconds(data)
            what = f"{name}, {width:,} pixels wide"
            print(f"{what}: {without:.3f} s, with checksums {seconds(data):.3f} s")


if __name__ == "__main__":
    main()
