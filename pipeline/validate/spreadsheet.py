"""CSV that a spreadsheet shows and never executes.

A spreadsheet takes a cell that begins with =, +, - or @ for a formula, even one that came from
somebody's label, and a formula can fetch and send data. So such a text has an apostrophe before it,
which spreadsheets take for "this is text". The rule can be undone, since texts that begin with
apostrophes before such a sign get one more: take one away where any number of them is followed by
such a sign.

Source: OWASP, "CSV injection".
"""

from __future__ import annotations

import csv
import re
from typing import Any, Literal

import pandas as pd

FORMULA = re.compile(r"(^|[;\t\r\n])(?='*[=+\-@\t\r\n＝＋－＠])")
"""Where a formula may begin: also after what some spreadsheets take for the end of a cell."""


def to_csv(table: pd.DataFrame) -> bytes:
    """Return *table* as UTF-8, with six digits after the point; its texts cannot be formulas."""
    safe = table.round(6).rename(columns=escaped)
    for name in safe.columns:
        if not pd.api.types.is_numeric_dtype(safe[name]):
            safe[name] = safe[name].map(escaped)
    text: str = safe.to_csv(index=False, lineterminator="\n", quoting=_quoting(safe))
    return text.encode()


def _quoting(table: pd.DataFrame) -> Literal[0, 2]:
    """Return the csv module's constant: it does not quote a text for a carriage return alone."""
    texts = (str(value) for name in table.columns for value in (name, *_texts(table[name])))
    return csv.QUOTE_NONNUMERIC if any("\r" in text for text in texts) else csv.QUOTE_MINIMAL


def _texts(column: pd.Series[Any]) -> pd.Series[Any]:
    return column.iloc[:0] if pd.api.types.is_numeric_dtype(column) else column


def escaped(value: object) -> object:
    """Return a text with an apostrophe before whatever may be a formula; other values as is."""
    return FORMULA.sub(r"\1'", value) if isinstance(value, str) else value
