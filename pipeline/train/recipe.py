"""The recipe of the classifier."""

from __future__ import annotations

from pipeline.annotations import label_separator
from pipeline.config import registry
from pipeline.config.loader import Params
from pipeline.config.machine import Machine
from pipeline.core import code_version, hardware
from pipeline.store.recipe import Recipe, recipe_of
from pipeline.train import label_map

VERSION = 9
"""Of the training: raise it when the same features give another classifier."""


def requested(params: Params) -> Recipe:
    """Return the half of the recipe that does not depend on the machine.

    Raises:
        InputError: the label map cannot be read.
    """
    part = registry.find("train.classifiers", params.train.classifier, key="train.classifier")
    code = {
        "training": VERSION,
        "classifier": part.VERSION,
        **code_version.edited("pipeline.train"),
    }
    recipe = recipe_of(params.train, code=code, label_map=label_map.read(params.train).sha256)
    recipe = recipe.extended(split=params.split.recipe_fields())  # model.json holds it
    separator = label_separator(params.annotations)
    return recipe if separator is None else recipe.extended(label_separator=separator)


def recipe(params: Params, machine: Machine) -> Recipe:
    """Return the recipe of the classifier, including this machine's numerics."""
    device = hardware.device(machine.device)
    numerics = hardware.numerics(device, ("torch", "numpy", "scipy"))
    numerics |= {"threads": hardware.cores()}
    return requested(params).extended(numerics=numerics)
