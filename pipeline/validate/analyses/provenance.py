"""What made the results, so that they can be made again: nothing about time, host or path."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

from ruamel.yaml import YAML

from pipeline.config.loader import Params
from pipeline.validate import recipe as results_recipe
from pipeline.validate.analyses import Result
from pipeline.validate.data import ValidationData
from pipeline.validate.report.blocks import Block, Code, Facts, ReportSection, Text

ORDER = 99
WIDTH = 100


def analyse(data: ValidationData) -> Result:
    """Show settings, code, recipes, machine and digests."""
    blocks: list[Block] = [
        Text(
            "The same code, settings and inputs on the same kind of machine give the same results, "
            "byte for byte."
        ),
        Code(settings(data.params), "Settings", "Settings: params.yaml, without paths"),
        Facts(provenance(data.params, data.card, data.inputs)),
    ]
    return Result(sections=[ReportSection("provenance", "Provenance", blocks)])


def settings(params: Params) -> str:
    """Return the settings that shape rows, as params.yaml has them."""
    sink = io.StringIO()
    yaml = YAML()
    yaml.width = WIDTH
    yaml.dump(json.loads(json.dumps(results_recipe.shown(params)["params"])), sink)
    return sink.getvalue()


def provenance(
    params: Params, card: Mapping[str, Any], inputs: Mapping[str, Any]
) -> dict[str, dict[str, str]]:
    """Return versions of the code, recipes, machine and digests: title → name → text.

    Args:
        params: of this run.
        card: of the classifier.
        inputs: digests of what the results are made from.
    """
    features, training = card["extractor"]["made_by"], card["made_by"]
    results = results_recipe.recipe(params).parts
    identity, calibration = features["identity"], card["calibration"]
    groups = {
        "Code": {
            "extract": features["code"],
            "train": training["code"],
            "validate": results["code"],
        },
        "Features": {
            **{f"extractor: {name}": value for name, value in identity.items()},
            **_machine(card["extractor"]),
        },
        "Classifier": {
            "epochs": card.get("epochs"),
            "L2 penalty": card.get("weight_decay"),
            **{f"calibration: {name}": value for name, value in calibration.items()},
            "label map, SHA-256": training["label_map"],
            **_machine(card),
        },
        "Inputs, SHA-256": {**inputs, "earlier classifiers": results.get("baselines", {})},
    }
    return {title: dict(_lines(values)) for title, values in groups.items()}


def _machine(made: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the recipe of *made* says about the machine, and the recipe's digest."""
    numerics = dict(made["made_by"]["numerics"])
    libraries = numerics.pop("libraries")
    return {**numerics, **libraries, "recipe": made["recipe"]}


def _lines(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Yield names and texts; a mapping gives one line for each item, an empty value none."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _lines(value, f"{before}{name}/")
        elif value not in (None, ""):
            yield before + name, f"{value:.6g}" if isinstance(value, float) else str(value)
