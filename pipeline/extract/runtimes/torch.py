"""torch: the extractor as it is, on any device. Other runtimes are compared with this one."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.core.hardware import THREADS
from pipeline.extract.extractors import Extractor

MIXED = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Precisions that autocast uses where it is safe; the rest stays in fp32."""


class Eager:
    """An extractor as a Network (see pipeline/extract/runtimes/__init__.py).

    Args:
        extractor: is moved to *device*.
        batch: chips in a batch.
        precision: `extract.precision`.
        device: torch's name of the device.
    """

    def __init__(self, extractor: Extractor, batch: int, precision: str, device: str) -> None:
        make_exact(tf32=precision == "tf32")
        self.device, self.mixed = torch.device(device), MIXED.get(precision)
        self.extractor = extractor.to(self.device)
        self.batch, self.size, self.dim = batch, extractor.size, extractor.dim

    def __call__(self, chips: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed one full batch."""
        on_device = torch.from_numpy(chips).to(self.device)
        mixed = torch.autocast(self.device.type, self.mixed, enabled=self.mixed is not None)
        with torch.inference_mode(), mixed:
            features = self.extractor(on_device)
        embedded: NDArray[np.float32] = features.float().cpu().numpy()
        return embedded


def make_exact(*, tf32: bool = False) -> None:
    """Fix the threads, TF32 and the choice of kernels, so that bits do not change between runs."""
    torch.set_num_threads(THREADS)
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
