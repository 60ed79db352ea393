"""What is in results/ for a person to act on."""

import csv
import json
import shutil
import sys
from collections import Counter
from itertools import combinations

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from image_files import jpeg_with_a_warning
from PIL import Image

from pipeline.train import model


def table(repo, name):
    with (repo.path / f"results/tables/{name}.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_images_that_are_in_two_splits_under_two_names_are_listed(copy_of_done):
    repo = copy_of_done()
    for number in range(8):
        old, new = f"noise/{number:03d}.png", f"noise/{number + 100:03d}.png"
        shutil.copy(repo.bucket.folder / old, repo.bucket.folder / new)
        repo.bucket.points += [
            {**point, "image": new} for point in repo.bucket.points if point["image"] == old
        ]
    repo.points()
    repo.run("dvc", "repro")
    labels = pq.read_table(repo.path / "data/labels/labels.parquet").to_pylist()
    split = {row["key"]: row["split"] for row in labels}
    pairs = [(f"noise/{n:03d}.png", f"noise/{n + 100:03d}.png") for n in range(8)]
    leaks = [(a, split[a], b, split[b]) for a, b in pairs if split[a] != split[b]]
    assert leaks  # or the test shows nothing
    assert [tuple(row.values()) for row in table(repo, "exact_duplicates")] == leaks
    assert "the same bytes under two keys" in (repo.path / "results/report.html").read_text()


@pytest.mark.slow
def test_an_image_that_the_decoder_warned_of_is_named_listed_and_shown(copy_of_done):
    repo = copy_of_done()
    data = jpeg_with_a_warning(96, 96)
    (repo.bucket.folder / "noise/000.png").write_bytes(data)
    said = repo.run("dvc", "repro").stderr
    warning = "Corrupt JPEG data: 3944 extraneous bytes before marker 0xd9"
    assert (
        "extract: the decoder warned of 1 image, whose pixels may be damaged: noise/000.png "
        f"({warning}); the report shows them"
    ) in said
    (row,) = table(repo, "decoder_warnings")
    assert (row["key"], row["decoder_warning"]) == ("noise/000.png", warning)
    metrics = json.loads((repo.path / "results/all_metrics.json").read_text())
    assert metrics["n_decoder_warnings"] == 1
    report = (repo.path / "results/report.html").read_text(encoding="utf-8")
    assert "The decoder warned of 1 image" in report
    assert 'alt="a chip of noise/000.png"' in report
    features = pq.read_table(repo.path / "data/features").to_pylist()
    warned = {row["key"] for row in features if row["decoder_warning"]}
    assert (warned, len(features)) == ({"noise/000.png"}, len(repo.bucket.points))


def photograph(seed, size=96):
    """Something with structure at every scale, as no other seed gives it."""
    rng = np.random.default_rng(seed)
    whole = np.zeros((size, size, 3))
    for cell in (3, 8, 24):
        cells = size // cell + 2
        grid = Image.fromarray(rng.integers(0, 20 + 4 * cell, (cells, cells, 3)).astype(np.uint8))
        whole += np.asarray(grid.resize((cells * cell,) * 2))[:size, :size]
    return Image.fromarray(np.clip(whole, 0, 255).astype(np.uint8))


@pytest.mark.slow
def test_copies_that_were_saved_again_or_made_smaller_are_found_and_shown(copy_of_done):
    repo = copy_of_done()
    (repo.bucket.folder / "photo").mkdir()
    for seed in range(24):
        image, number = photograph(seed), f"photo/{seed:03d}"
        image.save(repo.bucket.folder / f"{number}.png")
        copies = {f"{number}.png": 96}
        if seed < 8:
            image.save(repo.bucket.folder / f"{number}-again.jpg", quality=90)
            copies[f"{number}-again.jpg"] = 96
        elif seed < 16:
            image.resize((92, 92)).save(repo.bucket.folder / f"{number}-small.png")
            copies[f"{number}-small.png"] = 92
        for row, col in np.random.default_rng(seed).integers(0, 96, (6, 2)).tolist():
            repo.bucket.points += [
                {
                    "image": key,
                    "row": row * size // 96,
                    "column": col * size // 96,
                    "label": "photo",
                }
                for key, size in copies.items()
            ]
    repo.points()
    repo.run("dvc", "repro")
    labels = pq.read_table(repo.path / "data/labels/labels.parquet").to_pylist()
    split = {row["key"]: row["split"] for row in labels}
    of = {key: key[: len("photo/000")] for key in split if key.startswith("photo/")}
    apart = {
        (a, b)
        for a, b in ((a, b) for a in of for b in of if a != b and of[a] == of[b])
        if split[a] == "validation" and split[b] != "validation"
    }
    kinds = {name for name in ("again", "small") if any(name in a + b for a, b in apart)}
    assert kinds == {"again", "small"}  # or the test shows nothing
    rows = table(repo, "near_duplicates")
    # Two of the plain grounds are much alike, too; different photographs are not.
    found = {(row["key"], row["near_key"]) for row in rows if row["key"] in of}
    assert {key for key, _ in found} == {key for key, _ in apart}
    assert found <= apart
    assert all(float(row["distance"]) < 0.4 * float(row["usual_distance"]) for row in rows)
    page = (repo.path / "results/report.html").read_text()
    assert f"{len(rows)} validation chips look nearly the same" in page
    assert f'alt="{rows[0]["key"]} around row {rows[0]["row"]}' in page
    assert f'alt="{rows[0]["near_key"]} around row {rows[0]["near_row"]}' in page


@pytest.mark.slow
def test_labels_that_were_swapped_are_label_issues(copy_of_done):
    repo = copy_of_done()
    labels = pq.read_table(repo.path / "data/labels/labels.parquet").to_pylist()
    held = [row for row in labels if row["split"] == "validation" and row["label"] == "plain"][:3]
    places = {(row["key"], row["row"], row["col"]) for row in held}
    for point in repo.bucket.points:
        if (point["image"], point["row"], point["column"]) in places:
            point["label"] = "noise"
    repo.points()
    repo.run("dvc", "repro")
    found = table(repo, "label_issues")
    wrong = {(row["key"], int(row["row"]), int(row["col"])) for row in found}
    assert places <= wrong
    first = found[0]
    assert (first["given_label"], first["predicted_label"]) == ("noise", "plain")
    assert first["split"] == "validation"
    assert -1 <= float(first["label_quality"]) < 0 < float(first["predicted_probability"])
    assert (
        "of the calibration and validation splits may be wrong"
        in (repo.path / "results/report.html").read_text()
    )


def test_the_threshold_is_of_the_calibration_split_and_measured_on_validation_chips(
    done_repo,
):
    figures = json.loads((done_repo.path / "results/all_metrics.json").read_text())
    answers = pq.read_table(done_repo.path / "results/predictions.parquet").to_pylist()
    above = [row for row in answers if row["score"] >= figures["threshold"] - 1e-6]
    assert abs(figures["threshold_coverage"] - len(above) / len(answers)) < 0.02
    right = sum(row["label"] == row["predicted"] for row in above) / len(above)
    assert abs(figures["threshold_accuracy"] - right) < 0.02
    curve = table(done_repo, "risk_coverage")
    assert [*curve[0]] == ["threshold", "coverage", "accuracy"]
    assert float(curve[-1]["coverage"]) == 1
    shares = table(done_repo, "cover")
    assert abs(sum(float(row["cover"]) for row in shares) - 1) < 1e-5


def test_every_pair_of_tables_joins_by_chip(done_repo):
    folder = done_repo.path / "data"
    features = {
        row["chip_id"]
        for path in folder.glob("features/[0-9]*.parquet")
        for row in pq.read_table(path, columns=["chip_id"]).to_pylist()
    }
    labels = {
        row["chip_id"]: row["split"]
        for row in pq.read_table(folder / "labels/labels.parquet").to_pylist()
    }
    answers = pq.read_table(done_repo.path / "results/predictions.parquet")["chip_id"].to_pylist()
    assert {labels[chip] for chip in answers} == {"validation"}
    assert all(a <= b for a, b in combinations([set(answers), features, set(labels)], 2))


@pytest.mark.slow
def test_earlier_classifiers_are_evaluated_on_the_same_chips(copy_of_done, tmp_path):
    repo = copy_of_done()
    figures = repo.path / "results/metrics.json"
    before = json.loads(figures.read_text())
    repo.run("git", "add", "-A")
    repo.run("git", "commit", "-qm", "before")
    repo.run("git", "tag", "before")
    shutil.copytree(repo.path / "models/classifier", tmp_path / "old")
    repo.set(train__classifier="lr", train__epochs=1, validate__bootstrap_rounds=200)
    repo.set(validate__compare=["before", str(tmp_path / "old")])
    repo.run("dvc", "repro")
    after = json.loads(figures.read_text())
    tagged, folder = table(repo, "comparison")
    assert tagged["classifier"] == "before"
    assert {**tagged, "classifier": ""} == {**folder, "classifier": ""}
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "log_loss"):
        assert float(tagged[name]) == before[name]
        difference = float(tagged[f"{name}_difference"])
        assert abs(difference - (after[name] - before[name])) < 1e-5
        low, high = tagged[f"{name}_low"], tagged[f"{name}_high"]
        if (
            name not in ("balanced_accuracy", "macro_f1")
            or "each label is in one group" not in (tagged["note"])
        ):
            assert float(low) <= difference <= float(high)
    assert "Compared with earlier classifiers" in (repo.path / "results/report.html").read_text()

    # The tag moves: nothing else has changed, and the results are made again.
    repo.run("git", "add", "-A")
    repo.run("git", "commit", "-qm", "after")
    repo.run("git", "tag", "-f", "before")
    repo.run("dvc", "repro")
    again = table(repo, "comparison")[0]
    assert float(again["accuracy"]) == after["accuracy"]
    assert (again["only_this_correct"], again["p"]) == ("0", "1.0")

    repo.set(validate__compare=["nowhere"])
    done = repo.run("dvc", "repro", check=False)
    assert done.returncode
    assert "'nowhere' is neither a folder with a classifier nor a git" in done.stderr + done.stdout


@pytest.mark.slow
def test_a_temporary_experiment_finds_the_checkouts_tags(copy_of_done):
    repo = copy_of_done()
    repo.run("git", "add", "-A")
    repo.run("git", "commit", "-qm", "before")
    repo.run("git", "tag", "before")
    repo.set(validate__compare=["before"])
    repo.run("dvc", "exp", "run", "--temp", "-n", "tried", "-S", "train.classifier=lr")
    repo.run("dvc", "exp", "apply", "tried")
    (row,) = table(repo, "comparison")
    assert row["classifier"] == "before"


@pytest.mark.slow
def test_a_classifier_of_pyspacer_is_evaluated_once_it_is_exported(copy_of_done, tmp_path):
    repo = copy_of_done()
    figures = json.loads((repo.path / "results/metrics.json").read_text())
    script, old = ROOT / "docs/pyspacer_export.py", str(tmp_path / "old")
    repo.run(sys.executable, "-m", "stages.model_export", "old.pkl")
    words = ["old.pkl", old, "--features", "data/manifests/features.json"]
    repo.run(sys.executable, "-W", "ignore", str(script), *words)
    repo.set(validate__compare=[old])
    repo.run("dvc", "repro")
    (row,) = table(repo, "comparison")
    assert float(row["accuracy"]) == figures["accuracy"]
    assert abs(float(row["log_loss"]) - figures["log_loss"]) < 1e-5

    card = json.loads((tmp_path / "old/model.json").read_text())
    repo.set(validate__compare=[str(narrower(tmp_path, card))])
    done = repo.run("dvc", "repro", check=False)
    assert "takes features of 7 values, not " in done.stderr + done.stdout


def narrower(folder, card):
    """A classifier of the same extractor's name that takes features of 7 values."""
    sizes = {"mean": 7, "scale": 7, "temperature": 1, "layers.0.bias": len(card["classes"])}
    tensors = {name: np.ones(size, np.float32) for name, size in sizes.items()}
    tensors["layers.0.weight"] = np.ones((len(card["classes"]), 7), np.float32)
    narrow = model.Classifier(tuple(card["classes"]), tensors, card)
    (folder / "narrow").mkdir()
    for name, data in narrow.files().items():
        (folder / "narrow" / name).write_bytes(data)
    return folder / "narrow"


@pytest.mark.slow
def test_an_earlier_classifier_is_not_evaluated_on_what_it_was_trained_on(copy_of_done):
    repo = copy_of_done()
    repo.run("git", "add", "-A")
    repo.run("git", "commit", "-qm", "before")
    before = splits_of_labelled(repo)
    about = json.loads((repo.path / "models/classifier/model.json").read_text())["trained_on"]
    assert about["split"].items() >= {"by": "group", "validation": 0.2}.items()
    assert about["images"] == len(
        {key for key, (split, _) in before.items() if split != "validation"}
    )
    repo.set(split__validation=0.6, validate__compare=["HEAD"])
    done = repo.run("dvc", "repro")
    now = splits_of_labelled(repo)
    validated = {key: n for key, (split, n) in now.items() if split == "validation"}
    left = {key: n for key, n in validated.items() if before[key][0] == "validation"}
    assert len(left) < len(validated)  # or the test shows nothing
    (row,) = table(repo, "comparison")
    assert (row["n"], row["n_groups"]) == (str(sum(left.values())), str(len(left)))
    assert int(row["n_used"]) == sum(validated.values()) - sum(left.values())
    said = f"'HEAD': {row['n']} chips of {row['n_groups']} groups are left that it was not"
    assert said in done.stderr + done.stdout
    assert "it was trained on the groups of" in (repo.path / "results/report.html").read_text()


def splits_of_labelled(repo):
    """Return the split and the number of labelled chips of each image that has some."""
    rows = pq.read_table(repo.path / "data/labels/labels.parquet").to_pylist()
    rows = [row for row in rows if row["label"] is not None]
    count = Counter(row["key"] for row in rows)
    return {row["key"]: (row["split"], count[row["key"]]) for row in rows}


@pytest.mark.slow
def test_an_earlier_classifier_of_another_extractor_is_refused(copy_of_done, tmp_path):
    repo = copy_of_done()
    shutil.copytree(repo.path / "models/classifier", tmp_path / "old")
    card = json.loads((tmp_path / "old/model.json").read_text())
    card["extractor"]["made_by"]["identity"]["name"] = "other"
    (tmp_path / "old/model.json").write_text(json.dumps(card))
    repo.set(validate__compare=[str(tmp_path / "old")])
    done = repo.run("dvc", "repro", check=False)
    assert "was trained on features of another extractor" in done.stderr + done.stdout


@pytest.mark.slow
def test_classes_of_an_earlier_classifier_are_rolled_up_as_labels_are(copy_of_done):
    repo = copy_of_done()
    repo.run("git", "add", "-A")
    repo.run("git", "commit", "-qm", "before")
    (repo.path / "map.csv").write_text("from,to\nstripes,structure\nnoise,structure\n")
    repo.set(train__label_map="map.csv", validate__compare=["HEAD"])
    repo.run("dvc", "repro")
    (row,) = table(repo, "comparison")
    assert float(row["accuracy"]) > 0.9  # stripes and noise both count as structure


@pytest.mark.slow
def test_without_a_calibration_chip_console_metrics_and_report_say_so(copy_of_done):
    """With labels, too, that a spreadsheet would execute, or that look like others."""
    repo = copy_of_done()
    names = {"plain": "=1+1", "noise": "\u202elaroc"}
    for point in repo.bucket.points:
        point["label"] = names.get(point["label"], point["label"])
    repo.points()
    repo.set(split__calibration=0.0)
    said = repo.said("dvc", "repro")
    warning = "The scores are not calibrated: no calibration chip has a known label."
    assert f"train: {warning}" in said
    metrics = json.loads((repo.path / "results/metrics.json").read_text())
    assert metrics["calibrated"] == 0
    page = (repo.path / "results/report.html").read_text(encoding="utf-8")
    assert warning in page[: page.index('<dl class="tiles">')]
    assert "⟨U+202E⟩laroc" in page
    assert "\u202e" not in page
    labels = {row["label"] for row in table(repo, "per_class")}
    assert labels == {"'=1+1", "\u202elaroc", "stripes"}
    for path in (repo.path / "results/tables").glob("*.csv"):
        with path.open(encoding="utf-8", newline="") as stream:
            cells = [cell for row in csv.reader(stream) for cell in row]
        assert not [cell for cell in cells if cell.startswith("=")], path.name

    # What is to be read by another tool has the labels themselves.
    written = repo.path / "points_for_squidle.csv"
    repo.said("python", "-m", "stages.annotate", "squidle", str(written), "--of", "labels")
    with written.open(encoding="utf-8", newline="") as stream:
        cells = {cell for row in csv.reader(stream) for cell in row}
    assert {"=1+1", "\u202elaroc", "stripes"} <= cells


@pytest.mark.slow
def test_a_label_named_other_stops_the_run_before_the_labels_are_written(copy_of_done):
    repo = copy_of_done()
    before = repo.digests("data/labels")
    for point in repo.bucket.points:
        point["label"] = point["label"].replace("plain", "other")
    repo.points()
    repo.set(train__rare_classes="merge")
    done = repo.run("dvc", "repro", check=False)
    assert done.returncode
    assert "one named 'other', which is a label already ('other')" in done.stdout + done.stderr
    assert repo.digests("data/labels") == before


ANALYSIS = '''"""Chips by their row in the image."""

import pandas as pd

from pipeline.validate.analyses import Result
from pipeline.validate.metrics import Metric
from pipeline.validate.report.blocks import ReportSection, Text

ORDER = 33
METRICS = {"n_rows": Metric("different rows of chips")}


def analyse(data):
    """Count the rows of the validation chips."""
    rows = pd.Series(data.predictions.table["row"].to_pylist()).value_counts()
    table = rows.rename_axis("row").rename("chips").reset_index()
    section = ReportSection("rows", "Where in the image chips are", [Text(f"{len(rows)} rows.")])
    return Result({"n_rows": len(rows)}, {"rows": table}, sections=[section])
'''


def test_an_analysis_is_added_by_adding_one_file(copy_of_done):
    repo = copy_of_done()
    for folder in ("pipeline", "stages"):
        shutil.copytree(ROOT / folder, repo.path / folder)
    (repo.path / "pipeline/validate/analyses/rows_of_chips.py").write_text(ANALYSIS)
    found = repo.said("dvc", "repro")
    assert "chip: " not in found
    rows = table(repo, "rows")
    metrics = json.loads((repo.path / "results/all_metrics.json").read_text())
    assert metrics["n_rows"] == len(rows) > 0
    assert sum(int(row["chips"]) for row in rows) == metrics["n_validation"]
    page = (repo.path / "results/report.html").read_text()
    assert "Where in the image chips are" in page
    assert page.index('id="gallery"') < page.index('id="rows"') < page.index('id="classes"')
    assert "different rows of chips" in page
