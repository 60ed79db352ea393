"""Annotate: predictions for the chips that a person wants to look at."""

import csv
import json
import shutil

import pyarrow.parquet as pq
import pytest

ANNOTATE = ("python", "-m", "stages.annotate")


@pytest.fixture
def issues(done_repo, tmp_path):
    """A copy of a finished checkout whose validation results list two label issues."""
    path = tmp_path / "repo"
    shutil.copytree(done_repo.path, path, symlinks=True)
    repo = type(done_repo)(path, done_repo.bucket, done_repo.env)
    rows = pq.read_table(path / "results/predictions.parquet").slice(0, 2).to_pylist()
    table = path / "results/tables/label_issues.csv"
    table.chmod(0o644)
    with table.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerows([["chip_id"], *([row["chip_id"].hex()] for row in rows)])
    return repo, rows


def test_label_issues_are_written_with_their_predictions(issues):
    repo, rows = issues
    printed = repo.said(*ANNOTATE, "labelstudio", "tasks.json", "--of", "label_issues")
    assert printed.startswith("tasks.json: 2 chips of ")
    assert "2 with a prediction" in printed
    tasks = json.loads((repo.path / "tasks.json").read_bytes())
    results = [result for task in tasks for result in task["predictions"][0]["result"]]
    labels = [label for result in results for label in result["value"]["keypointlabels"]]
    assert sorted(labels) == sorted(row["predicted"] for row in rows)


def test_predictions_below_the_score_are_left_out(issues):
    repo, rows = issues
    least = max(row["score"] for row in rows)
    expected = sum(row["score"] >= least for row in rows)
    options = ("--of", "label_issues", "--at-least", repr(least))
    assert f"{expected} with a prediction" in repo.said(*ANNOTATE, "coco", "a.json", *options)


def test_the_choices_are_listed_and_a_target_that_cannot_be_written_is_an_error(issues):
    repo, _ = issues
    done = repo.run(*ANNOTATE, "coco", "a.json", "--of", "suspects", check=False)
    assert done.returncode == 2
    for choice in ("label_issues", "validation", "unlabelled", "all", "labels"):
        assert choice in done.stderr.rpartition("\n")[0].splitlines()[-1]
    done = repo.run(*ANNOTATE, "coco", "nowhere/a.json", check=False)
    assert done.returncode == 4
    assert done.stderr == "nowhere/a.json: cannot be written (No such file or directory)\n"
