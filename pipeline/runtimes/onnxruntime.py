"""ONNX Runtime: the network as an ONNX graph, optimised for this processor; fp32 alone.

Source: https://onnxruntime.ai/docs/performance, "Graph optimizations" and "Thread management".
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.numerics import THREADS

if TYPE_CHECKING:
    import torch

PACKAGES = ("onnxruntime", "onnx", "onnxscript")
"""The last two write the graph."""

PRECISIONS = {"fp32": "float32"}

MODEL = "model.onnx"


def export(module: torch.nn.Module, chips: NDArray[np.uint8], folder: Path) -> None:
    """Write the graph of *module*, for batches of the shape of *chips*, into *folder*."""
    import torch

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.from_numpy(chips),),
            str(folder / MODEL),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def load(folder: Path, precision: str) -> Session:  # noqa: ARG001 - there is one
    """Open what `export` has written."""
    return Session(folder / MODEL)


class Session:
    """A graph as a Network (see pipeline/runtimes/__init__.py)."""

    def __init__(self, path: Path) -> None:
        import onnxruntime  # type: ignore[import-untyped]

        options: Any = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        (chips,) = self.session.get_inputs()
        (features,) = self.session.get_outputs()
        self.batch, self.size = chips.shape[:2]
        self.dim, self.name = features.shape[1], chips.name

    def __call__(self, chips: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed one full batch."""
        features: NDArray[np.float32] = self.session.run(None, {self.name: chips})[0]
        return features
