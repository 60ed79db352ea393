"""Images with the same bytes in different splits."""

import pyarrow as pa

from pipeline.config.sections import ValidateParams
from pipeline.core import schemas
from pipeline.validate.analyses import exact_duplicates

FEW = ValidateParams(bootstrap_rounds=40)


def labels_of(rows):
    columns = ["key", "label", "split"]
    table = pa.table({name: [row[at] for row in rows] for at, name in enumerate(columns)})
    rest = {"chip_id": [b"0" * 16] * len(rows), "row": [0] * len(rows), "col": [0] * len(rows)}
    for name, values in {**rest, "group": [""] * len(rows)}.items():
        table = table.append_column(name, pa.array(values, schemas.LABELS.field(name).type))
    return schemas.conform(table, schemas.LABELS)


def test_equal_bytes_in_two_splits_are_found():
    images = pa.table({"key": list("abcdef"), "version": ["1", "1", "2", "2", "3", "1"]})
    labels = labels_of(
        [
            ("a", "x", "train"),
            ("a", "x", "train"),
            ("b", "x", "validation"),
            ("c", "x", "train"),
            ("d", "x", "train"),  # the same split as c
            ("e", "x", "train"),
            ("f", None, "calibration"),  # not trained on
        ]
    )
    found = exact_duplicates.find(images, labels)
    assert found.to_numpy().tolist() == [["a", "train", "b", "validation"]]
    assert exact_duplicates.find(images.slice(2), labels).empty
