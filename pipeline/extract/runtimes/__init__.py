"""What runs an extractor's network: torch itself, or an inference runtime made for processors.

A file of this folder is a runtime. Beside torch's own, which always works, it defines

    PACKAGES: tuple[str, ...]               what must be installed, and shapes its bits
    PRECISIONS: Mapping[str, Any]           those it has
    def export(module, chips, folder)       write what `load` needs of a torch module; needs torch
    def load(folder, precision) -> Network  without torch

Which one computes is decided before the first shard is named, since it decides the bits: another
than torch is taken only after it was seen to be equal to torch on a fixed batch of pictures. That
trial runs once, in a process of its own, and is remembered; the network that it wrote down is what
the workers load, so that they need not import torch.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.config import registry
from pipeline.config.machine import Machine
from pipeline.config.sections import USER_PLUGIN, ExtractParams
from pipeline.core import hardware
from pipeline.core.errors import InputError, SettingError
from pipeline.core.hashing import digest
from pipeline.extract import extractors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

VERSION = 1
VERDICT = "verdict.json"

TORCH = "torch"
FASTEST = ("openvino",)
"""What `auto` tries, fastest first; torch is what remains."""

BATCH = {
    ("torch", "cpu"): 16,
    ("torch", "cuda"): 128,
    ("torch", "mps"): 64,
    ("openvino", "cpu"): 2,
    ("openvino", "cpu without AVX-512"): 1,
}
"""Chips in a batch where `extract.batch` says nothing: the fastest for EfficientNet-B0 of those
measured. Of large ones what passes from layer to layer leaves a processor's caches."""

TOLERANCE = 1e-5
"""Largest difference to torch's fp32, relative to the largest value of a chip's feature."""

SLACK = 3.0
"""How many times torch's own distance from fp32 a runtime's may be at a lower precision."""


class Network(Protocol):
    """An extractor that is ready to run, in one fixed batch shape.

    Attributes:
        batch: chips in a batch.
        size: height and width of the chips it takes, in pixels.
        dim: values in a feature.
    """

    batch: int
    size: int
    dim: int

    def __call__(self, chips: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed one full batch.

        Args:
            chips: uint8 [batch, size, size, 3], RGB.

        Returns:
            float32 [batch, dim]; row i depends on chip i alone.
        """


@dataclass(frozen=True, slots=True)
class Runtime:
    """What computes, and in batches of how many."""

    name: str
    batch: int

    def parts(self) -> dict[str, Any]:
        """Give what it adds to the recipe; torch's version is there already."""
        versions = {} if self.name == TORCH else hardware.libraries(*part(self.name).PACKAGES)
        return {"runtime": " ".join([self.name, *versions.values()]), "batch": self.batch}


@dataclass(frozen=True, slots=True)
class RuntimeRequest:
    """What decides the choice: the section, and all else that it stands for.

    Args:
        extract: the section; its `runtime` and `batch` are wishes.
        parts: the half of the features' recipe that does not depend on the machine.
        machine: its settings.
    """

    extract: ExtractParams
    parts: Mapping[str, Any]
    machine: Machine

    @property
    def device(self) -> str:
        """Torch's name of the device."""
        return hardware.device(self.machine.device)

    def choice(self, name: str) -> Runtime:
        """Give the choice of *name* with its batch."""
        return Runtime(name, self.extract.batch or _batch(name, self.device))

    def folder(self, choice: Runtime) -> Path:
        """Name the folder of a trial and what it wrote by all that decides them."""
        facts = {
            "asked": dict(self.parts),
            "choice": choice.parts(),
            "code": VERSION,
            "device": hardware.device_kind("cpu"),
            "torch": hardware.libraries("torch", "torchvision"),
        }
        name = self.extract.extractor.replace("/", "-").replace(":", "-")
        return self.machine.state / "runtimes" / f"{name}-{digest(facts)[:16]}"


def _batch(name: str, device: str) -> int:
    narrow = f"{device} without AVX-512"
    if (name, narrow) in BATCH and "avx512f" not in hardware.device_kind(device):
        return BATCH[name, narrow]
    return BATCH[name, device]


def choose(asked: RuntimeRequest) -> Runtime:
    """Choose what computes on this machine.

    Raises:
        SettingError: `extract.runtime` is not installed, or not for this device or extractor;
            `extract.precision` is not for this device.
        InputError: it is, and its features are not torch's.
    """
    extract, wanted = asked.extract, asked.extract.runtime
    if extract.precision == "tf32" and asked.device != "cuda":
        raise SettingError(
            f"extract.precision: tf32 is for NVIDIA's cards, and here {asked.device} computes; "
            "set it to fp32, bf16 or fp16"
        )
    if wanted == TORCH:
        return asked.choice(TORCH)
    elsewhere = asked.device == "cpu" and _exports(extract)
    if wanted == "auto":
        able = [name for name in FASTEST if elsewhere and not _lacks(name, extract)]
        equal = (name for name in able if _verdict(asked, asked.choice(name))["equal"])
        return asked.choice(next(equal, TORCH))
    if not elsewhere:
        raise SettingError(
            f"extract.runtime: {wanted} is for processors, and extractors that can leave torch; "
            f"here {extract.extractor} runs on {asked.device}; set it to auto"
        )
    if lacking := _lacks(wanted, extract):
        raise SettingError(f"extract.runtime: {lacking}")
    choice = asked.choice(wanted)
    verdict = _verdict(asked, choice)
    if not verdict["equal"]:
        raise InputError(f"extract.runtime: {verdict['why']}; set it to auto or torch")
    return choice


def load(asked: RuntimeRequest) -> Network:
    """Load the extractor into what `choose` gives."""
    hardware.keep_freed_memory()
    choice = choose(asked)
    if choice.name != TORCH and _damaged(asked.folder(choice)):
        shutil.rmtree(asked.folder(choice), ignore_errors=True)  # another may do the same
        choice = choose(asked)
    network: Network
    if choice.name == TORCH:
        from pipeline.extract.runtimes.torch import Eager

        extractor = extractors.build(asked.extract, extractors.weights_of(asked.extract))
        network = Eager(extractor, choice.batch, asked.extract.precision, asked.device)
    else:
        network = part(choice.name).load(asked.folder(choice), asked.extract.precision)
    return network


def part(name: str) -> Any:
    """Import the file of a runtime."""
    return registry.find("extract.runtimes", name, key="extract.runtime")


def _lacks(name: str, extract: ExtractParams) -> str:
    """Say what keeps a runtime from being tried at all, and what to do, or nothing."""
    found = part(name)
    missing = [each for each in found.PACKAGES if importlib.util.find_spec(each) is None]
    if missing:
        return f"{name} is not installed; pip install {' '.join(missing)}"
    if extract.precision not in found.PRECISIONS:
        return f"{name} has no {extract.precision}; set it to auto, or extract.precision to fp32"
    return ""


def _exports(extract: ExtractParams) -> bool:
    """Say whether the extractor can run elsewhere than in torch; `EXPORTS = False` says no."""
    if USER_PLUGIN.match(extract.extractor):
        kind = registry.find_user_plugin(extract.extractor, key="extract.extractor").kind
    else:
        kind = registry.find("extract.extractors", extract.part[0], key="extract.extractor")
    return bool(getattr(kind, "EXPORTS", True))


def _verdict(asked: RuntimeRequest, choice: Runtime) -> dict[str, Any]:
    """Give what the trial of a runtime found: `equal`, and `why` in a sentence."""
    folder = asked.folder(choice)
    found = _read(folder)
    if found is not None:
        return found
    folder.parent.mkdir(parents=True, exist_ok=True)
    log.info("extract: trying %s on %s, once", choice.name, asked.extract.extractor)
    with TemporaryDirectory(dir=folder.parent, prefix=".trial-") as temporary:
        said = _tried(asked, choice, Path(temporary))
        found = _read(Path(temporary)) or {
            "equal": False,
            "why": f"{choice.name} did not survive its trial: {said}",
        }
        write(Path(temporary), found | {"files": _sha256(Path(temporary))})
        with suppress(OSError):  # another process was faster
            Path(temporary).rename(folder)
    found = _read(folder) or {"equal": False, "why": f"{folder} cannot be written"}
    log.info("extract: %s", found["why"])
    return found


def _tried(asked: RuntimeRequest, choice: Runtime, folder: Path) -> str:
    """Run a trial in a process of its own: what it imports must not be forked. Say its end."""
    section = asked.extract.model_copy(update={"batch": choice.batch}).model_dump_json()
    code = "from pipeline.extract.runtimes import _trial; _trial.main()"
    command = [sys.executable, "-W", "ignore", "-c", code, choice.name, str(folder), section]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def _damaged(folder: Path) -> bool:
    """Say whether what a trial wrote is not what it was."""
    return (_read(folder) or {}).get("files") != _sha256(folder)


def _sha256(folder: Path) -> dict[str, str]:
    return registry.digests({path.name: path for path in folder.iterdir() if path.name != VERDICT})


def _read(folder: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads((folder / VERDICT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found


def write(folder: Path, verdict: dict[str, Any]) -> None:
    """Remember what a trial found."""
    (folder / VERDICT).write_text(json.dumps(verdict), encoding="utf-8")
