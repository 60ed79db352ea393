"""LR: multinomial logistic regression, one linear layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.sections import Train

if TYPE_CHECKING:
    from torch import nn

VERSION = 1


def build(train: Train, dim: int, n_classes: int, n_rows: int) -> nn.Module:  # noqa: ARG001
    """Build the layer; see pipeline/classifiers/__init__.py."""
    from torch import nn

    return nn.Sequential(nn.Linear(dim, n_classes))
