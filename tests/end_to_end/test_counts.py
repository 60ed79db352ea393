"""Counts: the rows computed are exactly those that changed, and every stage says so."""

from __future__ import annotations

import json

import pytest
from conftest import new_repo, texture, textures

EACH, POINTS = 7, 10


def counts(said):
    """The stages' machine-readable lines, by stage."""
    rows = [json.loads(line) for line in said.splitlines() if line.startswith('{"stage"')]
    return {row["stage"]: row for row in rows}


class Changing:
    """A repository that is changed step by step, and what each step cost the extract stage."""

    def __init__(self, repo):
        self.repo, self.points = repo, repo.bucket.points

    def repro(self, *options):
        self.repo.points()
        done = self.repo.run("dvc", "repro", *options)
        self.said = done.stdout + done.stderr
        self.found = counts(done.stdout)
        return self.found.get("extract", {"computed": 0})["computed"]


@pytest.fixture(scope="module")
def changing(tmp_path_factory):
    folder = tmp_path_factory.mktemp("counts")
    bucket = textures(folder / "bucket", each=0)
    for number in range(EACH):
        for kind in ("stripes", "noise", "plain"):
            bucket.add(kind, number, points=POINTS)
    for point in bucket.points[::9]:
        point["label"] = ""
    found = Changing(new_repo(folder / "repo", bucket))
    assert found.repro() == EACH * 3 * POINTS
    return found


@pytest.mark.slow
def test_every_kind_of_change_computes_exactly_the_rows_that_changed(changing):
    repo, points = changing.repo, changing.points
    everything = EACH * 3 * POINTS
    repo.set(extract__batch=16)
    assert changing.repro() == 0

    repo.bucket.add("noise", 90, points=POINTS)
    assert changing.repro() == POINTS
    assert changing.found["index"]["computed"] == 1
    assert changing.found["chip"]["computed"] == POINTS
    assert changing.found["chip"]["reused"] == everything

    texture("plain", 77).save(repo.bucket.folder / "stripes/003.png")
    assert changing.repro() == POINTS
    assert changing.found["extract"]["reused"] == everything

    (repo.bucket.folder / "noise/090.png").unlink()
    points[:] = [point for point in points if point["image"] != "noise/090.png"]
    assert changing.repro() == 0
    assert changing.found["extract"]["reused"] == everything

    for point in points[5:8]:
        point["row"] = (point["row"] + 11) % 96
    assert changing.repro() == 3
    assert changing.found["chip"]["computed"] == 3

    for point in points[20:30]:
        point["label"] = "stripes" if point["label"] == "plain" else "plain"
    assert changing.repro() == 0
    assert changing.found["chip"]["computed"] == 0
    assert changing.found["train"]["computed"] == changing.found["train"]["rows"] > 0

    for point in points:
        point["label"] = point["label"] or "noise"
    assert changing.repro() == 0
    assert changing.found["validate"]["computed"] == changing.found["validate"]["rows"] > 0

    repo.set(train__learning_rate=5e-4)
    assert changing.repro() == 0
    assert "extract" not in changing.found

    repo.set(extract__batch=32)
    assert changing.repro() == everything
    repo.set(extract__batch=16)
    assert changing.repro("--no-run-cache") == 0
    assert changing.found["extract"]["reused"] == everything
    assert changing.found["train"]["reused"] == changing.found["train"]["rows"]


def test_the_counts_are_in_luigis_summary_and_in_the_list_of_runs(changing):
    changing.repo.set(extract__batch=48)
    computed = changing.repro()
    line = changing.found["extract"]
    assert list(line) == ["stage", "unit", "rows", "computed", "reused", "rejected"]
    sentence = f"extract: {line['rows']:,} chips, {computed:,} computed, 0 reused, 0 rejected"
    summary = changing.said.split("===== Luigi Execution Summary =====")
    assert any(sentence in part for part in summary[1::2])
    runs = (changing.repo.path / ".quadrat/runs.jsonl").read_text().splitlines()
    written = [json.loads(run) for run in runs]
    assert {"run", "at", "said"} | line.items() <= {*written[-3], *written[-3].items()}


@pytest.mark.slow
def test_luigis_own_command_writes_the_counts_into_its_summary(changing):
    (changing.repo.path / "data/labels/manifest.json").unlink()
    said = changing.repo.said(
        "luigi", "--module", "pipeline.tasks", "Chip", "--local-scheduler", "--workers", "2"
    )
    summary = said.split("===== Luigi Execution Summary =====")[1]
    assert f"chip: {EACH * 3 * POINTS:,} chips, 0 computed" in summary
