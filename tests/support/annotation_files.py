"""Files of annotated objects, and how tests read them."""

import json

from pipeline.annotations import AnnotationSource

KEYS = ["a.jpg", "deep/b.jpg", "c.jpg", "deep/a.jpg"]
SIZES = [(100, 200), (300, 400), (50, 50), (100, 200)]
WINDOW = ("top", "left", "height", "width")


def read(part, data, sizes=SIZES, **more):
    text = data if isinstance(data, bytes | str) else json.dumps(data)
    name = part.__name__.rpartition(".")[2]
    params = part.Settings(format=name, path=f"x/{name}.file", **more)
    raw = text.encode() if isinstance(text, str) else text
    table, rejects = part.read(AnnotationSource("test.file", raw, KEYS, sizes), params)
    return table.to_pylist(), [(reject.key, reject.reason, reject.detail) for reject in rejects]


def window(row):
    return tuple(row[side] for side in WINDOW)


# An annotation of each kind, from COCO's documentation, on the images above.
COCO = {
    "info": {"year": 2024},
    "images": [
        {"id": 7, "file_name": "a.jpg", "width": 200, "height": 100},
        {"id": 9, "file_name": "b.jpg", "width": 400, "height": 300, "license": 3},
    ],
    "categories": [
        {"id": 1, "name": "Copepod", "supercategory": "plankton"},
        {"id": 90, "name": "Äste "},
    ],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 1, "bbox": [10, 20, 30, 40], "iscrowd": 0},
        {
            "id": 2,
            "image_id": 9,
            "category_id": 90,
            "bbox": [0, 0, 1, 1],
            "segmentation": [[10.5, 20.5, 14.5, 20.5, 14.5, 30.5], [50, 50, 60, 50, 60, 60]],
            "area": 70,
            "iscrowd": 0,
        },
        {
            "id": 3,
            "image_id": 7,
            "category_id": 1,
            "segmentation": {"size": [100, 200], "counts": [203, 2, 98, 2, 19695]},
            "iscrowd": 1,
        },
    ],
}


def changed(place, **values):
    whole = json.loads(json.dumps(COCO))
    whole["annotations"][place] |= values
    return whole


def labelled(kind, labels, where, **more):
    return {
        "id": "Dx_aB91ISN",
        "type": kind,
        "from_name": "label",
        "to_name": "image",
        "original_width": 200,
        "original_height": 100,
        "image_rotation": 0,
        "value": {**where, kind: labels},
        **more,
    }


def task(*results, image="s3://bucket/reef/a.jpg", **more):
    annotation = {
        "id": 1001,
        "was_cancelled": False,
        "ground_truth": False,
        "result": list(results),
    }
    return {
        "id": 1,
        "data": {"image": image},
        "annotations": [annotation],
        "predictions": [],
        **more,
    }


BOX = {"x": 10, "y": 20, "width": 5, "height": 10, "rotation": 0}
"""Percent of 200 × 100: rows 20 to 30, columns 20 to 30."""
