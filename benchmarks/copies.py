"""Near duplicates: how many copies are found, by what was done to them.

    python benchmarks/copies.py FOLDER [--extractor filters] [--weights FILE] [--every 5]

Every fifth image below FOLDER is copied and changed; the copies validate, and the images that they
were made from train, with all others. Counted are the copies that are found with their own image.
The last line has no copies: every fifth image itself validates, and the others train.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from _shared import about, write_manifest
from PIL import Image, ImageEnhance

from pipeline.config.machine import machine
from pipeline.config.sections import ExtractParams
from pipeline.core import schemas
from pipeline.extract import extractors
from pipeline.images.resize import resize_chip
from pipeline.store import outputs, tables
from pipeline.train import labelled_features
from pipeline.validate import near_duplicates

BATCH = 32


def saved(image: Image.Image, quality: int) -> Image.Image:
    """Return *image* as a JPEG of this quality shows it."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


def cropped(image: Image.Image, pixels: int) -> Image.Image:
    """Return *image* without its outer pixels."""
    width, height = image.size
    return image.crop((pixels, pixels, width - pixels, height - pixels))


def scaled(image: Image.Image, share: float) -> Image.Image:
    """Return *image* in another size."""
    width, height = (max(round(side * share), 1) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG of quality 90": lambda image: saved(image, 90),
    "JPEG of quality 75": lambda image: saved(image, 75),
    "JPEG of quality 50": lambda image: saved(image, 50),
    "cropped by 1 pixel": lambda image: cropped(image, 1),
    "cropped by 2 pixels": lambda image: cropped(image, 2),
    "cropped by 4 pixels": lambda image: cropped(image, 4),
    "scaled to 90 %": lambda image: scaled(image, 0.9),
    "scaled to 50 %": lambda image: scaled(image, 0.5),
    "10 % brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "20 % darker": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
}


def features(images: list[Image.Image], extract: ExtractParams) -> np.ndarray:
    """Return the features of whole images: float32 [n, dim]."""
    extractor = extractors.choose(extract, machine()).build()
    chips = np.stack([resize_chip(np.asarray(image), extractor.size, extract) for image in images])
    with torch.inference_mode():
        parts = [
            extractor(torch.from_numpy(chips[at : at + BATCH])).numpy()
            for at in range(0, len(chips), BATCH)
        ]
    return np.concatenate(parts).astype(np.float32)


def found(training: np.ndarray, validation: np.ndarray) -> list[tuple[int, int]]:
    """Return the numbers of the validation and training chips that are found to be copies."""
    numbers = np.arange(len(training) + len(validation))
    x = np.concatenate([training, validation])
    columns = {
        "chip_id": pa.array([n.to_bytes(16, "big") for n in numbers.tolist()], schemas.CHIP_ID),
        "key": [f"{n:08d}.jpg" for n in numbers],
        "row": pa.array(np.where(numbers < len(training), numbers, numbers - len(training))),
        "col": pa.array(numbers),
    }
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), x.shape[1])
    split = np.where(numbers < len(training), "train", "validation")
    labels = {"label": ["a"] * len(x), "group": columns["key"], "split": split}
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in ("features", "labels"):
            (folder / "data" / name).mkdir(parents=True)
        table = pa.table({**columns, "feature": vectors}).cast(
            schemas.features(x.shape[1], "float32")
        )
        pq.write_table(table, folder / "data/features/0000.parquet")
        line = {"shard": 0, "rows": len(x), "sha256": "0", "input": ""}
        manifest = {"stage": "extract", "recipe": "made up", "made_by": {}, "shards": [line]}
        write_manifest(folder, outputs.FEATURES, manifest)
        labelled = pa.table({**columns, **labels}).cast(schemas.LABELS)
        pq.write_table(labelled, folder / "data/labels/labels.parquet")
        write_manifest(folder, outputs.LABELS, {"stage": "chip", "labels": "made up"})
        os.chdir(folder)
        try:
            (chips,) = labelled_features.of_splits(tables.labels(), "validation")
            rows = near_duplicates.find(chips, tables.labels()).table
        finally:
            os.chdir(here)
    return list(zip(rows["row"].tolist(), rows["near_row"].tolist(), strict=True))


def main() -> int:
    """Print how many copies are found after each change."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--extractor", default="filters")
    parser.add_argument("--weights")
    parser.add_argument("--every", type=int, default=5)
    asked = parser.parse_args()
    about("torch", "pillow")
    extract = ExtractParams(extractor=asked.extractor, weights=asked.weights)
    paths = sorted(path for path in asked.folder.rglob("*.*") if path.is_file())
    images = [Image.open(path).convert("RGB") for path in paths]
    training, chosen = features(images, extract), list(range(0, len(images), asked.every))
    print(f"{len(chosen)} copies among {len(images)} images, {asked.extractor}")
    for name, change in CHANGES.items():
        pairs = found(training, features([change(images[at]) for at in chosen], extract))
        own = sum(chosen[copy] == near for copy, near in pairs)
        print(f"{name}: {own} found ({own / len(chosen):.0%}), {len(pairs) - own} others")
    others = np.delete(training, chosen, axis=0)
    print(f"no copies: {len(found(others, training[chosen]))} found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
