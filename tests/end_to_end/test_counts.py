"""Counts: the rows computed are exactly those that changed, and every stage says so."""

from __future__ import annotations

import json

import pytest
from conftest import new_repo, texture, textures
from stage_counts import stage_counts

EACH, POINTS = 7, 10


def counts(said):
    """The stages' machine-readable lines, by stage."""
    rows = stage_counts(said)
    return {row["stage"]: row for row in rows}


class Changing:
    """A repository that is changed step by step, and what each step cost the extract stage."""

    def __init__(self, repo):
        self.repo, self.points = repo, repo.bucket.points

    def repro(self, *options):
        self.repo.points()
        done = self.repo.run("dvc", "repro", *options)
        self.said = done.stdout + done.stderr
        self.found = counts(done.stderr)
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


def test_the_counts_are_printed_once_and_are_in_the_list_of_runs(changing):
    changing.repo.set(extract__batch=48)
    computed = changing.repro()
    line = changing.found["extract"]
    summary = f"extract: {line['rows']:,} chips, {computed:,} computed, 0 reused, 0 rejected"
    assert changing.said.count(summary) == 1
    assert "Luigi Execution Summary" not in changing.said
    assert '{"' not in changing.said
    runs = (changing.repo.path / ".quadrat/runs.jsonl").read_text().splitlines()
    logged = [log for log in map(json.loads, runs) if log["stage"] == "extract"][-1]
    assert {"run", "at", "summary", "reasons"} <= {*logged}
    assert {name: logged[name] for name in line} == line
    assert logged["summary"] == summary


def test_luigis_summary_is_printed_if_verbose(changing):
    changing.repo.set(extract__batch=40)
    changing.repo.points()
    printed = changing.repo.said("python", "-m", "stages.extract", "--verbose")
    assert "===== Luigi Execution Summary =====" in printed
    assert printed.count(" computed, ") == 1


@pytest.mark.slow
def test_luigis_own_command_prints_the_counts(changing):
    (changing.repo.path / "data/manifests/labels.json").unlink()
    said = changing.repo.said(
        "luigi", "--module", "pipeline.tasks", "Chip", "--local-scheduler", "--workers", "2"
    )
    assert said.count(f"chip: {EACH * 3 * POINTS:,} chips, 0 computed") == 1
    assert "===== Luigi Execution Summary =====" in said
