"""What turns features into probabilities: one file a classifier, all trained in one way.

A file of this folder defines `VERSION` and

    def build(train: Train, dim: int, n_classes: int, n_rows: int) -> torch.nn.Module

which gives an untrained network from float32 [n, dim] to logits [n, n_classes], its own random
start drawn from torch's global generator. It may import torch only inside, so that reading params
costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline import plugins
from pipeline.sections import Train

if TYPE_CHECKING:
    from torch import nn


def build(train: Train, dim: int, n_classes: int, n_rows: int) -> nn.Module:
    """Build the untrained network that *train* names, for *n_rows* rows of training."""
    part = plugins.find("classifiers", train.classifier, key="train.classifier")
    network: nn.Module = part.build(train, dim, n_classes, n_rows)
    return network


def version(train: Train) -> int:
    """Give the version of the code of the classifier that *train* names."""
    return int(plugins.find("classifiers", train.classifier, key="train.classifier").VERSION)
