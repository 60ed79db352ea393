"""What a machine is, as far as it decides the bits of a float: device, vector units, libraries.

Two machines with equal answers give equal bits; with other answers they never share a shard.
"""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.core.errors import SettingError

VECTOR_UNITS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
"""Instruction sets between which the CPU kernels of torch and its libraries choose."""

CARD_GIB = 8
"""Of a card's memory, for each process that computes on it: CUDA itself, a large network, and what
passes between the layers of a batch."""

MOST_ON_A_CARD = 8

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""As glibc's malloc.h has them."""

KEPT_BYTES = (2**30, 2**25)

THREADS = 1
"""Threads a process computes with: another number gives other bits, so processes are added."""


@cache
def device(wanted: str) -> str:
    """Give the device that *wanted* (`auto`, `cpu`, `cuda`, `mps`) means on this machine.

    Asks torch, in a process of its own: a process that has touched CUDA cannot be forked, and one
    that has nothing to compute should not import torch. Where no accelerator can be, it is not
    asked at all.

    Raises:
        SettingError: *wanted* is not there.
    """
    possible = _accelerator_files()
    if wanted == "cpu" or (wanted == "auto" and not possible):
        return "cpu"
    ask = (
        "import torch; print('cuda' if torch.cuda.is_available() else "
        "'mps' if torch.backends.mps.is_available() else 'cpu')"
    )
    answer = subprocess.run(
        [sys.executable, "-c", ask], capture_output=True, text=True, check=False
    )
    found = answer.stdout.strip() or "cpu"
    if wanted not in {"auto", found}:
        raise SettingError(
            f"luigi.cfg: device: {wanted!r} is not to be had here, torch sees {found!r}; "
            "set [quadrat] device to auto"
        )
    return found


def _accelerator_files() -> bool:
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    return any(Path(path).exists() for path in ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd"))


@cache
def device_kind(name: str) -> str:
    """Say what kind of device *name* is: a card's name, or a CPU's maker and vector units."""
    if name == "cuda":
        ask = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        answer = subprocess.run(ask, capture_output=True, text=True, check=True)
        return f"cuda: {answer.stdout.splitlines()[0].strip()}"
    if name == "mps":
        return f"mps: {platform.machine()}"
    return "cpu: " + " ".join([platform.machine(), *_cpu()])


@cache
def processes(name: str) -> int:
    """Count the processes that keep device *name* busy: one a core, or some that share a card.

    A card computes faster than one process can decode, cut and hand over: Python does one thing at
    a time. The processes share the cores between them as threads that decode.
    """
    if name == "cpu":
        return cores()
    if name != "cuda":
        return 1
    ask = ["nvidia-smi", "--query-gpu=memory.total,compute_mode", "--format=csv,noheader,nounits"]
    answer = subprocess.run(ask, capture_output=True, text=True, check=True)
    memory, mode = (word.strip() for word in answer.stdout.splitlines()[0].split(","))
    if mode != "Default" or not memory.isdigit():  # one process alone may, or it is unknown
        return 1
    return max(1, min(int(memory) // (CARD_GIB * 1024), cores() // 2, MOST_ON_A_CARD))


def _cpu() -> list[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return [platform.system()]
    fields = dict(line.replace("\t", "").split(": ", 1) for line in lines if ": " in line)
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    maker = fields.get("vendor_id", fields.get("CPU implementer", ""))
    return [maker, *(unit for unit in VECTOR_UNITS if unit in flags)]


def libraries(*names: str) -> dict[str, str]:
    """Give the major.minor version of each of *names*: a patch release keeps its bits."""
    return {name: ".".join(version(name).split(".")[:2]) for name in names}


def numerics(device_name: str, names: Sequence[str]) -> dict[str, Any]:
    """Return what decides the bits of floats that a process computes here, for a recipe.

    Args:
        device_name: torch's name of the device.
        names: the libraries that compute.
    """
    return {
        "device": device_kind(device_name),
        "libraries": libraries(*names),
        "threads": THREADS,
    }


def keep_freed_memory() -> None:
    """Have the C library keep what is freed for what comes next, instead of giving it back.

    What passes between a network's layers is so large that each tensor is asked of the system anew,
    page by page: a quarter of torch's time. Nothing is done where the library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None:
        return
    for setting in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
        any(mallopt(setting, most) for most in KEPT_BYTES)  # older ones allow less


def cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
