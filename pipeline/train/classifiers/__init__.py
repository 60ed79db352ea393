"""Classifiers: networks from features to logits; one file each, all trained in the same way.

A file of this folder defines `VERSION` and

    def build(train: TrainParams, dim: int, n_classes: int, n_rows: int) -> torch.nn.Module

which returns an untrained network from float32 [n, dim] to logits [n, n_classes], with a random
start drawn from torch's global generator. It consists of linear layers with ReLU between them, and
dropout if desired: nothing else is stored in a classifier's file, or computed when it is opened.
The file imports torch only inside functions, so that reading params.yaml stays fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.config import registry
from pipeline.config.sections import TrainParams
from pipeline.core.errors import SettingError

if TYPE_CHECKING:
    from torch import nn


def build(train: TrainParams, dim: int, n_classes: int, n_rows: int) -> nn.Module:
    """Build the untrained network that *train* names, for *n_rows* rows of training.

    Raises:
        SettingError: a classifier's file cannot hold it.
    """
    part = registry.find("train.classifiers", train.classifier, key="train.classifier")
    network: nn.Module = part.build(train, dim, n_classes, n_rows)
    return checked(network, train.classifier)


def checked(network: nn.Module, name: str) -> nn.Module:
    """Return *network* if a classifier's file can hold it.

    Raises:
        SettingError: it is not linear layers with ReLU between them, and perhaps dropout.
    """
    from torch import nn

    modules = [module for _, module in network.named_modules(remove_duplicate=False)]
    parts = [module for module in modules if type(module) not in {nn.Sequential, nn.Dropout}]
    linear, between = parts[::2], parts[1::2]
    if (
        [*map(type, linear)] != [nn.Linear] * (len(between) + 1)
        or [*map(type, between)] != [nn.ReLU] * len(between)
        or any(layer.bias is None for layer in linear)
    ):
        raise SettingError(
            f"train.classifier: {name!r} is {', '.join(type(part).__name__ for part in parts)}; a "
            "classifier is linear layers, each with a bias, with ReLU between them, in "
            "nn.Sequential if there are several, and with dropout at most"
        )
    return network
