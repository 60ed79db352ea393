"""Feature files as PySpacer writes them, or once wrote them."""

import io
import json

import numpy as np


def packed(form, points, features):
    """One file as PySpacer writes, or once wrote, it; values are float64 there."""
    features, known = np.asarray(features, float), "legacy" not in form
    rows, cols = np.array(points, np.uint16).T if known else np.zeros((2, 0))
    if "archive" in form:
        sink = io.BytesIO()
        meta = np.array([known, *features.shape])
        np.savez_compressed(sink, meta=meta, rows=rows, cols=cols, feat=features)
        return sink.getvalue()
    if form == "legacy json":
        return json.dumps(features.tolist()).encode()
    found = [
        {"row": int(row), "col": int(col), "data": feature.tolist()}
        for row, col, feature in zip(rows, cols, features, strict=True)
    ]
    facts = {"valid_rowcol": True, "feature_dim": features.shape[1], "npoints": len(features)}
    return json.dumps({"point_features": found, **facts}).encode()
