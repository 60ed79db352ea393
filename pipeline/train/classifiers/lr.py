"""LR: multinomial logistic regression, one linear layer; see pipeline/train/penalty_path.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.config.sections import TrainParams

if TYPE_CHECKING:
    from torch import nn

VERSION = 2


def build(train: TrainParams, dim: int, n_classes: int, n_rows: int) -> nn.Module:  # noqa: ARG001
    """Build the layer; see pipeline/train/classifiers/__init__.py."""
    from torch import nn

    layer = nn.Linear(dim, n_classes)
    # Its loss has one minimum, wherever training starts. A random start would stay as noise in the
    # directions along which the training rows do not vary.
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return nn.Sequential(layer)
