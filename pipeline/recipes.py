"""Recipes: everything but the input rows that shapes a row of a table.

A recipe has two halves. What was *asked*: the section of params.yaml, and what its parts say they
are (weights' digest, the code's version). And the *numerics* of the machine, where floats are
computed: device, vector units, libraries. DVC reruns a stage when what was asked has changed (the
index writes it down, see `asked`); the store never mixes rows of different recipes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline import images
from pipeline.annotations import label_separator
from pipeline.chip import labels, methods
from pipeline.config import registry
from pipeline.config.loader import SECTIONS, Params
from pipeline.config.machine import Machine
from pipeline.config.sections import Section, TrainParams
from pipeline.core import code_version, hardware, schemas
from pipeline.core.errors import InputError, Missing, StorageError
from pipeline.core.hashing import digest
from pipeline.images import resize, windows
from pipeline.storage import read_url
from pipeline.train.label_map import LabelMap, read_map

if TYPE_CHECKING:
    from pipeline.extract import runtimes

INDEX_VERSION = 1
ENGINE_VERSION = 2
TRAINING_VERSION = 7
RESULTS_VERSION = 7


@dataclass(frozen=True, slots=True)
class Recipe:
    """One stage's recipe, as readable parts."""

    parts: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """The recipe's name in the store: 64 hex digits."""
        return digest(dict(self.parts))


def _recipe(section: Section, **parts: Any) -> Recipe:
    return Recipe({"section": section.recipe_fields(), **parts})


def index(params: Params) -> Recipe:
    """Give the recipe of image headers."""
    code = {"index": INDEX_VERSION, "images": images.VERSION}
    return _recipe(params.bucket, code=code, schema=schemas.fingerprint(schemas.HEADERS))


def chip(params: Params) -> Recipe:
    """Give the recipe of chips."""
    code: dict[str, Any] = {"chips": methods.VERSION, "windows": windows.VERSION}
    part = registry.find("chip.methods", params.chip.method, key="chip.method")
    if hasattr(part, "TABLES"):
        columns = (schemas.LISTED, schemas.MEASURED)
        code |= {"method": part.VERSION, "tables": schemas.fingerprint(pa.unify_schemas(columns))}
    if methods.nodata(params.chip) is None:
        return _recipe(params.chip, code=code, schema=schemas.fingerprint(schemas.CHIPS))
    code |= {"images": images.VERSION}
    return _recipe(params.chip, code=code, schema=schemas.fingerprint(schemas.SCENE_CHIPS))


def label(params: Params) -> Recipe:
    """Give the recipe of labels: the annotations' format, and the split."""
    split = params.split.recipe_fields()
    if params.split.by in params.index.fields:
        split["pattern"] = params.index.pattern
    return _recipe(
        params.annotations,
        split=split,
        code={"labels": labels.VERSION},
        schema=schemas.fingerprint(schemas.LABELS),
    )


def extract_asked(params: Params) -> Recipe:
    """Give the half of the features' recipe that does not depend on the machine.

    Raises:
        SettingError, InputError: the extractor or its weights cannot be had.
    """
    from pipeline.extract import extractors

    weights = extractors.weights_of(params.extract)
    code = {"engine": ENGINE_VERSION, "images": images.VERSION}
    code |= {"windows": windows.VERSION, "fit": resize.VERSION}
    identity = extractors.identity(params.extract, weights)
    return _recipe(params.extract, identity=identity, code=code)


def runtime_asked(params: Params, machine: Machine) -> runtimes.RuntimeRequest:
    """Give what decides which runtime computes features on this machine."""
    from pipeline.extract import runtimes

    return runtimes.RuntimeRequest(params.extract, extract_asked(params).parts, machine)


def extract(params: Params, machine: Machine) -> Recipe:
    """Give the recipe of features, the machine's numerics included."""
    return extract_by(runtime_asked(params, machine))


def extract_by(asked: runtimes.RuntimeRequest) -> Recipe:
    """Give the recipe of features by the runtime that *asked* comes to."""
    from pipeline.extract import runtimes

    libraries = ("torch", "torchvision", "Pillow", "simplejpeg", "numpy")
    ours = _numerics(asked.machine, *libraries) | runtimes.choose(asked).parts()
    return Recipe({**asked.parts, "numerics": ours})


def train_asked(params: Params) -> Recipe:
    """Give the half of the classifier's recipe that does not depend on the machine."""
    part = registry.find("train.classifiers", params.train.classifier, key="train.classifier")
    code = {"training": TRAINING_VERSION, "classifier": part.VERSION}
    mapped = label_map(params.train).sha256
    return _recipe(params.train, code=code, label_map=mapped, **_several(params))


def _several(params: Params) -> dict[str, str]:
    """Give what parts the labels of a chip, where it may have several."""
    separator = label_separator(params.annotations)
    return {} if separator is None else {"label_separator": separator}


def label_map(section: TrainParams) -> LabelMap:
    """Read the label map that `train.label_map` names.

    Raises:
        InputError: it cannot be read.
    """
    path = section.label_map
    if path is None:
        return LabelMap()
    try:
        data, _ = read_url(path)
    except (Missing, StorageError) as error:
        raise InputError(f"train.label_map: {error}") from error
    return read_map(data, path)


def train(params: Params, machine: Machine) -> Recipe:
    """Give the recipe of a classifier."""
    asked = train_asked(params).parts
    ours = _numerics(machine, "torch", "numpy") | {"threads": hardware.cores()}
    return Recipe({**asked, "numerics": ours})


def validate(params: Params) -> Recipe:
    """Give the recipe of the results."""
    more = {"earlier": _earlier(params.validate.compare)} if params.validate.compare else {}
    code = {"results": RESULTS_VERSION}
    return _recipe(params.validate, code=code, **more, **_several(params))


def _earlier(names: tuple[str, ...]) -> dict[str, str]:
    from pipeline.validate import baselines

    return {name: baselines.digest_of(name) for name in names}


def shown(params: Params) -> dict[str, Any]:
    """Give what the report shows of this run's making: the code, and the settings that shape rows.

    What chooses the images is among them; where they lie is not.
    """
    settings = {key: getattr(params, key).recipe_fields() for key in SECTIONS}
    chosen = params.bucket.model_dump(mode="json", include={"include", "exclude"})
    settings["bucket"] = {**chosen, **settings["bucket"]}
    return {"code": code_version.tree(), "params": settings}


def _numerics(machine: Machine, *names: str) -> dict[str, Any]:
    return {
        "device": hardware.device_kind(hardware.device(machine.device)),
        "libraries": hardware.libraries(*names),
        "threads": hardware.THREADS,
    }


def asked(params: Params) -> dict[str, Recipe]:
    """Give, by stage, what was asked of it: the files on which DVC lets each stage depend."""
    return {
        "chip": Recipe({"chips": dict(chip(params).parts), "labels": dict(label(params).parts)}),
        "extract": extract_asked(params),
        "train": train_asked(params),
        "validate": Recipe({"results": dict(validate(params).parts), "shown": shown(params)}),
    }
