"""Features that PySpacer has made go through the pipeline without a forward pass."""

import json
import re
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyspacer_files import packed
from test_repro import counts


def features_of(repo):
    files = sorted((repo.path / "data/features").glob("0*.parquet"))
    rows = [row for path in files for row in pq.read_table(path).to_pylist()]
    return {(row["key"], row["row"], row["col"]): row["feature"] for row in rows}


def write(folder, features):
    """Write features as PySpacer does, a file an image."""
    by_image = {}
    for (key, row, col), feature in sorted(features.items()):
        by_image.setdefault(key, {})[row, col] = feature
    for key, points in by_image.items():
        path = folder / f"{key}.featurevector"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(packed("archive", list(points), list(points.values())))
    return by_image


def convert(repo):
    return repo.said("python", "-m", "stages.pyspacer_features", "vectors", "features.parquet")


@pytest.mark.slow
def test_a_bucket_of_feature_files_gives_results_without_a_forward_pass(repo):
    repo.run("dvc", "repro", "extract")
    wanted = features_of(repo)
    write(repo.path / "vectors", wanted)
    assert "144 points of 24 images, 206 values each; 0 files left out" in convert(repo)
    shutil.rmtree(repo.path / ".quadrat")
    shutil.rmtree(repo.path / "data/features")
    repo.set(extract__extractor="precomputed", extract__weights="features.parquet")
    said = repo.said("dvc", "repro")
    assert counts(said)["extract"] == (144, 0)
    assert features_of(repo) == wanted
    metrics = json.loads((repo.path / "results/metrics.json").read_text())
    assert metrics["accuracy"] > 0.6
    imported = repo.run("python", "-X", "importtime", "-m", "stages.extract").stderr
    assert "torch" not in {line.rpartition("|")[2].strip() for line in imported.splitlines()}


@pytest.mark.slow
def test_another_table_is_another_recipe_and_what_it_lacks_is_a_reject(repo):
    repo.run("dvc", "repro", "chip")
    chips = [
        (row["key"], row["row"], row["col"])
        for path in (repo.path / "data/chips").glob("0*.parquet")
        for row in pq.read_table(path).to_pylist()
    ]
    rng = np.random.default_rng(0)
    features = {chip: rng.normal(size=5).astype(np.float32).tolist() for chip in chips}
    write(repo.path / "vectors", features)
    convert(repo)
    repo.set(extract__extractor="precomputed", extract__weights="features.parquet")
    repo.run("dvc", "repro", "extract")
    assert features_of(repo) == features

    changed, gone = min(features), max(features)
    features[changed] = [0.0, 1.0, 2.0, 3.0, 4.0]
    del features[gone]
    write(repo.path / "vectors", features)
    convert(repo)
    repo.run("dvc", "repro", "extract")
    assert features_of(repo) == features
    (reject,) = pq.read_table(repo.path / "data/rejects/extract.parquet").to_pylist()
    assert (reject["key"], reject["row"], reject["col"]) == gone
    assert reject["reason"] == "no_feature"

    (repo.path / "features.parquet").unlink()
    done = repo.run("dvc", "repro", "extract", check=False)
    assert done.returncode
    assert "features.parquet cannot be read" in done.stderr + done.stdout


@pytest.mark.slow
def test_an_image_that_cannot_be_read_is_not_shown_and_judged_all_the_same(repo):
    """Nobody has decoded it before the report's gallery does."""
    repo.set(validate__gallery_size=144)
    repo.run("dvc", "repro", "extract")
    write(repo.path / "vectors", features_of(repo))
    convert(repo)
    for path in (repo.bucket.folder / "noise").iterdir():
        path.write_bytes(path.read_bytes()[:-4000])
    repo.set(extract__extractor="precomputed", extract__weights="features.parquet")
    done = repo.run("dvc", "repro")
    assert re.search(r"validate: noise/\d+.png: not shown: the image's data end early", done.stderr)
    predictions = pq.read_table(repo.path / "results/predictions.parquet")["key"].to_pylist()
    assert any(key.startswith("noise/") for key in predictions)
