"""What made the results, so that they can be made again: nothing of clock, host or path."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

from ruamel.yaml import YAML

from pipeline.config.loader import Params
from pipeline.validate import recipe as results_recipe

WIDTH = 100


def settings(params: Params) -> str:
    """Give the settings that shape rows, as params.yaml has them."""
    sink = io.StringIO()
    yaml = YAML()
    yaml.width = WIDTH
    yaml.dump(json.loads(json.dumps(results_recipe.shown(params)["params"])), sink)
    return sink.getvalue()


def provenance(
    params: Params, card: Mapping[str, Any], inputs: Mapping[str, Any]
) -> dict[str, dict[str, str]]:
    """Give code, recipes, machine and digests: section → name → text.

    Args:
        params: of this run.
        card: the classifier's.
        inputs: digests of what the results start from.
    """
    features, training = card["extractor"]["made_by"], card["made_by"]
    results = results_recipe.recipe(params).parts
    versions = {**features["code"], **training["code"], **results["code"]}
    identity, calibration = features["identity"], card["calibration"]
    found = {
        "Code": {
            "git tree of pipeline/": results_recipe.shown(params)["code"],
            **{f"version: {name}": version for name, version in sorted(versions.items())},
        },
        "Features": {
            **{f"extractor: {name}": value for name, value in identity.items()},
            **_machine(card["extractor"]),
        },
        "Classifier": {
            "epochs": card.get("epochs"),
            **{f"calibration: {name}": value for name, value in calibration.items()},
            "label map, SHA-256": training["label_map"],
            **_machine(card),
        },
        "Inputs, SHA-256": {**inputs, "earlier classifiers": results.get("baselines", {})},
    }
    return {section: dict(_lines(values)) for section, values in found.items()}


def _machine(made: Mapping[str, Any]) -> dict[str, Any]:
    """Give what of the machine is in the recipe by which *made* was made, and the recipe."""
    numerics = dict(made["made_by"]["numerics"])
    libraries = numerics.pop("libraries")
    return {**numerics, **libraries, "recipe": made["recipe"]}


def _lines(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Give names and texts, tables in them line by line; nothing of what is empty."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _lines(value, f"{before}{name}/")
        elif value not in (None, ""):
            yield before + name, f"{value:.6g}" if isinstance(value, float) else str(value)
