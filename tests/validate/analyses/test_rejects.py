"""What the report says about rejects."""

from pipeline.core import rejects
from pipeline.core.rejects import Reject
from pipeline.validate.analyses.rejects import by_reason


def test_rejects_are_counted_by_stage_and_reason_with_the_first_example():
    table_of_rejects = rejects.table(
        [
            Reject("extract", "b.jpg", "truncated", "the data end early"),
            Reject("chip", "a.jpg", "points_outside", "row 9 is below a.jpg", 9, 2),
            Reject("chip", "c.jpg", "points_outside", "row 7 is below c.jpg", 7, 2),
            Reject("chip", "d.jpg", "label_conflict", "two labels", 1, 1),
        ]
    )
    found = by_reason(table_of_rejects)
    assert [(row[0], row[1], *row[3:]) for row in found] == [
        ("chip", "points_outside", 2, "a.jpg (9, 2)", "row 9 is below a.jpg"),
        ("chip", "label_conflict", 1, "d.jpg (1, 1)", "two labels"),
        ("extract", "truncated", 1, "b.jpg", "the data end early"),
    ]
    assert found[0][2] == "the point lies outside its image"
