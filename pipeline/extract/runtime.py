"""Which runtime computes the features on this machine, and the network that it loads.

A runtime decides the bits of the features, so it is chosen before the first shard is named. A
runtime other than torch is chosen only after a trial has shown that its features are equal to
torch's on a fixed batch of pictures. The trial runs once, in a separate process, and its verdict is
kept in the machine's folder beside the exported network. The workers load that network without
importing torch.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.config import registry
from pipeline.config.machine import Machine
from pipeline.config.sections import ExtractParams
from pipeline.core import hardware
from pipeline.core.errors import InputError, SettingError
from pipeline.core.hashing import digest
from pipeline.extract import runtimes
from pipeline.extract.extractors import ChosenExtractor
from pipeline.extract.runtimes import TORCH, Network
from pipeline.store.recipe import Recipe

log = logging.getLogger(__name__)

VERSION = 1
VERDICT = "verdict.json"

LIBRARIES = ("torch", "torchvision", "Pillow", "simplejpeg", "numpy")
"""The libraries whose versions are in the recipe."""

FASTEST = ("openvino",)
"""The runtimes that `auto` tries before torch, fastest first."""

BATCH = {
    ("torch", "cpu"): 16,
    ("torch", "cuda"): 128,
    ("torch", "mps"): 64,
    ("openvino", "cpu"): 2,
    ("openvino", "cpu without AVX-512"): 1,
}
"""Chips in a batch if `extract.batch` is null: the fastest of those measured for EfficientNet-B0.
With larger batches, what passes between layers no longer fits into the processor's caches."""


@dataclass(frozen=True, slots=True)
class FeaturesRequest:
    """The features that are requested, by the settings and on this machine.

    Attributes:
        extractor: with its section, which may ask for a `runtime` and a `batch`.
        recipe: the half of the features' recipe that does not depend on the machine.
        machine: this machine's settings.
    """

    extractor: ChosenExtractor
    recipe: Recipe
    machine: Machine

    @property
    def extract(self) -> ExtractParams:
        """The section."""
        return self.extractor.extract

    @property
    def device(self) -> str:
        """Torch's name of the device."""
        return hardware.device(self.machine.device)


@dataclass(frozen=True, slots=True)
class Runtime:
    """A runtime for the features of *request*."""

    request: FeaturesRequest
    name: str

    @property
    def batch(self) -> int:
        """The number of chips in a batch."""
        device = self.request.device
        narrow = f"{device} without AVX-512"
        if (self.name, narrow) in BATCH and "avx512f" not in hardware.device_kind(device):
            device = narrow
        return self.request.extract.batch or BATCH[self.name, device]

    @property
    def version(self) -> dict[str, Any]:
        """What it adds to the recipe; the version of torch is in the recipe already."""
        packages = () if self.name == TORCH else runtimes.part(self.name).PACKAGES
        versions = hardware.libraries(*packages).values()
        return {"runtime": " ".join([self.name, *versions]), "batch": self.batch}

    @property
    def recipe(self) -> Recipe:
        """The recipe of the features."""
        numerics = {**hardware.numerics(self.request.device, LIBRARIES), **self.version}
        return self.request.recipe.extended(numerics=numerics)

    @property
    def folder(self) -> Path:
        """The folder of the trial's verdict and network, named by all that decides them."""
        facts = {
            "requested": dict(self.request.recipe.parts),
            "runtime": self.version,
            "code": VERSION,
            "device": hardware.device_kind("cpu"),
            "torch": hardware.libraries("torch", "torchvision"),
        }
        name = self.request.extract.extractor.replace("/", "-").replace(":", "-")
        return self.request.machine.state / "runtimes" / f"{name}-{digest(facts)[:16]}"


def choose(request: FeaturesRequest) -> Runtime:
    """Choose the runtime that computes on this machine.

    Raises:
        SettingError: `extract.runtime` is not installed, or not for this device or extractor;
            `extract.precision` is not for this device.
        InputError: the features of `extract.runtime` are not equal to torch's.
    """
    extract, wanted = request.extract, request.extract.runtime
    if extract.precision == "tf32" and request.device != "cuda":
        raise SettingError(
            f"extract.precision: tf32 is for NVIDIA's cards, and the device here is "
            f"{request.device}; set it to fp32, bf16 or fp16"
        )
    exports = request.device == "cpu" and request.extractor.exports
    if wanted == "auto":
        names = (name for name in FASTEST if exports and not _obstacle(name, extract))
        able = (Runtime(request, name) for name in names)
        equal = (runtime for runtime in able if _verdict(runtime)["equal"])
        return next(equal, Runtime(request, TORCH))
    runtime = Runtime(request, wanted)
    if wanted == TORCH:
        return runtime
    if not exports:
        raise SettingError(
            f"extract.runtime: {wanted} runs on processors, and only extractors that can be "
            f"exported from torch; {extract.extractor} runs on {request.device} here; set it to "
            "auto"
        )
    if obstacle := _obstacle(wanted, extract):
        raise SettingError(f"extract.runtime: {obstacle}")
    if not (verdict := _verdict(runtime))["equal"]:
        raise InputError(f"extract.runtime: {verdict['why']}; set it to auto or torch")
    return runtime


def load(runtime: Runtime) -> Network:
    """Load the extractor into *runtime*, which `choose` has returned."""
    hardware.keep_freed_memory()
    request, precision = runtime.request, runtime.request.extract.precision
    if runtime.name == TORCH:
        from pipeline.extract.runtimes.torch import Eager

        return Eager(request.extractor.build(), runtime.batch, precision, request.device)
    folder = runtime.folder
    if _is_damaged(folder):
        shutil.rmtree(folder, ignore_errors=True)  # another process may do the same
        if not (verdict := _verdict(runtime))["equal"]:
            raise InputError(f"extract.runtime: {verdict['why']}; run dvc repro again")
    network: Network = runtimes.part(runtime.name).load(folder, precision)
    return network


def _obstacle(name: str, extract: ExtractParams) -> str:
    """Return why a runtime cannot be tried at all, and what to do; empty if it can."""
    part = runtimes.part(name)
    missing = [each for each in part.PACKAGES if importlib.util.find_spec(each) is None]
    if missing:
        return f"{name} is not installed; pip install {' '.join(missing)}"
    if extract.precision not in part.PRECISIONS:
        return f"{name} has no {extract.precision}; set it to auto, or extract.precision to fp32"
    return ""


def _verdict(runtime: Runtime) -> dict[str, Any]:
    """Return the verdict of a runtime's trial, `equal` and `why`; try it if it was not tried."""
    folder = runtime.folder
    verdict = _read(folder)
    if verdict is not None:
        return verdict
    folder.parent.mkdir(parents=True, exist_ok=True)
    log.info("extract: trying %s on %s, once", runtime.name, runtime.request.extract.extractor)
    with TemporaryDirectory(dir=folder.parent, prefix=".trial-") as temporary:
        message = _try(runtime, Path(temporary))
        verdict = _read(Path(temporary)) or {
            "equal": False,
            "why": f"{runtime.name} did not survive its trial: {message}",
        }
        write(Path(temporary), verdict | {"files": _sha256(Path(temporary))})
        with suppress(OSError):  # another process was faster
            Path(temporary).rename(folder)
    verdict = _read(folder) or {"equal": False, "why": f"{folder} cannot be written"}
    log.info("extract: %s", verdict["why"])
    return verdict


def _try(runtime: Runtime, folder: Path) -> str:
    """Run a trial in a separate process: one that has imported torch should not be forked.

    Returns:
        The last line of its error output.

    Raises:
        InputError: the extractor's weights cannot be used.
    """
    section = runtime.request.extract.model_copy(update={"batch": runtime.batch})
    code = "from pipeline.extract import trial; trial.main()"
    arguments = [runtime.name, str(folder), section.model_dump_json()]
    command = [sys.executable, "-W", "ignore", "-c", code, *arguments]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    if done.returncode == InputError.exit_code:
        raise InputError(last)
    return last


def _is_damaged(folder: Path) -> bool:
    """Return True if the files of a trial are not what the trial wrote."""
    return (_read(folder) or {}).get("files") != _sha256(folder)


def _sha256(folder: Path) -> dict[str, str]:
    paths = folder.iterdir() if folder.is_dir() else ()
    return registry.digests({path.name: path for path in paths if path.name != VERDICT})


def _read(folder: Path) -> dict[str, Any] | None:
    try:
        verdict: dict[str, Any] = json.loads((folder / VERDICT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return verdict


def write(folder: Path, verdict: dict[str, Any]) -> None:
    """Write the verdict of a trial."""
    (folder / VERDICT).write_text(json.dumps(verdict), encoding="utf-8")
