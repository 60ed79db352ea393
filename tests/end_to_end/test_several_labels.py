"""Chips of several labels, from the annotations to the report."""

import csv
import json

import pyarrow.parquet as pq
import pytest
from test_repro import counts

from pipeline.train.estimator import FeatureClassifier
from pipeline.validate.analyses.headline import TILES

SEVERAL = {"stripes": ["stripes", "textured"], "noise": ["textured;noise"], "plain": ["plain"]}


@pytest.fixture
def several(repo):
    """A clone whose chips have one label or two, in one cell or in two rows."""
    repo.bucket.points = [
        {**point, "label": label}
        for point in repo.bucket.points
        for label in SEVERAL[point["label"]]
    ]
    repo.points()
    repo.set(annotations__label_separator=";")
    return repo


def figures(repo):
    return json.loads((repo.path / "results/all_metrics.json").read_text())


@pytest.mark.slow
def test_chips_of_several_labels_are_trained_and_evaluated(several):
    repo = several
    repo.set(train__epochs=None)
    repo.run("dvc", "repro")
    labels = pq.read_table(repo.path / "data/labels/labels.parquet")["label"].to_pylist()
    assert set(labels) == {"plain", "noise;textured", "stripes;textured"}
    classifier = FeatureClassifier.open(repo.path / "models/classifier")
    assert classifier.classes_.tolist() == ["noise", "plain", "stripes", "textured"]
    first = figures(repo)
    assert first["samples_f1"] > 0.8
    assert first["samples_f1_low"] <= first["samples_f1"] <= first["samples_f1_high"]
    answers = pq.read_table(repo.path / "results/predictions.parquet").to_pylist()
    right = sum(row["label"] == row["predicted"] for row in answers)
    assert first["accuracy"] == pytest.approx(right / len(answers), abs=1e-6)
    assert {len(row["probabilities"]) for row in answers} == {4}
    with (repo.path / "results/tables/per_class.csv").open() as stream:
        table = {row["label"]: float(row["threshold"]) for row in csv.DictReader(stream)}
    card = json.loads((repo.path / "models/classifier/model.json").read_text())
    assert table == pytest.approx(card["calibration"]["thresholds"], abs=1e-5)
    page = (repo.path / "results/report.html").read_text()
    assert "exactly the labels of" in page
    assert TILES["samples_f1"] in page


@pytest.mark.slow
def test_classifiers_of_several_labels_are_compared_with_their_like(several):
    repo = several
    repo.run("dvc", "repro")
    repo.run("git", "add", "-A")
    repo.run("git", "commit", "-qm", "several")
    repo.run("git", "tag", "several")
    (repo.path / "map.csv").write_text("from,to\nnoise,\n")
    repo.set(train__label_map="map.csv", validate__compare=["several"])
    said = counts(repo.said("dvc", "repro"))
    assert "extract" not in said
    told = pq.read_table(repo.path / "results/predictions.parquet")["label"].to_pylist()
    assert set(told) == {"plain", "textured", "stripes;textured"}
    with (repo.path / "results/tables/comparison.csv").open() as stream:
        (row,) = csv.DictReader(stream)
    assert row["classifier"] == "several"

    # One label each again: an earlier classifier of several says nothing that can be compared.
    repo.set(annotations__label_separator=None)
    for point in repo.bucket.points:
        point["label"] = point["image"].split("/")[0]
    repo.points()
    done = repo.run("dvc", "repro", check=False)
    assert done.returncode
    assert "'several' predicts several labels for a chip" in done.stdout + done.stderr
    repo.set(validate__compare=[], train__label_map=None)
    repo.run("dvc", "repro")
    assert "samples_f1" not in figures(repo)
