"""Image files made in memory, and how their headers are read."""

from __future__ import annotations

import io
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.config.sections import ExtractParams
from pipeline.images.header import read_header
from pipeline.storage import Object, open_storage

EXTRACT = ExtractParams(extractor="filters")
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Return *image* as a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif_of(**tags: Any) -> Image.Exif:
    """Return an EXIF block: `t274=6` sets tag 274."""
    exif = Image.Exif()
    for tag, value in tags.items():
        exif[int(tag[1:])] = value
    return exif


def png_of_rows(rows: NDArray[np.uint8], colour: int = 2, height: int = 40) -> bytes:
    """Return a PNG of 60 × *height* pixels whose one complete stream holds *rows*."""
    head = (60).to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, colour, 0, 0, 0])
    stream = b"".join(b"\0" + row.tobytes() for row in rows)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(stream)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
        for kind, data in chunks
    )


def jpeg_with_a_warning(height: int = 40, width: int = 60) -> bytes:
    """Return a JPEG of noise that decodes to the end, but in which a code makes no sense."""
    noise = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    data = bytearray(encoded(Image.fromarray(noise), "JPEG", quality=95))
    middle = len(data) // 2
    data[middle : middle + 4] = b"\xff\x00\xff\x00"
    return bytes(data)


def header_and_bytes_read(data: bytes, max_pixels: int = 10**9) -> tuple[dict[str, Any], int]:
    """Return the header of a file in a folder, and how many of its bytes were read for it."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "image").write_bytes(data)
        storage = open_storage(folder)
        item = storage.versioned([Object("image", len(data))])[0]
        sizes = []
        read = storage.read

        def counting(key: str, **part: Any) -> bytes:
            block = read(key, **part)
            sizes.append(len(block))
            return block

        storage.read = counting  # type: ignore[method-assign]
        return read_header(storage, item, max_pixels=max_pixels), sum(sizes)
