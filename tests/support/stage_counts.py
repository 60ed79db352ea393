"""The counts that stages print, read back from what they printed."""

import re

LINE = re.compile(
    r"^(\w+): ([\d,]+) ([\w ]+), ([\d,]+) computed, ([\d,]+) reused, ([\d,]+) rejected",
    re.MULTILINE,
)


def stage_counts(printed):
    """One dict for each line of counts, in their order."""
    return [
        {
            "stage": stage,
            "unit": unit,
            **{
                name: int(number.replace(",", ""))
                for name, number in zip(
                    ("rows", "computed", "reused", "rejected"),
                    (rows, computed, reused, rejected),
                    strict=True,
                )
            },
        }
        for stage, rows, unit, computed, reused, rejected in LINE.findall(printed)
    ]
