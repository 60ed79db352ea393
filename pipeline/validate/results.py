"""Run all analyses, and turn what they return into the files of `results/`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import schemas
from pipeline.core.run_log import pluralize
from pipeline.store import tables
from pipeline.store.context import Context
from pipeline.store.outputs import CLASSIFIER, pretty
from pipeline.train import labelled_features, model
from pipeline.validate import recipe as results_recipe
from pipeline.validate.analyses import Result, analyses
from pipeline.validate.analyses.splits import SPLITS
from pipeline.validate.data import ValidationData
from pipeline.validate.report import page
from pipeline.validate.report.blocks import Page, ReportSection
from pipeline.validate.spreadsheet import to_csv
from pipeline.validate.valresult import valresult

CACHE_BYTES = 512 * 2**20
"""Of features that are kept in memory, as they are read five times."""

DIGEST_SHOWN = 12

HEADLINE = (
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "balanced_accuracy",
    "macro_f1",
    "samples_f1",
    "log_loss",
    "ece",
    "calibrated",
    "threshold_coverage",
    "threshold_accuracy",
    "n_validation",
    "n_label_issues",
)
"""The metrics of `metrics.json`, which `dvc exp show` compares; all are in `all_metrics.json`."""


def files(context: Context, inputs: Mapping[str, Any]) -> dict[str, bytes]:
    """Run all analyses, and return the files of `results/` by name.

    Args:
        context: of the stage.
        inputs: digests of what the results are made from.
    """
    data = read(context, inputs)
    for analysis in analyses():
        data.results.append(analysis.analyse(data))
    return _files(data)


def read(
    context: Context, inputs: Mapping[str, Any], evaluated: str = "validation"
) -> ValidationData:
    """Read the classifier, and the data that it is evaluated on.

    Args:
        context: of the stage.
        inputs: digests of what the results are made from.
        evaluated: the split to be evaluated. The test split is left out of everything else.
    """
    labels = tables.labels()
    labels = labels.filter(labels["label"].is_valid())  # others must not change the results
    labels = labels.filter(pc.is_in(labels["split"], value_set=pa.array([*SPLITS, evaluated])))
    shards = labelled_features.FeatureShards(cache_bytes=CACHE_BYTES)
    chips, calibration = labelled_features.of_splits(
        labels, evaluated, "calibration", shards=shards
    )
    return ValidationData(context, model.read(CLASSIFIER), labels, chips, calibration, inputs)


def _files(data: ValidationData) -> dict[str, bytes]:
    """Return the files of `results/` by name."""
    metrics: dict[str, float] = {}
    csv_tables: dict[str, pd.DataFrame] = {}
    drawings: dict[str, Any] = {}
    for result in data.results:
        metrics |= {name: round(value, 6) for name, value in result.metrics.items()}
        csv_tables |= result.tables
        drawings |= result.plots
    predictions = data.predictions.table
    spacer = valresult(predictions["score"], data.evaluation)
    return {
        "metrics.json": pretty({name: metrics[name] for name in HEADLINE if name in metrics}),
        "all_metrics.json": pretty(metrics),
        "predictions.parquet": schemas.to_bytes(predictions),
        "valresult.json": json.dumps(spacer, ensure_ascii=False).encode(),
        "report.html": page.render(report_page(data)).encode(),
        **{f"tables/{name}.csv": to_csv(table) for name, table in csv_tables.items()},
        **{f"plots/{name}.png": png for name, png in page.plots(drawings).items()},
    }


def report_page(data: ValidationData) -> Page:
    """Return the report, made of what the analyses have returned."""
    title = results_recipe.data_set(data.params)
    return Page(
        title=title,
        about=_about(data),
        lede=[sentence for result in data.results for sentence in result.lede],
        notes=[note for result in data.results for note in result.notes],
        sections=merged(data.results),
    )


def merged(results: Sequence[Result]) -> list[ReportSection]:
    """Return the sections of all results, those with the same id as one."""
    sections: dict[str, ReportSection] = {}
    for section in (section for result in results for section in result.sections):
        first = sections.get(section.id)
        blocks = [*first.blocks, *section.blocks] if first else section.blocks
        known = first or section
        sections[section.id] = ReportSection(known.id, known.title, blocks, known.nav)
    return list(sections.values())


def _about(data: ValidationData) -> list[tuple[str, str]]:
    """Return what the results are of: data set, extractor, classifier, settings and code."""
    params, card = data.params, data.card
    identity = card["extractor"]["made_by"]["identity"]
    weights = str(identity.get("weights_sha256") or "none")[:DIGEST_SHOWN]
    pixels = getattr(params.chip, "size", None)
    size = f" of {pixels} pixels" if pixels else ""
    hidden = " and ".join(map(str, data.classifier.sizes[1:-1]))
    return [
        ("Data set", f"{results_recipe.data_set(params)}: {_counted(data)}"),
        ("Chips", f"{params.chip.method}{size}; split by {params.split.by}"),
        ("Extractor", f"{params.extract.extractor}, weights {weights}"),
        (
            "Classifier",
            params.train.classifier + (f", hidden layers of {hidden}" if hidden else ""),
        ),
        ("Code", _code(data)),
    ]


def _code(data: ValidationData) -> str:
    """Return which stages were made by edited code; see core/code_version.py."""
    made_by = {
        "extract": data.card["extractor"]["made_by"],
        "train": data.card["made_by"],
        "validate": results_recipe.recipe(data.params).parts,
    }
    codes = {stage: parts["code"] for stage, parts in made_by.items()}
    edited = [stage for stage, code in codes.items() if "edited" in code]
    of = f"edited, for {' and '.join(edited)}" if edited else "as in pipeline/code.lock"
    return f"{of}; results version {codes['validate']['results']}"


def _counted(data: ValidationData) -> str:
    images, chips = data.images.num_rows, data.labels.num_rows
    return f"{pluralize(chips, 'labelled chips')} of {pluralize(images, 'images')}"
