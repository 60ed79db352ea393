"""The recipe of the features table, and the runtime that computes it on this machine.

The recipe has two halves. What is *requested* does not depend on the machine: the section, the
extractor's identity with its weights' digest, the version of the code. DVC reruns the stage when
that changes. The *numerics* are what decides the bits of a float on this machine: the kind of
device, the libraries, the runtime, the batch. Features of different numerics are never mixed.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline import images
from pipeline.config.machine import Machine
from pipeline.config.sections import ExtractParams
from pipeline.core import hardware
from pipeline.extract import extractors, runtime
from pipeline.extract.runtime import Runtime, RuntimeRequest
from pipeline.images import resize, windows
from pipeline.store.recipe import Recipe, recipe_of

VERSION = 2
"""Of the engine: raise it when the features of the same chips change."""

LIBRARIES = ("torch", "torchvision", "Pillow", "simplejpeg", "numpy")


@dataclass(frozen=True, slots=True)
class Embedding:
    """How features are computed on this machine: what is requested, by which runtime."""

    request: RuntimeRequest
    runtime: Runtime

    @property
    def recipe(self) -> Recipe:
        """The recipe of the features."""
        numerics = {
            **hardware.numerics(self.request.device, LIBRARIES),
            **self.runtime.recipe_parts(),
        }
        return self.request.recipe.extended(numerics=numerics)


def request(extract: ExtractParams, machine: Machine) -> RuntimeRequest:
    """Return what is requested of a runtime on this machine.

    Raises:
        SettingError, InputError: the extractor or its weights are not available.
    """
    extractor = extractors.choose(extract, machine)
    code = {"engine": VERSION, "images": images.VERSION}
    code |= {"windows": windows.VERSION, "fit": resize.VERSION}
    recipe = recipe_of(extract, identity=extractor.identity(), code=code)
    return RuntimeRequest(extractor, recipe, machine)


def embedding(extract: ExtractParams, machine: Machine) -> Embedding:
    """Choose the runtime for *extract* on this machine.

    Raises:
        SettingError, InputError: as `request` and `runtime.choose`.
    """
    requested = request(extract, machine)
    return Embedding(requested, runtime.choose(requested))
