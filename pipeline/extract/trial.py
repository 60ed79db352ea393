"""The trial of a runtime: export the network, load it, compare its features with torch's."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.config.machine import machine
from pipeline.config.sections import ExtractParams
from pipeline.core.errors import InputError
from pipeline.extract import extractors, runtime, runtimes
from pipeline.extract.extractors import Extractor
from pipeline.extract.runtimes.torch import Eager

TOLERANCE = 1e-5
"""Largest difference from torch's fp32 features, relative to the largest value of a feature."""

SLACK = 3.0
"""At a lower precision, a runtime may be this many times as far from fp32 as torch itself."""

Pixels = NDArray[np.uint8]
Features = NDArray[np.float32]


def main() -> None:
    """Try a runtime; the arguments are its name, the folder to fill, and the section as JSON."""
    name, folder, section = sys.argv[1:]
    extract = ExtractParams.model_validate_json(section)
    try:
        result = verdict(name, Path(folder), extract)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
    runtime.write(Path(folder), result)


def verdict(name: str, folder: Path, extract: ExtractParams) -> dict[str, Any]:
    """Export the extractor into *folder*, run it, and compare its features with torch's.

    Returns:
        `equal`, and `why` in a sentence.

    Raises:
        InputError: the extractor's weights cannot be used, whatever the runtime.
    """
    extractor = extractors.choose(extract, machine()).build()
    batch = int(extract.batch or 0)
    chips = pictures(batch, extractor.size)
    exact = Eager(extractor, batch, "fp32", "cpu")(chips)
    allowed = TOLERANCE
    if extract.precision != "fp32":
        rough = Eager(extractor, batch, extract.precision, "cpu")(chips)
        allowed += SLACK * difference(rough, exact)
    try:
        runtimes.part(name).export(_module(extractor), chips, folder)
        network = runtimes.part(name).load(folder, extract.precision)
        features = network(chips)
        rolled = np.roll(network(np.roll(chips, 1, axis=0)), -1, axis=0)
    except Exception as error:  # noqa: BLE001 - whatever it is, this runtime is not for this network
        why = (str(error).strip() or repr(error)).splitlines()[0]
        return {"equal": False, "why": f"{name} cannot run {extract.extractor}: {why}"}
    distance = difference(features, exact)
    far = f"{name}'s features of {extract.extractor} differ from torch's by {distance:.1e} of a"
    if not distance <= allowed:  # NaN is not equal either
        return {"equal": False, "why": f"{far} chip's largest value, more than {allowed:.1e}"}
    if not np.array_equal(rolled, features):
        return {"equal": False, "why": f"with {name} a feature depends on its place in the batch"}
    return {"equal": True, "why": f"{far} chip's largest value: {name} computes them"}


def difference(features: Features, exact: Features) -> float:
    """Return the largest difference of a value, relative to the largest value of its chip."""
    scale = np.maximum(np.abs(exact).max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return float((np.abs(features - exact) / scale).max())


def pictures(count: int, size: int) -> Pixels:
    """Return *count* pictures, always the same, with structure at every scale; one is black.

    Returns:
        uint8 [count, size, size, 3].
    """
    rng = np.random.default_rng(0)
    total = np.zeros((count, size, size, 3), np.float32)
    for cell in (1, 4, 16, 64):
        cells = -(-size // cell)
        grid = rng.uniform(-1, 1, (count, cells, cells, 3)).astype(np.float32)
        total += grid.repeat(cell, 1).repeat(cell, 2)[:, :size, :size]
    contrast = np.linspace(0, 100, count, dtype=np.float32)[:, None, None, None]
    brightness = np.linspace(0, 160, count, dtype=np.float32)[:, None, None, None]
    return np.clip(brightness + contrast * total, 0, 255).astype(np.uint8)


def _module(extractor: Extractor) -> torch.nn.Module:
    """Wrap the extractor, with the modules that it holds, in a module for torch.export."""
    if isinstance(extractor, torch.nn.Module):
        return extractor

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, part in vars(extractor).items():
                if isinstance(part, torch.nn.Module):
                    self.add_module(name, part)

        def forward(self, chips: torch.Tensor) -> torch.Tensor:
            return extractor(chips)

    return Whole()
