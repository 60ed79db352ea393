"""What a user sees of `dvc repro` and of Luigi: files, messages, and what a change costs."""

from __future__ import annotations

import json
import re
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import new_repo, texture
from safetensors.numpy import load_file, save_file

from pipeline.core import schemas


def counts(said):
    """Give (computed, reused) by stage, as the stages print them."""
    line = re.compile(r"^(\w+): [\d,]+ [\w ]+, ([\d,]+) computed, ([\d,]+) reused", re.MULTILINE)
    found = line.findall(said)
    return {
        stage: (int(new.replace(",", "")), int(old.replace(",", ""))) for stage, new, old in found
    }


def test_every_out_is_there_with_the_columns_that_others_read(done_repo):
    at = done_repo.path
    assert pq.read_schema(at / "data/index/images.parquet").equals(schemas.IMAGES)
    assert pq.read_schema(at / "data/labels/labels.parquet").equals(schemas.LABELS)
    assert pq.read_schema(at / "results/predictions.parquet").equals(schemas.PREDICTIONS)
    chips = [pq.read_table(path) for path in sorted((at / "data/chips").glob("0*.parquet"))]
    features = [pq.read_table(path) for path in sorted((at / "data/features").glob("0*.parquet"))]
    assert sum(table.num_rows for table in chips) == len(done_repo.bucket.points)
    for chip, feature in zip(chips, features, strict=True):
        assert chip["chip_id"].equals(feature["chip_id"])
        assert chip.schema.equals(schemas.CHIPS)
    for path in (
        "data/manifests/index.json",
        "data/manifests/chips.json",
        "data/manifests/labels.json",
        "data/manifests/features.json",
        "models/classifier/manifest.json",
        "results/manifest.json",
    ):
        assert json.loads((at / path).read_text())["stage"]
    for stage in ("index", "chip", "extract"):
        assert pq.read_schema(at / f"data/rejects/{stage}.parquet").equals(schemas.REJECTS)


def test_the_classifier_has_learnt_and_the_metrics_say_so(done_repo):
    metrics = json.loads((done_repo.path / "results/metrics.json").read_text())
    for name in (
        "accuracy",
        "accuracy_low",
        "accuracy_high",
        "balanced_accuracy",
        "macro_f1",
        "log_loss",
        "ece",
        "n_validation",
    ):
        assert name in metrics
    assert metrics["accuracy"] > 0.9
    assert metrics["accuracy_low"] <= metrics["accuracy"] <= metrics["accuracy_high"]
    labels = pq.read_table(done_repo.path / "data/labels/labels.parquet").to_pylist()
    assert metrics["n_validation"] == sum(row["split"] == "validation" for row in labels)


def test_no_image_lies_in_two_splits(done_repo):
    rows = pq.read_table(done_repo.path / "data/labels/labels.parquet").to_pylist()
    assert len({(row["key"], row["split"]) for row in rows}) == len({row["key"] for row in rows})


def test_predictions_follow_from_the_artifact_and_the_features(done_repo):
    """Scores computed here from the files alone, by hand."""
    import numpy as np

    at = done_repo.path
    tensors = load_file(at / "models/classifier/model.safetensors")
    classes = json.loads((at / "models/classifier/model.json").read_text())["classes"]
    features = {
        row["chip_id"]: row["feature"]
        for path in sorted((at / "data/features").glob("0*.parquet"))
        for row in pq.read_table(path).to_pylist()
    }
    for row in pq.read_table(at / "results/predictions.parquet").to_pylist():
        x = (np.array(features[row["chip_id"]], np.float32) - tensors["mean"]) * tensors["scale"]
        x = np.maximum(tensors["layers.0.weight"] @ x + tensors["layers.0.bias"], 0)
        logits = (tensors["layers.1.weight"] @ x + tensors["layers.1.bias"]) / tensors[
            "temperature"
        ]
        powers = np.exp(logits - logits.max())
        doubt = tensors["doubt"]
        found = (1 - doubt) * powers / powers.sum() + doubt / len(classes)
        assert np.allclose(found, row["probabilities"], atol=1e-5)
        assert row["predicted"] == classes[int(np.argmax(row["probabilities"]))]
        assert row["score"] == pytest.approx(max(row["probabilities"]))


def test_valresult_is_what_pyspacer_reads(done_repo):
    found = json.loads((done_repo.path / "results/valresult.json").read_text())
    assert sorted(found) == ["classes", "est", "gt", "scores"]
    assert len(found["gt"]) == len(found["est"]) == len(found["scores"])
    assert max(found["gt"] + found["est"]) < len(found["classes"])


def test_no_tracked_file_names_the_machine(done_repo):
    host, place = done_repo.said("hostname").strip(), str(done_repo.path)
    for name, data in done_repo.digests().items():
        assert place.encode() not in data, name
        assert len(host) < 4 or f'"{host}"'.encode() not in data, name


@pytest.mark.slow
def test_dvc_shows_metrics_and_draws_every_plot_without_a_complaint(done_repo, tmp_path):
    assert "balanced_accuracy" in done_repo.said("dvc", "metrics", "show")
    said = done_repo.said("dvc", "plots", "show", "-o", str(tmp_path / "plots"))
    assert "WARNING" not in said
    page = (tmp_path / "plots" / "index.html").read_text()
    for title in (
        "Labels (rows) and predictions (columns)",
        "Accuracy against score",
        "F1 by class",
        "Loss by epoch",
    ):
        assert title in page


def test_a_second_run_finds_nothing_to_do(copy_of_done):
    repo = copy_of_done()
    lock = (repo.path / "dvc.lock").read_bytes()
    repo.said("dvc", "repro")
    again = repo.said("dvc", "repro")
    for stage in ("chip", "extract", "train", "validate"):
        assert f"Stage '{stage}' didn't change, skipping" in again
    assert (repo.path / "dvc.lock").read_bytes() != b"" != lock


def test_a_wrong_setting_leaves_the_outs_as_they_are(copy_of_done):
    repo = copy_of_done()
    before = repo.digests("data")
    repo.set(train__epocs=1)
    assert repo.run("dvc", "repro", check=False).returncode
    assert repo.digests("data") == before


def test_if_nothing_has_changed_the_index_is_not_made_again(copy_of_done):
    repo = copy_of_done()
    time.sleep(2.1)  # a file that changed so recently may change again unseen
    repo.run("dvc", "repro")
    memory = repo.path / ".quadrat/index.json"
    made = memory.stat().st_mtime_ns
    assert "24 images, 0 computed, 24 reused" in repo.said("dvc", "repro")
    assert memory.stat().st_mtime_ns == made


@pytest.mark.slow
def test_luigi_alone_gives_the_same_bytes(done_repo, tmp_path):
    from conftest import new_repo

    repo = new_repo(tmp_path / "repo", done_repo.bucket)
    repo.said(
        "luigi", "--module", "pipeline.tasks", "Validate", "--local-scheduler", "--workers", "2"
    )
    assert repo.digests() == done_repo.digests()


def test_adding_images_computes_their_chips_alone(copy_of_done):
    repo = copy_of_done()
    repo.bucket.add("noise", 90, points=5)
    repo.points()
    found = counts(repo.said("dvc", "repro", "extract"))
    assert found["index"] == (1, 24)
    assert found["extract"] == (5, 144)


@pytest.mark.slow
def test_other_bytes_under_the_same_key_and_size_and_time_are_never_reused(copy_of_done):
    import os

    repo = copy_of_done()
    path = repo.bucket.folder / "plain/003.png"
    before, stat = path.read_bytes(), path.stat()
    # Flip bits in the compressed pixels' last block: the same size, other bytes.
    other = (repo.bucket.folder / "plain/004.png").read_bytes()
    path.write_bytes(other[: len(before)].ljust(len(before), b"\0"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    repo.set(extract__max_rejects=1.0, bucket__max_rejects=1.0, chip__max_rejects=1.0)
    found = counts(repo.said("dvc", "repro", "extract"))
    assert found["index"] == (1, 23)
    rows = pq.read_table(repo.path / "data/index/images.parquet", columns=["key", "version"])
    done = dict(zip(rows["key"].to_pylist(), rows["version"].to_pylist(), strict=True))
    import hashlib

    assert done["plain/003.png"] == hashlib.md5(path.read_bytes()).hexdigest()


def test_a_changed_label_computes_no_feature(copy_of_done):
    repo = copy_of_done()
    for point in repo.bucket.points[::9]:
        point["label"] = "noise"
    repo.points()
    said = repo.said("dvc", "repro")
    assert "Stage 'extract' didn't change, skipping" in said
    assert "classifier trained" in said


def test_a_training_setting_reaches_no_stage_before_training(copy_of_done):
    repo = copy_of_done()
    said = repo.said("dvc", "exp", "run", "-S", "train.classifier=lr")
    for stage in ("chip", "extract"):
        assert f"Stage '{stage}' didn't change, skipping" in said
    assert (
        json.loads((repo.path / "models/classifier/model.json").read_text())["classifier"] == "lr"
    )
    assert "lr" in repo.said("dvc", "exp", "show", "--csv")


@pytest.mark.slow
def test_another_extractor_setting_and_back_costs_one_pass(copy_of_done):
    repo = copy_of_done()
    repo.set(extract__batch=32)
    assert counts(repo.said("dvc", "repro", "extract"))["extract"] == (144, 0)
    before = repo.digests("data/manifests")
    repo.set(extract__batch=16)
    said = repo.said("dvc", "repro", "extract", "--no-run-cache")
    assert counts(said)["extract"] == (0, 144)
    assert repo.digests("data/manifests") != before


@pytest.mark.slow
def test_another_number_of_shards_copies_every_row(copy_of_done, done_repo):
    repo = copy_of_done()
    before = repo.digests("models", "results")
    repo.set(shards__count=16)
    found = counts(repo.said("dvc", "repro"))
    assert {stage: computed for stage, (computed, _) in found.items()} == dict.fromkeys(found, 0)
    assert features_of(repo) == features_of(done_repo)
    assert len(list((repo.path / "data/features").glob("0*.parquet"))) > 4
    assert repo.digests("models", "results") == before


@pytest.mark.slow
def test_a_run_with_one_shard_gives_the_same_classifier_and_results(done_repo, tmp_path):
    repo = new_repo(tmp_path / "repo", done_repo.bucket)
    repo.set(shards__count=1)
    repo.said("dvc", "repro")
    assert repo.digests("models", "results") == done_repo.digests("models", "results")


@pytest.mark.slow
def test_images_without_a_label_cost_no_training_and_no_validation(copy_of_done):
    repo = copy_of_done()
    before = repo.digests("models", "results")
    for seed in (300, 301):
        texture("noise", seed).save(repo.bucket.folder / f"new{seed}.png")
    (repo.path / "points.csv").write_text(
        (repo.path / "points.csv").read_text() + "new300.png,20,20,\nnew301.png,30,30,\n"
    )
    found = counts(repo.said("dvc", "repro"))
    assert found["extract"][0] == 2
    assert found["train"][0] == found["validate"][0] == 0
    assert repo.digests("models", "results") == before


def features_of(repo):
    paths = sorted((repo.path / "data/features").glob("0*.parquet"))
    rows = [row for path in paths for row in pq.read_table(path).to_pylist()]
    return {row["chip_id"]: row["feature"] for row in rows}


@pytest.mark.slow
def test_raising_max_rejects_computes_nothing(copy_of_done):
    repo = copy_of_done()
    repo.set(extract__max_rejects=0.5, chip__max_rejects=0.5, bucket__max_rejects=0.5)
    found = counts(repo.said("dvc", "repro", "extract"))
    assert found["index"][0] == found["extract"][0] == 0


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("train__epochs", "ten", "train.epochs: 'ten': input should be a valid integer"),
        ("chip__sise", 3, "chip.sise: not a setting; did you mean 'chip.size'?"),
    ],
)
def test_a_wrong_setting_stops_before_any_work(repo, setting, value, message):
    repo.set(**{setting: value})
    done = repo.run("dvc", "repro", check=False)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (repo.path / "data/index").exists()
    assert repo.run("python", "-m", "stages.extract", check=False).returncode == 2


def test_a_method_that_the_annotations_do_not_fit_stops_before_the_bucket_is_listed(repo):
    repo.set(annotations__format="images", bucket__url="/no/such/bucket")
    done = repo.run("python", "-m", "stages.index", check=False)
    assert done.returncode == 2
    assert "chip.method: 'points' cannot use annotations.format 'images'" in done.stderr
    assert not (repo.path / "data/index").exists()


@pytest.mark.slow
def test_a_truncated_image_is_a_reject_and_the_run_goes_on(repo):
    path = repo.bucket.folder / "noise/001.png"
    path.write_bytes(path.read_bytes()[:-4000])
    said = repo.said("dvc", "repro", "extract")
    rejects = pq.read_table(repo.path / "data/rejects/extract.parquet").to_pylist()
    assert {(row["key"], row["reason"]) for row in rejects} == {("noise/001.png", "truncated")}
    assert len(rejects) == 6
    assert "6 rejected" in said
    walk = repo.said("python", "-m", "stages.trace", "noise/001.png")
    assert "rejected as truncated: noise/001.png" in walk


def test_too_many_rejects_stop_the_stage_with_reasons_and_counts(repo):
    for number in range(4):
        path = repo.bucket.folder / f"noise/00{number}.png"
        path.write_bytes(b"<html>not found</html>")
    done = repo.run("dvc", "repro", check=False)
    assert done.returncode != 0
    assert "index: 4 of 24 rows rejected (0.167), over bucket.max_rejects 0.05" in done.stderr
    assert "4  not_an_image" in done.stderr
    assert repo.run("python", "-m", "stages.index", check=False).returncode == 5


def test_trace_walks_one_image_through_every_table(done_repo):
    rows = pq.read_table(done_repo.path / "results/predictions.parquet").to_pylist()
    key, row, col = (rows[0][name] for name in ("key", "row", "col"))
    said = done_repo.said("python", "-m", "stages.trace", key, str(row), str(col))
    hops = [line.split()[0] for line in said.splitlines()[1:]]
    assert hops == ["index", "chip", "labels", "extract", "validate"]
    assert f"group {key} · validation" in said
    assert f"{rows[0]['predicted']} {rows[0]['score']:.2f}" in said
    assert done_repo.run("python", "-m", "stages.trace", "no/such.png", check=False).returncode == 1


def test_weights_that_do_not_fit_stop_before_any_header_is_read(repo):
    save_file({"conv.weight": np.zeros((1, 3), np.float32)}, repo.path / "other.safetensors")
    repo.set(extract__extractor="torchvision/resnet18", extract__weights="other.safetensors")
    done = repo.run("dvc", "repro", check=False)
    assert "not the weights of this extractor: it lacks conv1.weight" in done.stderr
    assert not list((repo.path / ".quadrat/store").rglob("*.parquet"))
