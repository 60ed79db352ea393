"""Images that crash or hang their decoder, as an image does that meets a bug in it.

No such image is available: known bugs of decoders are fixed. So a folder on the path of every
Python process makes its decoders die as they would: by a signal, midway.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

CODE = """
import os, signal
from PIL import Image
import simplejpeg

def harm(data):
    if b"deadly" in data:
        os.kill(os.getpid(), signal.SIGSEGV)
    if b"hungry" in data:
        os.kill(os.getpid(), signal.SIGKILL)
    if b"talkative" in data:
        os.write(1, b"libjpeg: I do not like this")
    while b"endless" in data:
        pass

def endless(*_):
    while True:
        pass

def opening(stream, *rest, real=Image.open, **named):
    start = stream.read(4096)
    if b"at once" in start:
        os.kill(os.getpid(), signal.SIGBUS)
    stream.seek(0)
    image = real(stream, *rest, **named)
    if b"never loaded" in start:
        image.load = endless
    return image

def decoding(data, *rest, real=simplejpeg.decode_jpeg, **named):
    harm(data)
    return real(data, *rest, **named)

Image.open, simplejpeg.decode_jpeg = opening, decoding
"""


def arm(folder: Path) -> str:
    """Write the code that makes decoders die to *folder*; return it, to be put on PYTHONPATH."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(CODE, encoding="utf-8")
    return str(folder)


def image(word: str, seed: int = 0) -> bytes:
    """Return a valid JPEG with *word* in a comment."""
    pixels = np.random.default_rng(seed).integers(0, 256, (96, 96, 3), np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "JPEG", quality=95, comment=word.encode())
    return sink.getvalue()
