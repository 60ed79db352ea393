"""The test split: no stage looks at it, one command evaluates it, and every look is recorded."""

import csv
import json

import pyarrow.parquet as pq
import pytest


def looks(repo):
    with (repo.path / "test_results/looks.csv").open() as stream:
        return list(csv.DictReader(stream))


def evaluate(repo, **options):
    return repo.run("python", "-m", "stages.test", **options)


def test_without_a_test_share_there_is_nothing_to_look_at(done_repo):
    done = evaluate(done_repo, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("split.test: 0: no group is set aside; set it")


def test_the_test_split_is_seen_by_one_command_alone(copy_of_done):
    repo = copy_of_done()
    before = pq.read_table(repo.path / "data/labels/labels.parquet").to_pylist()
    repo.set(split__test=0.3)
    early = evaluate(repo, check=False)
    assert early.returncode
    assert "no chip of the test split" in early.stderr
    repo.said("dvc", "repro")
    rows = pq.read_table(repo.path / "data/labels/labels.parquet").to_pylist()
    moved = {(old["split"], new["split"]) for old, new in zip(before, rows, strict=True)}
    assert {pair for pair in moved if len({*pair}) == 2} == {("train", "test")}
    test = {row["chip_id"] for row in rows if row["split"] == "test"}
    predictions = pq.read_table(repo.path / "results/predictions.parquet").to_pylist()
    assert not test & {row["chip_id"] for row in predictions}
    card = json.loads((repo.path / "models/classifier/model.json").read_text())
    assert card["n_train"] == sum(row["split"] == "train" for row in rows)
    outs = repo.digests("models", "results")

    first = evaluate(repo).stdout
    assert first.startswith(f"test: {len(test)} chips of ")
    assert "first look" in first
    tested = pq.read_table(repo.path / "test_results/predictions.parquet").to_pylist()
    assert {row["chip_id"] for row in tested} == test
    correct = sum(row["label"] == row["predicted"] for row in tested) / len(test)
    metrics = json.loads((repo.path / "test_results/metrics.json").read_text())
    assert metrics["accuracy"] == pytest.approx(correct, abs=1e-6)
    assert float(looks(repo)[0]["accuracy"]) == metrics["accuracy"]
    assert repo.digests("models", "results") == outs

    repo.set(train__epochs=2)
    repo.said("dvc", "repro", "train")
    second = evaluate(repo).stdout
    assert "looked at 2 times, with 2 classifiers" in second
    assert len({row["classifier"] for row in looks(repo)}) == 2
    repo.set(split__test=0.1)
    repo.said("dvc", "repro", "chip")
    stale = evaluate(repo, check=False)
    assert "was trained on other labels or features" in stale.stderr
    assert len(looks(repo)) == 2
