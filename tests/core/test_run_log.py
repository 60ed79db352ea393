"""What is counted for a person is counted in grammar."""

import pytest

from pipeline.core.run_log import Counts, pluralize


@pytest.mark.parametrize(
    ("n", "things", "said"),
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
def test_one_thing_is_no_plural(n, things, said):
    assert pluralize(n, things) == said


def test_a_stage_of_one_image_says_so_and_keeps_its_unit_for_programs():
    counts = Counts("index", "images", 1, 1)
    assert counts.sentence() == "index: 1 image, 1 computed, 0 reused, 0 rejected"
    assert '"unit": "images"' in counts.line()
