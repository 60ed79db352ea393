"""Reports of synthetic predictions, with little or with something in every section."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
from synthetic_predictions import multilabel_table, random_table

from pipeline.config.loader import load
from pipeline.config.sections import ValidateParams
from pipeline.core import rejects, schemas
from pipeline.core.rejects import Reject
from pipeline.validate import label_issues, results
from pipeline.validate.analyses import analyses
from pipeline.validate.comparable import Comparable
from pipeline.validate.near_duplicates import NearDuplicates
from pipeline.validate.overlaps import Overlaps
from pipeline.validate.pairs import COLUMNS
from pipeline.validate.predictions import Predictions
from pipeline.validate.report import page, pictures

SHIPPED = Path(__file__).parents[2] / "params.yaml"
FEW_ROUNDS = ValidateParams(bootstrap_rounds=20)
CURVE = pd.DataFrame(
    {
        "epoch": [1, 2, 3],
        "train_loss": [2.0, 1.0, 0.5],
        "calibration_loss": [2.1, 1.2, 1.1],
        "calibration_accuracy": [0.3, 0.6, 0.7],
    }
)
MADE_BY = {
    "code": {"engine": 2},
    "identity": {"name": "filters", "weights_sha256": "none"},
    "numerics": {"device": "cpu", "libraries": {"torch": "2.11"}, "threads": 1},
    "label_map": "",
}
CARD = {
    "extractor": {"made_by": MADE_BY, "recipe": "f" * 64},
    "made_by": {**MADE_BY, "code": {"training": 6}},
    "recipe": "c" * 64,
    "epochs": 3,
    "calibration": {"method": "temperature", "temperature": 1.23456789},
    "labels": {"to": {}},
}
NOISE = np.random.default_rng(1).integers(0, 256, (400, 400, 3), dtype=np.uint8)


def labels_of(rows):
    """Make a labels table of (key, group, split, label)."""
    names = ("key", "group", "split", "label")
    columns = {
        name: pa.array([row[at] for row in rows], pa.string()) for at, name in enumerate(names)
    }
    columns["chip_id"] = pa.array([at.to_bytes(16, "big") for at in range(len(rows))])
    return pa.table(columns | dict.fromkeys(("row", "col"), pa.array([5] * len(rows))))


def near_of(rows=(), *, n_validation=10, n_training=20, **more):
    """Make near duplicates from the rows' values in the order of the table's columns."""
    columns = [*COLUMNS, *(f"near_{name}" for name in COLUMNS), "distance", "usual_distance"]
    counts = {"n_validation": n_validation, "n_training": n_training}
    counts |= {"all_validation": n_validation, "all_training": n_training, **more}
    return NearDuplicates(pd.DataFrame(rows, columns=columns), **counts)


def overlaps_of(rows=(), images=(), **counts):
    """Make overlaps from the rows' values in the order of the tables' columns."""
    columns = [*COLUMNS, *(f"near_{name}" for name in COLUMNS), "shared_pixels", "share"]
    by_split = pd.DataFrame(images, columns=["key", "train", "validation"])
    counts = {"n_pairs": len(rows), "n_validation": len(rows), "n_images": len(images), **counts}
    return Overlaps(pd.DataFrame(rows, columns=columns), images=by_split, **counts)


def cut(chip_ids, count):
    """Cut every chip out of the same noise."""
    webp = pictures.picture(NOISE, (100, 120, 160, 160), count)
    return dict.fromkeys(chip_ids, webp)


def data_of(predictions, classes, separator=None, **changes):
    """Return what the analyses read, as ValidationData has it; empty if a report needs none."""
    made = Predictions(predictions, classes, separator)
    params = replace(load(SHIPPED), validate=FEW_ROUNDS)
    values = {
        "params": params,
        "validate": params.validate,
        "predictions": made,
        "calibration_predictions": replace(made, table=predictions.slice(0, 0)),
        "evaluation": made.evaluation,
        "earlier": {},
        "classifier": SimpleNamespace(sizes=(8, 100, len(classes))),
        "card": CARD,
        "label_map": {},
        "labels": labels_of(
            [("a.jpg", "g", "train", "c000"), ("b.jpg", "h", "validation", "c001")]
        ),
        "images": pa.table({"key": ["a.jpg", "b.jpg"], "version": ["1", "2"]}),
        "near_duplicates": near_of(),
        "overlaps": overlaps_of(),
        "rejected": rejects.table([]),
        "decoder_warnings": warned([]),
        "curve": CURVE,
        "metadata": lambda name: [f"{name} {at % 7}" for at in range(predictions.num_rows)],
        "pictures": cut,
        "inputs": {"labels": "0123456789abcdef" * 4},
        "results": [],
    }
    values |= changes
    both = values["predictions"], values["calibration_predictions"]
    return SimpleNamespace(label_issues=label_issues.find(*both), **values)


def with_validate(data, **settings):
    """Return *data* with some settings of `validate`."""
    validate = data.validate.model_copy(update=settings)
    params = replace(data.params, validate=validate)
    return SimpleNamespace(**{**vars(data), "validate": validate, "params": params})


def run(data):
    """Run all analyses, and return their results."""
    data.results = []
    for analysis in analyses():
        data.results.append(analysis.analyse(data))
    return data.results


def html_of(data):
    """Return the report of *data*."""
    run(data)
    return page.render(results.report_page(data))


def full_data(n_classes, *, multilabel=False, gallery=200):
    """Return data with something for every section, of *n_classes* classes."""
    n = 30 * n_classes
    if multilabel:
        predictions, classes, separator = *_multilabel_predictions(n, n_classes), ";"
        other = predictions
    else:
        predictions, classes = random_table(1, n=n, n_classes=n_classes, n_groups=40, hit=3.0)
        separator, other = None, random_table(2, n=n, n_classes=n_classes, n_groups=40, hit=2.0)[0]
        at = predictions.schema.get_field_index("predicted")
        other = predictions.set_column(at, "predicted", other["predicted"])
    made = data_of(predictions, classes, separator)
    pair = ["00" * 16, "reef/a.jpg", 1, 2, "validation", "c000"]
    near = ["11" * 16, "reef/b.jpg", 3, 4, "train", "c001", 0.5, 2.0]
    thresholds = dict.fromkeys(classes, 0.4)
    changes = {
        "calibration_predictions": made.predictions,
        "label_issues": label_issues.find(made.predictions, made.predictions),
        "earlier": {
            "2023-survey": Comparable(
                made.evaluation, Predictions(other, classes, separator).evaluation
            ),
            "main": Comparable(made.evaluation, made.evaluation),
        },
        "card": CARD | {"calibration": {"method": "sigmoid", "thresholds": thresholds}},
        "labels": labels_of(
            [
                (f"{folder}/{i}.jpg", f"g{i % 3}", split, "c000")
                for i in range(12)
                for folder, split in (("reef", "train"), ("again", "validation"))
            ]
        ),
        "images": pa.table(
            {
                "key": [f"{folder}/{i}.jpg" for i in range(12) for folder in ("reef", "again")],
                "version": [str(i) for i in range(12) for _ in range(2)],
            }
        ),
        "near_duplicates": near_of([[*pair, *near]] * 3),
        "overlaps": overlaps_of([[*pair, *near[:6], 8, 0.5]] * 3, [("reef/a.jpg", 1, 1)]),
        "rejected": rejects.table(
            [
                Reject("chip", "reef/a.jpg", "points_outside", "row 9 is below reef/a.jpg", 9, 2),
                Reject("extract", "reef/b.jpg", "truncated", "the data end early"),
            ]
        ),
        "decoder_warnings": warned([(b"w" * 16, "reef/c.jpg", "bad Huffman code")]),
    }
    data = SimpleNamespace(**vars(made) | changes)
    return with_validate(data, gallery_size=gallery, by=("site", "day"), target_accuracy=0.9)


def warned(rows):
    """Chips that their decoder warned of: chip_id, key and warning."""
    names = ("chip_id", "key", "decoder_warning")
    kinds = (schemas.CHIP_ID, pa.string(), pa.string())
    columns = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.table(
        {
            name: pa.array(column, kind)
            for name, column, kind in zip(names, columns, kinds, strict=True)
        }
    )


def _multilabel_predictions(n, n_classes):
    generator = np.random.default_rng(1)
    p = generator.uniform(0, 1, (n, n_classes)).round(2)
    truth = generator.uniform(0, 1, p.shape) < p
    classes = [f"c{at:03d}" for at in range(n_classes)]
    return multilabel_table(truth, p >= 0.4, p, classes), classes
