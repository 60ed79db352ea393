"""Tables that a spreadsheet shows and never executes."""

import csv
import io
import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.validate.spreadsheet import to_csv

HARMFUL = ["=1+1", "+1", "-1+cmd|' /C calc'!A0", "@SUM(A1)", "\t1", "\r1", "\n1", "＝1＋1"]


def written(values):
    """Return the cells of a table of one column, as the csv module reads them back."""
    data = to_csv(pd.DataFrame({"label": pd.Series(values, dtype=object), "n": 1})).decode()
    rows = list(csv.reader(io.StringIO(data, newline="")))
    return [row[0] for row in rows[1:]]


@pytest.mark.parametrize("text", HARMFUL)
def test_no_cell_begins_as_a_formula(text):
    assert written([text, "coral"]) == ["'" + text, "coral"]
    assert to_csv(pd.DataFrame({text: [1]})).decode().lstrip('"').startswith("'")


def test_nor_does_a_part_that_a_spreadsheet_with_semicolons_takes_for_a_cell():
    assert written(["fish;=1+1", "fish\t-1", "\r=1", "a;b"]) == [
        "fish;'=1+1",
        "fish\t'-1",
        "'\r'=1",
        "a;b",
    ]


def test_numbers_and_what_is_missing_stay_as_they_are():
    table = pd.DataFrame({"bias": [-0.1234567, float("nan")], "n": [-1, 2], "label": ["-x", None]})
    assert to_csv(table).decode() == "bias,n,label\n-0.123457,-1,'-x\n,2,\n"


@given(st.lists(st.text("='+-@;,\t\r\n\"ab", min_size=1), min_size=1))
def test_every_text_can_be_had_back(values):
    cells = written(values)
    assert not [cell for cell in cells if cell[0] in "=+-@\t\n"]
    shown = re.compile(r"(^|[;\t\r\n])'(?='*[=+\-@\t\r\n])")
    assert [shown.sub(r"\1", cell) for cell in cells] == values
