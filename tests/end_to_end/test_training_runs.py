"""Training as a user sees it: label maps, rare classes, presets; going on where it was cut off."""

import csv
import json
import os
import shutil
import signal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from test_crashes import at_work, start, wait_for
from test_repro import counts

from pipeline.config.loader import load
from pipeline.config.machine import machine
from pipeline.core.errors import InputError
from pipeline.store.context import Context, open_store
from pipeline.train import stage as train
from pipeline.train.estimator import FeatureClassifier


def card(repo):
    return json.loads((repo.path / "models/classifier/model.json").read_text())


def threshold(repo):
    return json.loads((repo.path / "results/all_metrics.json").read_text())["threshold"]


def predictions_of_images(repo):
    """What an annotation tool is given for each image."""
    repo.said("python", "-m", "stages.annotate", "labelstudio", "all.json", "--of", "all")
    tasks = json.loads((repo.path / "all.json").read_text())
    return {task["data"]["key"]: task["predictions"][0]["result"] for task in tasks}


def columns(repo, *names):
    table = pq.read_table(repo.path / "data/labels/labels.parquet")
    return [table[name].to_pylist() for name in names]


def labels_of(repo):
    table = pq.read_table(repo.path / "results/predictions.parquet")
    return set(table["label"].to_pylist()), set(table["predicted"].to_pylist())


@pytest.mark.slow
def test_a_label_map_rolls_labels_up_and_costs_no_feature(repo):
    repo.run("dvc", "repro")
    (repo.path / "map.csv").write_text("from,to\nstripes,structure\nnoise,structure\n")
    repo.set(train__label_map="map.csv")
    said = counts(repo.said("dvc", "repro"))
    assert "extract" not in said  # DVC did not run it
    assert card(repo)["classes"] == ["plain", "structure"]
    told, predicted = labels_of(repo)
    assert told == {"plain", "structure"}
    assert predicted <= told

    (repo.path / "map.csv").write_text("from,to\nstripes,\n")
    assert "extract" not in counts(repo.said("dvc", "repro"))
    assert card(repo)["classes"] == ["noise", "plain"]
    assert labels_of(repo)[0] == {"noise", "plain"}

    (repo.path / "map.csv").write_text("old,new\n")
    done = repo.run("dvc", "repro", check=False)
    assert done.returncode
    assert "train.label_map: map.csv:1: needs the columns from and to" in done.stderr + done.stdout
    (repo.path / "map.csv").unlink()
    done = repo.run("dvc", "repro", check=False)
    assert "train.label_map: " in done.stderr + done.stdout
    assert done.returncode


def test_a_label_map_that_changes_before_it_is_trained_with_is_not_taken(repo, monkeypatch):
    """Or the store would keep a classifier under the digest of another label map."""
    (repo.path / "map.csv").write_text("from,to\nstripes,structure\n")
    repo.set(train__label_map="map.csv")
    repo.run("dvc", "repro")
    monkeypatch.chdir(repo.path)
    context = Context(load("params.yaml"), machine(), open_store(machine()), "run")
    piece = train.piece(context)
    (repo.path / "map.csv").write_text("from,to\nstripes,\n")
    with pytest.raises(InputError, match="run dvc repro again"):
        train.make(context, piece, lambda *_: None)


@pytest.mark.slow
def test_rare_classes_go_where_the_rule_sends_them(repo):
    for point in repo.bucket.points[:3]:
        point["label"] = "seldom"
    repo.points()
    repo.set(train__min_class_count=10, train__rare_classes="merge")
    repo.run("dvc", "repro")
    found = card(repo)
    assert found["labels"]["rare"].keys() <= {"seldom"}
    assert "seldom" not in found["classes"]
    repo.set(train__rare_classes="drop")
    repo.run("dvc", "repro")
    assert card(repo)["classes"] == ["noise", "plain", "stripes"]


@pytest.mark.slow
def test_a_preset_is_a_setting_as_any_other(repo):
    repo.run("dvc", "repro")
    repo.run("git", "add", "-A")
    repo.run("git", "commit", "-qm", "all")
    repo.set(train__epochs=None)
    repo.run("dvc", "exp", "run", "-S", "train.preset=pyspacer")
    found = card(repo)
    assert found["calibration"]["method"] == "sigmoid"
    assert found["epochs"] == 10


@pytest.mark.slow
def test_the_learning_curve_is_drawn_by_dvc_and_told_apart_by_experiment(repo):
    repo.run("dvc", "repro")
    with (repo.path / "models/classifier/curve.csv").open() as stream:
        curve = list(csv.DictReader(stream))
    last = json.loads((repo.path / "dvclive/metrics.json").read_text())
    assert last["step"] == len(curve) - 1 == 5
    plots = repo.path / "dvclive/plots/metrics"
    for split in ("train", "calibration"):
        for name in ("loss", "accuracy"):
            wanted = [row[f"{split}_{name}"] for row in curve]
            assert last[split][name] == float(wanted[-1])
            with (plots / split / f"{name}.tsv").open() as stream:
                found = list(csv.DictReader(stream, delimiter="\t"))
            assert [row[name] for row in found] == wanted
            assert [row["step"] for row in found] == list("012345")

    repo.run("git", "add", "-A")
    repo.run("git", "commit", "-qm", "all")
    repo.run("dvc", "exp", "run", "-n", "shorter", "-S", "train.epochs=3")
    shown = json.loads(repo.run("dvc", "exp", "show", "--json").stdout)
    assert '"step": 2' in json.dumps(shown)
    changed = json.loads(repo.run("dvc", "metrics", "diff", "--json").stdout)
    assert changed["dvclive/metrics.json"]["step"] == {"old": 5, "new": 2, "diff": -3}
    drawn = repo.run("dvc", "plots", "diff", "HEAD", "--json").stdout
    assert "dvclive/plots/metrics/calibration/loss.tsv" in drawn

    shutil.rmtree(repo.path / "dvclive")
    shutil.rmtree(repo.path / ".dvc/cache")  # or DVC itself has it
    found = repo.said("dvc", "repro")
    assert "classifier reused from the store" in found
    assert json.loads((repo.path / "dvclive/metrics.json").read_text())["step"] == 2


def states(store):
    return list(store.glob("checkpoints/*/*.safetensors"))


def epochs_in(state):
    data = state.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return len(json.loads(header["__metadata__"]["curve"]))


@pytest.mark.slow
def test_a_training_that_is_killed_goes_on_from_its_last_epoch(repo):
    repo.set(train__epochs=400, train__batch=32)
    repo.run("dvc", "repro")
    wanted = repo.digests("models", "results", "dvclive")
    store = repo.path / ".quadrat/store"
    for name in ("classifiers", "results"):
        for path in (store / name).rglob("*.json"):
            path.unlink()
    run = start(repo, "dvc", "repro", "--force", "--single-item", "train")
    wait_for(lambda: any(epochs_in(kept) > 50 for kept in states(store)))
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    wait_for(lambda: not at_work(repo), 20)
    (kept,) = states(store)
    before, done = kept.stat().st_mtime_ns, epochs_in(kept)
    run = start(repo, "dvc", "repro", "--force")
    wait_for(lambda: kept.exists() and kept.stat().st_mtime_ns > before)
    assert epochs_in(kept) > done  # it did not begin anew
    assert run.wait(300) == 0
    assert repo.digests("models", "results", "dvclive") == wanted
    assert not states(store)


@pytest.mark.slow
def test_a_final_fit_on_both_splits_is_evaluated_and_what_chose_it_is_kept(copy_of_done):
    repo = copy_of_done()
    folder = repo.path / "models/classifier"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    chosen, earlier = threshold(repo), predictions_of_images(repo)
    repo.set(train__final="all")
    said = repo.said("dvc", "repro")
    assert "classifier trained" in said
    assert card(repo)["n_final"] == card(repo)["n_train"] + card(repo)["n_calibration"]
    assert (folder / "held_out.safetensors").read_bytes() == before["model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() != before["model.safetensors"]
    assert (folder / "trained_on.safetensors").read_bytes() == before["trained_on.safetensors"]
    # The classifier that has not seen the calibration split is the same, and so is its threshold.
    assert threshold(repo) == chosen
    page = (repo.path / "results/report.html").read_text()
    assert "The final classifier is trained on the training and the calibration split." in page
    predicted = FeatureClassifier.open(folder)
    table = pq.read_table(repo.path / "results/predictions.parquet")
    features = pa.concat_tables(
        pq.read_table(path) for path in sorted((repo.path / "data/features").glob("*.parquet"))
    )
    at = pc.index_in(table["chip_id"], features["chip_id"].combine_chunks())
    vectors = np.stack(features["feature"].take(at).to_pylist()).astype(np.float32)
    expected = predicted.predict_proba(vectors).max(axis=1)
    np.testing.assert_allclose(table["score"].to_numpy(), expected, atol=1e-6)
    # Predictions for calibration chips are of it, too: what was trained on a label repeats it.
    now, split = predictions_of_images(repo), dict(zip(*columns(repo, "key", "split"), strict=True))
    assert {key for key in now if now[key] == earlier[key]} == {
        key for key in split if split[key] == "calibration"
    }
    repo.set(train__final="train")
    assert "classifier reused from the store" in repo.said("dvc", "repro")
    assert not (folder / "held_out.safetensors").exists()
