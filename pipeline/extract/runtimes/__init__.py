"""Runtimes: what runs an extractor's network. Torch itself, or an inference runtime for processors.

A file of this folder is a runtime. Every one except torch's defines

    PACKAGES: tuple[str, ...]               what must be installed; their versions are in the recipe
    PRECISIONS: Mapping[str, Any]           the values of extract.precision that it supports
    def export(module, chips, folder)       write what `load` needs of a torch module; imports torch
    def load(folder, precision) -> Network  without torch
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from pipeline.config import registry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TORCH = "torch"


class Network(Protocol):
    """An extractor that is ready to run, in one fixed batch shape.

    Attributes:
        batch: chips in a batch.
        size: height and width of the chips that it takes, in pixels.
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


def part(name: str) -> Any:
    """Import the file of the runtime *name*."""
    return registry.find("extract.runtimes", name, key="extract.runtime")
