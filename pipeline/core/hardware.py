"""What of a machine decides the bits of floats: device, vector units and libraries.

Machines that are equal in these compute equal bits; others never share a shard.
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
"""GPU memory of each process: CUDA itself, a large network, and the activations of a batch."""

MAX_PROCESSES_PER_CARD = 8

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""As in glibc's malloc.h."""

KEPT_BYTES = (2**30, 2**25)

CUBLAS_WORKSPACE = ":4096:8"
"""Kibibytes and number of the buffers in which cuBLAS adds up in a fixed order."""

THREADS = 1
"""Threads in a process: another number gives other bits, so processes are added instead."""


@cache
def device(setting: str) -> str:
    """Return the device that *setting* (`auto`, `cpu`, `cuda`, `mps`) means on this machine.

    Torch is imported in a separate process, and only if there may be an accelerator: a process
    that has used CUDA cannot be forked, and one that does not compute should not import torch.

    Raises:
        SettingError: the device is not available.
    """
    if setting == "cpu" or (setting == "auto" and not _has_accelerator_files()):
        return "cpu"
    code = (
        "import torch; print('cuda' if torch.cuda.is_available() else "
        "'mps' if torch.backends.mps.is_available() else 'cpu')"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    available = run.stdout.strip() or "cpu"
    if setting not in {"auto", available}:
        raise SettingError(
            f"luigi.cfg: device: {setting!r} is not available, torch finds {available!r}; "
            "set [quadrat] device to auto"
        )
    return available


def _has_accelerator_files() -> bool:
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    return any(Path(path).exists() for path in ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd"))


def _query_card(fields: str) -> str:
    """Return these fields of the first card, as nvidia-smi states them."""
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return run.stdout.splitlines()[0].strip()


@cache
def device_kind(name: str) -> str:
    """Return the kind of the device *name*: a card's name, or a CPU's maker and vector units."""
    if name == "cuda":
        return f"cuda: {_query_card('name')}"
    if name == "mps":
        return f"mps: {platform.machine()}"
    return "cpu: " + " ".join([platform.machine(), *_cpu()])


@cache
def processes(name: str) -> int:
    """Return how many processes keep the device *name* busy: one a core, or several on a card.

    A card computes faster than one Python process can decode, cut and copy. Its processes share
    the cores for threads that decode.
    """
    if name == "cpu":
        return cores()
    if name != "cuda":
        return 1
    memory, mode = map(str.strip, _query_card("memory.total,compute_mode").split(","))
    if mode != "Default" or not memory.isdigit():  # only one process is allowed, or unknown memory
        return 1
    return max(1, min(int(memory) // (CARD_GIB * 1024), cores() // 2, MAX_PROCESSES_PER_CARD))


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
    """Return the major.minor version of each library: patch releases compute the same bits."""
    return {name: ".".join(version(name).split(".")[:2]) for name in names}


def numerics(device_name: str, names: Sequence[str]) -> dict[str, Any]:
    """Return what decides the bits of floats: *names* are the libraries that compute them."""
    return {
        "device": device_kind(device_name),
        "libraries": libraries(*names),
        "threads": THREADS,
    }


def keep_freed_memory() -> None:
    """Make glibc keep freed memory for the next tensor, instead of returning it to the system.

    Activations are so large that malloc requests each of them from the system, page by page, which
    takes a quarter of torch's time. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None:
        return
    for setting in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
        any(mallopt(setting, size) for size in KEPT_BYTES)  # older versions allow less


def compute_deterministically(device_name: str) -> None:
    """Have torch give the same bits at every run on a card; on a processor it does so by itself.

    Call it before anything is computed in this process: cuBLAS reads its variable then. Torch warns
    of an operation that has no deterministic form; its results may differ in the last bits.

    Source: PyTorch's notes, "Reproducibility"; cuBLAS's manual, "Results Reproducibility".
    """
    if device_name != "cuda":
        return
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = CUBLAS_WORKSPACE
    import torch

    torch.use_deterministic_algorithms(mode=True, warn_only=True)


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
