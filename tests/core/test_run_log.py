"""The counts of a stage, for people and for programs."""

import json

import pytest

from pipeline.core.run_log import Counts, append_run_log, pluralize


@pytest.mark.parametrize(
    ("n", "things", "expected"),
    [
        (0, "images", "0 images"),
        (1, "images", "1 image"),
        (1_234, "images", "1,234 images"),
        (1, "unlabelled chips", "1 unlabelled chip"),
        (1, "classes", "1 class"),
        (2, "classes", "2 classes"),
        (1, "scenes", "1 scene"),
        (1, "files", "1 file"),
        (1, "values", "1 value"),
    ],
)
def test_one_thing_is_singular(n, things, expected):
    assert pluralize(n, things) == expected


def test_a_stage_with_one_image_is_in_the_singular_and_keeps_its_unit_for_programs():
    counts = Counts("index", "images", 1, 1)
    assert counts.summary() == "index: 1 image, 1 computed, 0 reused, 0 rejected"
    assert counts.values()["unit"] == "images"


def test_rejects_are_counted_by_reason():
    counts = Counts("chip", "chips", 9, 9, {"points_outside": 200, "no_such_image": 1})
    assert counts.summary().endswith("201 rejected (200 points_outside, 1 no_such_image)")
    assert counts.values()["rejected"] == 201


def test_the_run_log_has_one_json_object_in_a_line(tmp_path):
    path = tmp_path / "state" / "runs.jsonl"
    for n in (1, 2):
        append_run_log(path, "a run", Counts("index", "images", n, 0))
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["reused"] for line in lines] == [1, 2]
    assert {line["run"] for line in lines} == {"a run"}
