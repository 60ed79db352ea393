"""Extraction on a processor: against PySpacer, against the bare network, and from S3.

The same pictures (12 megapixels, JPEG), points and weights for all, in one run:

- PySpacer as it is installed, on all cores;
- the network alone, no picture read: torch, OpenVINO, and ONNX Runtime where it is installed;
- Quadrat's engine, one process a core, in fp32 and, where the processor has it, bf16;
- small pictures as whole chips, where reading weighs most;
- the same from an S3 server on loopback, and with 20 ms before every answer;
- where the time goes, step by step, and the memory of a process.

    python benchmarks/extraction.py [--spacer-python PATH] [--images N] [--points N]
                                    [--without-memory]
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import queue
import resource
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from _shared import (
    PEER,
    ROOT,
    WEIGHTS,
    about,
    largest,
    peer,
    peers_features,
    photograph,
    places,
    table,
)
from _shared import (
    network as network_of,
)

from pipeline.chip.methods import centre
from pipeline.config.machine import machine
from pipeline.config.sections import ExtractParams
from pipeline.core import hardware
from pipeline.extract.engine import FETCHED
from pipeline.images.decode import decode_image
from pipeline.images.windows import Window, crop
from pipeline.storage import open_storage

sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "support")]

HEIGHT, WIDTH, SIZE = 3000, 4000, 224
SMALL = 2000
MANY = 20_000
TABLE = 64
FEW = 9
LATENCY_S = 0.02
FORWARD_S = 4.0
BUSY = hardware.cores()
PRECISIONS = ("fp32", "bf16")
LEAST = {"fp32": 5, "bf16": 8}
"""The minimum rate, as a multiple of PySpacer's."""

SAME = 1e-5
Windows = dict[str, list[Window]]


@dataclass(frozen=True)
class Work:
    """What one process of a measurement does: the engine over some images of a bucket."""

    url: str
    windows: Windows
    extract: ExtractParams
    env: dict[str, str]
    keep: bool = False


@dataclass(frozen=True)
class Measured:
    """The result of a measurement.

    Attributes:
        rate: chips a second over all processes.
        memory: MiB of the largest process at its peak, and the increase since the network was
            loaded and one picture decoded.
    """

    rate: float
    memory: tuple[float, float]
    features: dict[tuple[str, int, int], Any]


def engine_process(work: Work, start: Any, results: Any) -> None:
    """Run the engine over *work* once all are ready; put chips, seconds, memory and features."""
    from pipeline.extract.engine import Engine

    os.environ.update(work.env)
    storage = open_storage(work.url)
    tables = [
        (keys[0], table(storage, {key: work.windows[key] for key in keys}))
        for keys in in_tables(sorted(work.windows))
    ]
    engine = Engine(storage, network_of(work.extract), work.extract)
    key = min(work.windows)
    list(engine.run([("warm", table(storage, {key: work.windows[key][:8]}))]))
    before = peak()
    start.wait()
    began, count, features = time.perf_counter(), 0, {}
    for done in engine.run(tables):
        count += done.features.num_rows
        for row in done.features.to_pylist() if work.keep else []:
            features[row["key"], row["row"], row["col"]] = row["feature"]
    results.put((count, time.perf_counter() - began, (peak(), peak() - before), features))


def in_tables(keys: list[str]) -> list[list[str]]:
    """Cut *keys* into tables, as shards are."""
    return [keys[at : at + TABLE] for at in range(0, len(keys), TABLE)]


def peak() -> float:
    """Return the most memory that this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def forward_process(runtime: str, weights: str, precision: str, start: Any, results: Any) -> None:
    """Run the network alone for some seconds."""
    forward = onnxruntime if runtime == "onnxruntime" else ours
    network, batch = forward(runtime, weights, precision)
    chips = np.random.default_rng(0).integers(0, 256, (batch, SIZE, SIZE, 3), dtype=np.uint8)
    network(chips)
    start.wait()
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < FORWARD_S:
        network(chips)
        count += batch
    results.put((count, time.perf_counter() - began, (0.0, 0.0), {}))


def params(weights: str, precision: str, runtime: str = "auto") -> ExtractParams:
    """Return the settings of PySpacer's network."""
    settings = {"weights": weights, "precision": precision, "runtime": runtime}
    return ExtractParams.model_validate({"extractor": "coralnet", **settings})


def ours(runtime: str, weights: str, precision: str) -> tuple[Any, int]:
    """Return the network in one of Quadrat's runtimes, and its batch size."""
    network = network_of(params(weights, precision, runtime))
    return network, network.batch


def onnxruntime(_: str, weights: str, precision: str) -> tuple[Any, int]:
    """Return the network in ONNX Runtime with one thread, and its fastest batch size."""
    import onnxruntime
    import torch

    from pipeline.extract import extractors

    extractor: Any = extractors.choose(params(weights, precision), machine()).build()
    chips = torch.zeros((2, SIZE, SIZE, 3), dtype=torch.uint8)
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        settings: Any = {"dynamo": True, "external_data": False, "verbose": False}
        torch.onnx.export(extractor, (chips,), file.name, **settings)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(file.name, options)
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch})[0], 2


def together(process: Any, arguments: list[tuple[Any, ...]]) -> Measured:
    """Run one process for each of *arguments* at once, and return their totals."""
    spawn = multiprocessing.get_context("spawn")
    start, results = spawn.Barrier(len(arguments)), spawn.Queue()
    running = [spawn.Process(target=process, args=(*some, start, results)) for some in arguments]
    for one in running:
        one.start()
    found: list[Any] = []
    while len(found) < len(running):
        if any(one.exitcode for one in running):
            raise SystemExit("a process of the measurement failed")
        with suppress(queue.Empty):
            found.append(results.get(timeout=1))
    for one in running:
        one.join()
    count = sum(count for count, *_ in found)
    features = {place: value for *_, some in found for place, value in some.items()}
    return Measured(
        count / max(seconds for _, seconds, *_ in found), max(line[2] for line in found), features
    )


def extraction(
    url: str, windows: Windows, extract: ExtractParams, env: dict[str, str], *, keep: bool
) -> Measured:
    """Measure the engine, one process a core, each with its share of the images."""
    keys = sorted(windows)
    shares = [{key: windows[key] for key in keys[at::BUSY]} for at in range(BUSY)]
    work = [(Work(url, share, extract, env, keep),) for share in shares]
    return together(engine_process, work)


@contextmanager
def delayed(endpoint: str, seconds: float) -> Iterator[str]:
    """Forward connections to *endpoint*, and delay each request by *seconds*."""
    there = urlsplit(endpoint)
    loop, ready = asyncio.new_event_loop(), threading.Event()
    ports: list[int] = []

    async def relay(reader: Any, writer: Any, wait: float) -> None:
        while data := await reader.read(1 << 18):
            await asyncio.sleep(wait)
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader: Any, writer: Any) -> None:
        back = await asyncio.open_connection(there.hostname, there.port)
        both = (relay(reader, back[1], seconds), relay(back[0], writer, 0))
        await asyncio.gather(*both, return_exceptions=True)

    async def begin() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
        ready.set()

    loop.create_task(begin())
    threading.Thread(target=loop.run_forever, daemon=True).start()
    ready.wait()
    yield f"http://127.0.0.1:{ports[0]}"
    loop.call_soon_threadsafe(loop.stop)


def steps(folder: Path, windows: Windows, extract: ExtractParams) -> dict[str, float]:
    """Return the milliseconds an image takes, step by step, in one process."""
    network = network_of(extract)
    took = dict.fromkeys(("read", "decode", "cut", "network"), 0.0)
    chips = np.zeros((network.batch, SIZE, SIZE, 3), np.uint8)
    keys = sorted(windows)[:8]
    for key in keys:
        clock = [time.perf_counter()]
        data = (folder / key).read_bytes()
        clock.append(time.perf_counter())
        pixels = decode_image(data, extract)
        clock.append(time.perf_counter())
        for number, window in enumerate(windows[key]):
            chips[number % network.batch] = crop(pixels, window)
        clock.append(time.perf_counter())
        for _ in range(-(-len(windows[key]) // network.batch)):
            network(chips)
        clock.append(time.perf_counter())
        for name, began, ended in zip(took, clock, clock[1:], strict=False):
            took[name] += 1000 * (ended - began) / len(keys)
    return took


def line(name: str, rate: float, *ratios: str) -> None:
    """Print one line of the table."""
    print(f"{name:<40} {rate:>8.1f}   {'   '.join(ratios)}", flush=True)


def draw(folder: Path, count: int, points: int) -> tuple[Windows, Windows]:
    """Write the pictures; return the windows on the large and on the small ones."""
    for name in ("large", "small"):
        (folder / name).mkdir()
    large: Windows = {}
    for number in range(count):
        key = f"{number:03d}.jpg"
        photograph(number, HEIGHT, WIDTH).save(folder / "large" / key, quality=90)
        large[key] = places(number, points, HEIGHT, WIDTH, SIZE)
    one = photograph(0, HEIGHT, WIDTH)
    small: Windows = {}
    rng = np.random.default_rng(0)
    for number in range(SMALL):
        key = f"{number:05d}.jpg"
        top, left = int(rng.integers(HEIGHT - SIZE)), int(rng.integers(WIDTH - SIZE))
        one.crop((left, top, left + SIZE, top + SIZE)).save(folder / "small" / key, quality=90)
        small[key] = [(0, 0, SIZE, SIZE)]
    return large, small


@dataclass
class Report:
    """The lines of one run, printed as they are measured."""

    folder: Path
    large: Windows
    small: Windows
    best: dict[str, float] = field(default_factory=dict)
    found: dict[tuple[str, str], Measured] = field(default_factory=dict)

    @property
    def extracts(self) -> list[ExtractParams]:
        """The settings to measure: exact, and in half precision."""
        weights = str(self.folder / WEIGHTS)
        return [params(weights, precision) for precision in PRECISIONS]

    def spacer(self, python: Path, points: int) -> tuple[float, dict[str, Any]]:
        """Return PySpacer's rate and its features of a few of the large images."""
        few = {
            key: [middle(window) for window in self.large[key]] for key in sorted(self.large)[:FEW]
        }
        theirs, seconds = peers_features(python, self.folder, self.folder / "large", few)
        rate = points * (len(few) - 1) / sum(seconds[1:])
        line(f"PySpacer ({PEER}), {BUSY} cores", rate)
        return rate, theirs

    def networks(self) -> None:
        """Measure the networks alone."""
        there = [name for name in ("torch", "onnxruntime", "openvino") if find_spec(name)]
        todo = [(name, "fp32") for name in there] + [("torch", "bf16"), ("openvino", "bf16")]
        for name, precision in todo:
            arguments = [(name, self.extracts[0].weights, precision)] * BUSY
            rate = together(forward_process, arguments).rate
            self.best[precision] = max(rate, self.best.get(precision, 0))
            line(f"network alone: {name} {precision}", rate)

    def alone(self, precision: str) -> float:
        """Measure the network of `runtime: auto` alone, again: a shared machine varies in speed."""
        arguments = [("auto", self.extracts[0].weights, precision)] * BUSY
        return together(forward_process, arguments).rate

    def folders(self, theirs: float) -> None:
        """Measure the engine on folders."""
        shipped = self.extracts[0].model_copy(update={"runtime": "torch"})
        rate = extraction(str(self.folder / "large"), self.large, shipped, {}, keep=False).rate
        line("Quadrat fp32 in torch, large images", rate, f"{rate / theirs:.1f} × PySpacer")
        for name, windows in (("large", self.large), ("small", self.small)):
            for extract in self.extracts:
                kind = extract.precision
                before = self.alone(kind)
                took = extraction(str(self.folder / name), windows, extract, {}, keep=True)
                alone = (before + self.alone(kind)) / 2
                self.found[name, kind] = took
                ratios = [
                    f"{took.rate / alone:.2f} of its network alone before and after ({alone:.1f})",
                    f"{took.rate / self.best[kind]:.2f} of the fastest above",
                ]
                if name == "large":
                    ratios.insert(0, f"{took.rate / theirs:.1f} × PySpacer")
                line(f"Quadrat {kind}, {name} images", took.rate, *ratios)

    def objects(self) -> None:
        """Measure the engine on an S3 server, as it is and with a delay."""
        import servers

        root = self.folder / "s3"
        (root / servers.BUCKET).mkdir(parents=True)
        for name in ("large", "small"):
            shutil.copytree(self.folder / name, root / servers.BUCKET / name)
        with servers.rclone(root) as near, delayed(near, LATENCY_S) as far:
            for name, windows in (("large", self.large), ("small", self.small)):
                for where, endpoint in (("S3 on loopback", near), ("S3, 20 ms later", far)):
                    url, env = f"s3://{servers.BUCKET}/{name}", servers.environment(endpoint)
                    took = extraction(url, windows, self.extracts[0], env, keep=False)
                    share = took.rate / self.found[name, "fp32"].rate
                    line(f"{where}, {name} images, fp32", took.rate, f"{share:.2f} of a folder")

    def memory(self) -> None:
        """Measure the memory of many chips of large images: the same few, under many keys."""
        folder, keys = self.folder / "many", sorted(self.large)
        folder.mkdir()
        windows: Windows = {}
        for number in range(-(-MANY // len(self.large[keys[0]]))):
            key = f"{number:05d}.jpg"
            (folder / key).hardlink_to(self.folder / "large" / keys[number % len(keys)])
            windows[key] = self.large[keys[number % len(keys)]]
        took = extraction(str(folder), windows, self.extracts[0], {}, keep=False)
        line(f"Quadrat fp32, {MANY:,} chips of large images", took.rate)
        objects = FETCHED * max((folder / key).stat().st_size for key in windows) / 2**20
        pixels = 3 * HEIGHT * WIDTH * 3 / 2**20
        print(
            f"a process had {took.memory[0]:,.0f} MiB at the peak, {took.memory[1]:,.0f} more than "
            f"with the network loaded; {FETCHED} objects are {objects:,.0f}, 3 images {pixels:,.0f}"
        )

    def difference(self, theirs: dict[str, Any]) -> float:
        """Return the largest difference to PySpacer's features, relative to an image's largest."""
        ours = self.found["large", "fp32"].features
        found = {
            key: np.array([ours[key, *middle(window)] for window in self.large[key]])
            for key in theirs
        }
        return largest(found, theirs)


def middle(window: Window) -> tuple[int, int]:
    """Return the point at the centre of a window."""
    row, col, _ = centre(window)
    return row, col


def main() -> int:
    """Measure all, print a line each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--spacer-python", type=Path)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--points", type=int, default=25, help="of an image")
    parser.add_argument("--without-memory", action="store_true", help="of 20,000 chips")
    given = parser.parse_args()
    about("torch", "openvino", "simplejpeg")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["DVC_ROOT"] = temporary  # where trials are remembered: not in this checkout
        report = Report(folder, *draw(folder, given.images, given.points))
        large = f"{given.points} points on JPEGs of {HEIGHT * WIDTH / 1e6:.0f} megapixels"
        print(f"EfficientNet-B0; large: {large}; small: whole JPEGs of {SIZE} pixels")
        print(f"{'':<40} {'chips/s':>8}")
        slow, theirs = report.spacer(peer(given.spacer_python, folder), given.points)
        report.networks()
        report.folders(slow)
        report.objects()
        worst = report.difference(theirs)
        print(f"\nlargest relative difference to PySpacer's features, fp32: {worst:.1e}")
        for extract in report.extracts:
            took = steps(folder / "large", report.large, extract)
            said = ", ".join(f"{name} {value:.1f}" for name, value in took.items())
            print(f"ms of a large image in one process, {extract.precision}: {said}")
        if not given.without_memory:
            report.memory()
        fine = all(
            report.found["large", kind].rate >= times * slow for kind, times in LEAST.items()
        )
        return int(not fine or worst > SAME)


if __name__ == "__main__":
    sys.exit(main())
