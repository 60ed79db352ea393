"""The recipe of the features table, and the runtime that computes it on this machine.

The recipe has two halves. What is *requested* does not depend on the machine: the section, the
extractor's identity with its weights' digest, the version of the code. DVC reruns the stage when
that changes. The *numerics* are what decides the bits of a float on this machine: the kind of
device, the libraries, the runtime, the batch. Features of different numerics are never mixed.
"""

from __future__ import annotations

from typing import Any

from pipeline import images
from pipeline.config.machine import Machine
from pipeline.config.sections import ExtractParams
from pipeline.core import code_version
from pipeline.extract import extractors, runtime
from pipeline.extract.runtime import FeaturesRequest, Runtime
from pipeline.images import resize, windows
from pipeline.store.recipe import recipe_of

VERSION = 3
"""Of the engine: raise it when the features of the same chips change."""


def request(extract: ExtractParams, machine: Machine) -> FeaturesRequest:
    """Return the features that *extract* requests on this machine.

    Raises:
        SettingError, InputError: the extractor or its weights are not available.
    """
    extractor = extractors.choose(extract, machine)
    code: dict[str, Any] = {"engine": VERSION, "images": images.VERSION}
    code |= {"windows": windows.VERSION, "fit": resize.VERSION}
    code |= code_version.edited(
        "pipeline.extract.stage",
        "pipeline.extract.runtimes",
        f"pipeline.extract.extractors.{extract.part[0]}",
    )
    recipe = recipe_of(extract, identity=extractor.identity(), code=code)
    return FeaturesRequest(extractor, recipe, machine)


def embedding(extract: ExtractParams, machine: Machine) -> Runtime:
    """Choose the runtime for *extract* on this machine; it has the recipe of the features.

    Raises:
        SettingError, InputError: as `request` and `runtime.choose`.
    """
    return runtime.choose(request(extract, machine))
