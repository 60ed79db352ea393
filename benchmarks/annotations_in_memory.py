"""Memory and time that the chip stage's main process needs for one table of annotations.

Everything that is not done shard by shard: reading the annotation file, joining it with the index,
cutting it into shards, and writing the labels.

usage: python benchmarks/annotations_in_memory.py [--points 500_000]
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import pyarrow as pa
from _shared import write_manifest
from ruamel.yaml import YAML

from pipeline.chip import stage as chip
from pipeline.chip import tables_stage
from pipeline.config.loader import load
from pipeline.config.machine import machine
from pipeline.core import schemas
from pipeline.store import shards
from pipeline.store.context import Context, open_store

ROOT = Path(__file__).resolve().parent.parent
POINTS = 25


def prepare(count: int) -> None:
    """Write a synthetic index of images and *count* points on them to the working directory."""
    keys = [f"survey-{n >> 16:03d}/IMG_{n:08d}.jpg" for n in range(count // POINTS)]
    rows = len(keys)
    etags = [hashlib.md5(key.encode(), usedforsecurity=False).hexdigest() for key in keys]
    constant = {"size": 1, "width": 4000, "height": 3000, "format": "JPEG", "mode": "RGB"}
    constant |= {"orientation": 1, "captured_at": None, "latitude": None, "longitude": None}
    constant |= {"more_frames": False}
    columns = {"key": keys, "version": etags, "shard": [0] * rows}
    columns |= {name: [value] * rows for name, value in constant.items()}
    images = schemas.conform(pa.table(columns, schema=schemas.IMAGES), schemas.IMAGES)
    index = Path("data/index")
    index.mkdir(parents=True)
    (index / "images.parquet").write_bytes(schemas.to_bytes(images))
    manifest = {
        "stage": "index",
        "shards": [],
        "files": [],
        "inputs": {"annotations": "x", "tables": []},
    }
    write_manifest(Path(), index, manifest)
    rng = np.random.default_rng(0)
    with (index / "annotations").open("w", encoding="utf-8") as stream:
        stream.write("image,row,column,label\n")
        for key in keys:
            places = rng.integers(0, 3000, (POINTS, 2)).tolist()
            stream.writelines(f"{key},{row},{col},coral{row % 30}\n" for row, col in places)
    settings()


def settings() -> None:
    """Write params.yaml for these points."""
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["annotations"] = {"format": "points", "path": "points.csv"}
    params["chip"] = {"method": "points", "size": 224}
    params["split"]["by"] = "image"
    params["shards"]["count"] = 256
    with Path("params.yaml").open("w", encoding="utf-8") as stream:
        yaml.dump(params, stream)


def peak_mb() -> float:
    """Return this process's peak memory."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def make_shards(pieces: list[shards.ShardPlan]) -> None:
    """Cut the windows, as other processes do."""
    chip.make(
        Context(load("params.yaml"), machine(), open_store(machine()), "run"),
        [item.piece for item in pieces],
        lambda *_: None,
    )


def run() -> None:
    """Run the stage's parts in this process, and print time and memory after each."""
    context = Context(load("params.yaml"), machine(), open_store(machine()), "run")
    begun = time.perf_counter()
    inputs = chip.read(context, tables_stage.plan(context))
    print(f"read      {time.perf_counter() - begun:6.1f} s  {peak_mb():7,.0f} MB", flush=True)
    planned = chip.plan(context, inputs)
    missing = shards.missing_shards(context.store, planned, context.run)
    shards.put_inputs(context.store, missing)
    print(f"planned   {time.perf_counter() - begun:6.1f} s  {peak_mb():7,.0f} MB", flush=True)
    others = multiprocessing.get_context("fork").Process(target=make_shards, args=(missing,))
    others.start()
    others.join()
    begun = time.perf_counter()
    print(chip.publish(context, inputs, planned, lambda _: None).summary())
    print(f"published {time.perf_counter() - begun:6.1f} s  {peak_mb():7,.0f} MB", flush=True)


def main() -> None:
    """Run in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=500_000)
    count = parser.parse_args().points
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        maker = multiprocessing.get_context("fork").Process(target=prepare, args=(count,))
        maker.start()
        maker.join()
        print(f"{count:,} points; before: {peak_mb():,.0f} MB", flush=True)
        run()
        os.chdir(ROOT)


if __name__ == "__main__":
    main()
