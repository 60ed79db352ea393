"""Write images.zip: small files of every kind, and their pixels as ImageMagick sees them.

    python tests/golden/images.py

Needs ImageMagick 6 (`convert`), libjpeg-turbo's `cjpeg` and `jpegtran`, tifffile and imagecodecs.
Beside each file lies `<name>.rgb`: its first picture's height × width × 3 bytes by `convert`, alpha
dropped, no profile applied. What Quadrat refuses has none.
"""

from __future__ import annotations

import io
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile

ARCHIVE = Path(__file__).with_suffix(".zip")
WIDTH, HEIGHT = 21, 13
RAW = ["-size", f"{WIDTH}x{HEIGHT}", "-depth", "8"]

HALF = ["-alpha", "set", "-channel", "A", "-evaluate", "set", "40%", "+channel"]

MADE_BY_CONVERT = {
    "rgb.png": [],
    "interlaced.png": ["-interlace", "PNG"],
    "grey.png": ["-colorspace", "Gray"],
    "bits1.png": ["-colorspace", "Gray", "-threshold", "50%", "-define", "png:bit-depth=1"],
    "bits2.png": ["-colorspace", "Gray", "-define", "png:bit-depth=2"],
    "bits4.png": ["-colorspace", "Gray", "-define", "png:bit-depth=4"],
    "grey16.png": ["-colorspace", "Gray", "-evaluate", "multiply", "0.731", "-depth", "16"],
    "rgb16.png": ["-evaluate", "multiply", "0.731", "-define", "png:color-type=2", "-depth", "16"],
    "palette.png": ["-colors", "9", "-define", "png:format=png8"],
    "palette_transparent.png": [
        *("-colors", "9", "-transparent", "rgb(0,0,0)", "-define", "png:format=png8")
    ],
    "palette_alpha.png": HALF,
    "rgba.png": [*HALF, "-define", "png:color-type=6"],
    "grey_alpha.png": ["-colorspace", "Gray", *HALF, "-define", "png:color-type=4"],
    "plain.bmp": [],
    "v2.bmp": ["BMP2"],
    "v3.bmp": ["BMP3"],
    "palette.bmp": ["-colors", "200", "-compress", "None"],
    "rle.bmp": ["-colors", "9", "-compress", "RLE"],
    "bits1.bmp": ["-monochrome", "-compress", "None"],
    "plain.gif": ["-colors", "50"],
    "interlaced.gif": ["-colors", "50", "-interlace", "GIF"],
    "lossless.webp": ["-define", "webp:lossless=true"],
    "lossy.webp": ["-quality", "80"],
    "plain.ppm": [],
    "text.ppm": ["-compress", "None"],
    "deep.pgm": ["-colorspace", "Gray", "-depth", "16"],
    "lossless.jp2": ["-quality", "100"],
    "raw.tif": ["-compress", "None"],
    "lzw.tif": ["-compress", "LZW"],
    "deflate.tif": ["-compress", "Zip"],
    "packbits.tif": ["-compress", "RLE"],
    "fax4.tif": ["-monochrome", "-compress", "Group4"],
    "fax3.tif": ["-monochrome", "-compress", "Fax"],
    "bits1.tif": ["-monochrome", "-compress", "None"],
    "white_is_zero.tif": ["-colorspace", "Gray", "-define", "quantum:polarity=min-is-white"],
    "palette.tif": ["-colors", "60", "-type", "Palette", "-compress", "LZW"],
    "cmyk.tif": ["-colorspace", "CMYK", "-compress", "LZW"],
    "jpeg.tif": ["-compress", "JPEG", "-quality", "90"],
    "grey16.tif": ["-colorspace", "Gray", "-evaluate", "multiply", "0.731", "-depth", "16"],
    "big_endian.tif": ["-endian", "MSB", "-compress", "None"],
    "grey16_big_endian.tif": ["-colorspace", "Gray", "-depth", "16", "-endian", "MSB"],
    "tiled.tif": ["-define", "tiff:tile-geometry=16x16", "-compress", "LZW"],
    "planes.tif": ["-interlace", "plane", "-compress", "LZW"],
    "rgba.tif": [*HALF, "-compress", "LZW"],
    "cmyk.jpg": ["-colorspace", "CMYK", "-quality", "90"],
    "restart.jpg": ["-define", "jpeg:restart-interval=2", "-quality", "90"],
    "grey.jpg": ["-colorspace", "Gray", "-quality", "90"],
    "colour_422.jpg": ["-sampling-factor", "2x1", "-quality", "90"],
    "colour_440.jpg": ["-sampling-factor", "1x2", "-quality", "90"],
    "colour_411.jpg": ["-sampling-factor", "4x1", "-quality", "90"],
    "profile.jpg": ["-profile", "/usr/share/color/icc/ghostscript/a98.icc", "-quality", "90"],
}

TIFFS = {
    "horizontal.tif": {"predictor": True, "compression": "lzw"},
    "lerc.tif": {"compression": "lerc"},
    "zstd.tif": {"compression": "zstd"},
    "bigtiff.tif": {"bigtiff": True},
    "bigtiff_tiled.tif": {"bigtiff": True, "tile": (16, 16), "compression": "deflate"},
    "pages.tif": {},
}

NO_DATE = ["-define", "png:exclude-chunks=date,time"]
BMPS = (["BMP2"], ["BMP3"])

REFUSED = {
    "bits12.jpg",
    "grey32.tif",
    "lerc.tif",
    "no_end.jpg",
    "plain.jxl",
    "signed8.tif",
}


def source() -> np.ndarray:
    """A picture with soft colours, hard edges and both ends of the scale."""
    rows, cols = np.mgrid[:HEIGHT, :WIDTH]
    bands = [cols * 10, rows * 15, 255 - 8 * cols]
    pixels = np.stack(bands, axis=2) + np.random.default_rng(0).integers(0, 3, (HEIGHT, WIDTH, 3))
    pixels[3:7, 4:13] = (0, 0, 0)
    pixels[7:10, 3:18] = (255, 255, 255)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def convert(*arguments: str, data: bytes = b"") -> bytes:
    """Run ImageMagick."""
    done = subprocess.run(["convert", *arguments], input=data, capture_output=True, check=True)
    return done.stdout


def jpegs(pixels: np.ndarray) -> Iterator[tuple[str, bytes]]:
    """What `convert` cannot write."""
    ppm = b"P6 %d %d 255\n" % (WIDTH, HEIGHT) + pixels.tobytes()

    def cjpeg(*options: str) -> bytes:
        return subprocess.run(
            ["cjpeg", "-quality", "90", *options], input=ppm, capture_output=True, check=True
        ).stdout

    yield "progressive.jpg", cjpeg("-progressive")
    yield "arithmetic.jpg", cjpeg("-arithmetic")
    yield "arithmetic_progressive.jpg", cjpeg("-arithmetic", "-progressive")
    yield "rgb.jpg", cjpeg("-rgb")
    yield "no_end.jpg", cjpeg()[:-2]
    cmyk = np.dstack([255 - pixels, pixels[..., :1] // 3])
    yield "ycck.jpg", imagecodecs.jpeg8_encode(cmyk, colorspace="cmyk", outcolorspace="ycck")
    yield "cmyk_adobe.jpg", imagecodecs.jpeg8_encode(cmyk, colorspace="cmyk", outcolorspace="cmyk")
    deep = pixels.astype(np.uint16) * 16
    yield "bits12.jpg", imagecodecs.jpeg_encode(deep, bitspersample=12)
    yield "lossless.jpg", imagecodecs.jpeg_encode(pixels, lossless=True)
    yield "plain.jxl", imagecodecs.jpegxl_encode(pixels)


def tiffs(pixels: np.ndarray) -> Iterator[tuple[str, bytes]]:
    """What tifffile writes."""
    grey = pixels[..., 0]
    deep = pixels.astype(np.uint16) * 257
    others = {
        "planes16.tif": (deep.transpose(2, 0, 1), {"planarconfig": "separate"}),
        "signed8.tif": (grey.astype(np.int8), {}),
        "grey32.tif": (grey.astype(np.uint32), {}),
        "rgb16.tif": (deep, {"compression": "deflate"}),
    }
    for name, options in TIFFS.items():
        frames = np.stack([pixels, 255 - pixels]) if name == "pages.tif" else pixels
        others[name] = (frames, options)
    for name, (values, options) in others.items():
        what = "rgb" if 3 in values.shape and values.ndim > 2 else "minisblack"
        sink = io.BytesIO()
        tifffile.imwrite(sink, values, photometric=what, metadata=None, **options)
        yield name, sink.getvalue()


def animations(pixels: np.ndarray) -> Iterator[tuple[str, bytes]]:
    """Files whose first picture is followed by others."""
    first = [*RAW, "rgb:-"]
    yield (
        "moving.gif",
        convert(*first, "(", "+clone", "-negate", ")", "gif:-", data=pixels.tobytes()),
    )
    two = ["(", "+clone", "-negate", ")", "-define", "webp:lossless=true"]
    yield "moving.webp", convert(*first, *two, "webp:-", data=pixels.tobytes())
    frames = np.stack([pixels, 255 - pixels])
    yield "moving.png", imagecodecs.apng_encode(frames)


def write_all(folder: Path) -> None:
    """Write every file, and the pixels of those that are not refused."""
    pixels = source()
    for name, options in MADE_BY_CONVERT.items():
        kind, rest = (options[0] + ":", options[1:]) if options[:1] in BMPS else ("", options)
        convert(*RAW, "rgb:-", *NO_DATE, *rest, f"{kind}{folder / name}", data=pixels.tobytes())
    for made in (jpegs, tiffs, animations):
        for name, data in made(pixels):
            (folder / name).write_bytes(data)
    seen = ["-alpha", "off", "+profile", "*", "-colorspace", "sRGB", "-depth", "8", "rgb:-"]
    for path in sorted(folder.iterdir()):
        if path.name == "lossless.jpg":  # which ImageMagick does not know
            path.with_name("lossless.jpg.rgb").write_bytes(pixels.tobytes())
        elif path.name not in REFUSED:
            path.with_name(f"{path.name}.rgb").write_bytes(convert(f"{path}[0]", *seen))


def main() -> None:
    """Pack them."""
    with tempfile.TemporaryDirectory() as name, zipfile.ZipFile(ARCHIVE, "w") as archive:
        write_all(Path(name))
        for path in sorted(Path(name).iterdir()):
            packed = zipfile.ZipInfo(
                path.name
            )  # of no date, so that the same files are one archive
            archive.writestr(packed, path.read_bytes(), zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    main()
