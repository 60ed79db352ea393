"""OpenVINO: the network compiled for this processor, several times as fast as torch.

Source: https://docs.openvino.ai, "CPU device" and "Convert from PyTorch".
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.hardware import THREADS

if TYPE_CHECKING:
    import torch

PACKAGES = ("openvino",)

MODEL = "model.xml"
PRECISIONS = {"fp32": "f32", "bf16": "bf16"}


def export(module: torch.nn.Module, chips: NDArray[np.uint8], folder: Path) -> None:
    """Write the graph of *module*, for batches of the shape of *chips*, into *folder*."""
    import torch

    openvino = _openvino()
    with torch.no_grad():
        program = torch.export.export(module, (torch.from_numpy(chips),))
    model = openvino.convert_model(program)
    model.reshape(list(chips.shape))
    openvino.save_model(model, folder / MODEL, compress_to_fp16=False)


class Compiled:
    """What `export` has written, as a Network (see pipeline/extract/runtimes/__init__.py)."""

    def __init__(self, folder: Path, precision: str) -> None:
        settings = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
            "INFERENCE_NUM_THREADS": THREADS,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # several processes would pin themselves to one core
        }
        compiled = _openvino().Core().compile_model(folder / MODEL, "CPU", settings)
        self.batch, self.size = map(int, tuple(compiled.input(0).shape)[:2])
        self.dim = int(compiled.output(0).shape[1])
        self.request = compiled.create_infer_request()

    def __call__(self, chips: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed one full batch."""
        features: NDArray[np.float32] = self.request.infer([chips], share_inputs=True)[0].copy()
        return features


load = Compiled


def _openvino() -> Any:
    """Import OpenVINO without its telemetry, which would report every import over the network."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino
