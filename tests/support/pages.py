"""Facts for tests of the report: of made-up predictions, sparse or with something everywhere."""

from dataclasses import replace

import numpy as np
import pandas as pd
from judging import random_table, several_table

from pipeline.config.sections import ValidateParams
from pipeline.core import rejects
from pipeline.core.rejects import Reject
from pipeline.validate import metrics
from pipeline.validate.metrics import _compared, _cover, _several, _tables, _trust, judged
from pipeline.validate.report import (
    KINDS,
    GalleryChoice,
    GalleryItem,
    ReportFacts,
    SplitCount,
    Trust,
    picture,
)

CURVE = pd.DataFrame(
    {
        "epoch": [1, 2, 3],
        "train_loss": [2.0, 1.0, 0.5],
        "calibration_loss": [2.1, 1.2, 1.1],
        "calibration_accuracy": [0.3, 0.6, 0.7],
    }
)
FEW_ROUNDS = ValidateParams(bootstrap_rounds=20)


def facts_of(predictions, classes, separator=None, **changes):
    """Give the facts of *predictions*, nothing of what a report can do without."""
    facts = _judged(predictions, classes, separator)
    made = ReportFacts(
        title="Reef",
        metrics=metrics.compute(facts, FEW_ROUNDS),
        judged=facts,
        curve=CURVE,
        classes=_tables.per_class(facts, FEW_ROUNDS),
        groups=_tables.per_group(facts, FEW_ROUNDS),
        covers=_cover.cover(facts, FEW_ROUNDS),
        splits={"train": SplitCount(5100, 17, 5000), "validation": SplitCount(900, 9, 200)},
        straddling=0,
        rejects=rejects.table([]),
    )
    return replace(made, **changes)


def _judged(predictions, classes, separator):
    if separator is None:
        return judged(predictions, classes)
    return _several.judged(predictions, classes, separator)


def full_facts(n_classes, *, several=False, gallery=200):
    """Give facts with something in every section, of *n_classes* classes."""
    n = 30 * n_classes
    if several:
        predictions, classes, separator = *_several_predictions(n, n_classes), ";"
    else:
        predictions, classes = random_table(1, n=n, n_classes=n_classes, n_groups=40, hit=3.0)
        separator = None
    made = facts_of(predictions, classes, separator)
    if several:
        made = replace(made, classes=made.classes.assign(threshold=0.4))
    theirs = random_table(2, n=n, n_classes=n_classes, n_groups=40, hit=2.0)[0]
    theirs = (
        predictions
        if several
        else predictions.set_column(
            predictions.schema.get_field_index("predicted"), "predicted", theirs["predicted"]
        )
    )
    earlier = {"2023-survey": _judged(theirs, classes, separator), "main": made.judged}
    chosen = _trust.choose(made.judged.decisions, 0.9)
    return replace(
        made,
        trust=Trust(0.9, chosen, _trust.confirm(made.judged.decisions, chosen.score)),
        n_label_issues=12,
        twins=pd.DataFrame(
            [[f"reef/{i}.jpg", "train", f"again/{i}.jpg", "validation"] for i in range(12)],
            columns=["key", "split", "same_as", "same_as_split"],
        ),
        compared=_compared.compared(made.judged, earlier, FEW_ROUNDS),
        by={
            "site": _tables.per_value(made.judged, [f"s{i % 7}" for i in range(n)], FEW_ROUNDS),
            "day": _tables.per_value(
                made.judged, [f"2023-06-{i % 28 + 1:02d}" for i in range(n)], FEW_ROUNDS
            ),
        },
        rejects=rejects.table(
            [
                Reject("chip", "reef/a.jpg", "points_outside", "row 9 lies below reef/a.jpg", 9, 2),
                Reject("extract", "reef/b.jpg", "truncated", "the data end early"),
            ]
        ),
        gallery=_gallery(classes, gallery),
        settings="train:\n  classifier: mlp\n  epochs: 3\n" * 40,
        provenance={
            "Code": {"git tree of pipeline/": "5e1a7c" * 6, "version: results": "4"},
            "Inputs, SHA-256": {f"input {i}": "0123456789abcdef" * 4 for i in range(5)},
        },
    )


def _several_predictions(n, n_classes):
    generator = np.random.default_rng(1)
    p = generator.uniform(0, 1, (n, n_classes)).round(2)
    truth = generator.uniform(0, 1, p.shape) < p
    classes = [f"c{at:03d}" for at in range(n_classes)]
    return several_table(truth, p >= 0.4, p, classes), classes


def _gallery(classes, count):
    image = np.random.default_rng(1).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    window = (100, 120, 160, 160)
    webp = picture(image, window, count)
    return [
        GalleryItem(
            GalleryChoice(
                i.to_bytes(16, "big"),
                f"2023/site{i % 7}/transect_{i % 3}/IMG_{i:04d}.jpg",
                180,
                200,
                classes[i % len(classes)],
                classes[(i + (kind != "right")) % len(classes)],
                0.87,
                kind,
            ),
            webp,
        )
        for i, kind in enumerate(np.repeat(KINDS, -(-count // len(KINDS)))[:count])
    ]
