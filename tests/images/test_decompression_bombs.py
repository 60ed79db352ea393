"""Small files that claim to be large: rejected by their header, without taking memory for them."""

import io
import json
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from conftest import ROOT, environment
from image_files import EXTRACT, RGB, encoded
from PIL import Image

from pipeline.images.decode import decode_image

READ = """
import json, sys
from fuzz import peak_kb
from pipeline.config.sections import BucketParams, ExtractParams
from pipeline.core.errors import Rejected
from pipeline.images.decode import decode_image
from pipeline.images.header import read_header
from pipeline.storage import open_storage

storage = open_storage(sys.argv[1])
before = peak_kb()
results = {}
for item in storage.versioned(storage.list()):
    try:
        read_header(storage, item, max_pixels=BucketParams(url="x").max_pixels)
        decode_image(storage.read(item.key), ExtractParams(extractor="filters"))
        results[item.key] = "pixels"
    except Rejected as why:
        results[item.key] = why.reason
print(json.dumps([results, peak_kb() - before]))
"""


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, *more, depth=1, colour=0):
    """A PNG of a header, *more* chunks, and zeros for all its pixels."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    packer = zlib.compressobj(1)
    row = bytes(1 + (width * depth * (3 if colour == 2 else 1) + 7) // 8)
    rows = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    chunks = [chunk(b"IHDR", head), *more, chunk(b"IDAT", rows), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def resized(kind, at, width, height, form):
    """A valid file whose header claims another size."""
    data = bytearray(encoded(Image.fromarray(RGB), kind))
    place = data.index(struct.pack(form, *((60, 40) if at == "wh" else (40, 60))))
    struct.pack_into(form, data, place, *((width, height) if at == "wh" else (height, width)))
    return bytes(data)


def inflated(megabytes):
    packer = zlib.compressobj(1)
    return b"".join(packer.compress(bytes(2**20)) for _ in range(megabytes)) + packer.flush()


def bombs():
    """Files by name, whose first part is what they must give."""
    yield "too_many_pixels/30k.png", png(30_000, 30_000)
    yield "too_many_pixels/huge.png", png(2**31 - 1, 1)[:60]
    yield "too_many_pixels/65k.jpg", resized("JPEG", "hw", 65_500, 65_500, ">HH")
    yield "too_many_pixels/65k.gif", resized("GIF", "wh", 65_535, 65_535, "<HH")
    yield "too_many_pixels/2g.bmp", resized("BMP", "wh", 2**31 - 1, 2**30, "<ii")
    yield "too_many_pixels/4g.jp2", resized("JPEG2000", "hw", 2**31, 2**31, ">II")
    large = b"a\0\0" + inflated(200)
    yield "truncated/text.png", png(8, 8, chunk(b"zTXt", large))
    yield "truncated/profile.png", png(8, 8, chunk(b"iCCP", large))
    yield "pixels/strip.png", png(60_000, 1, depth=8)
    yield "pixels/column.png", png(1, 60_000, depth=8)
    frames = [Image.new("L", (9, 9), level % 256) for level in range(100)]
    yield "pixels/frames.gif", encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    yield "pixels/pages.tif", encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])


def test_a_file_that_claims_to_be_large_takes_no_memory(tmp_path):
    expected = {}
    for name, data in bombs():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        expected[name] = name.partition("/")[0]
    command = [sys.executable, "-c", READ, str(tmp_path)]
    env = environment()
    env["PYTHONPATH"] += os.pathsep + str(ROOT / "tests" / "support")
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results, grown_kb = json.loads(done.stdout)
    assert results == expected
    assert grown_kb < 100_000


@pytest.mark.parametrize("shape", [(1, 1), (1, 60_000), (60_000, 1), (3, 2)])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "JPEG"])
def test_images_of_one_pixel_and_strips_have_their_pixels(kind, shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    data = encoded(Image.fromarray(pixels), kind, **({"quality": 95} if kind == "JPEG" else {}))
    got = decode_image(data, EXTRACT)
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(got, np.asarray(image))
    if kind != "JPEG":
        assert np.array_equal(got, pixels)


def test_a_tiff_directory_that_points_to_itself_ends():
    data = bytearray(encoded(Image.fromarray(RGB), "TIFF"))
    start = int.from_bytes(data[4:8], "little")
    end = start + 2 + 12 * int.from_bytes(data[start : start + 2], "little")
    data[end : end + 4] = data[4:8]
    assert np.array_equal(decode_image(bytes(data), EXTRACT), RGB)
