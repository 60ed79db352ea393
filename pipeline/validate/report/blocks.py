"""The parts of the report: analyses build their sections from them, the template draws them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

from markupsafe import Markup

from pipeline.validate.report.drawings import Drawing

Kind = Literal[
    "text", "long", "count", "figure", "share", "points", "percent", "signed", "r2", "p", "browse"
]
"""How a column shows its values: `share` as per cent with a bar, `points` and `percent` as
differences and shares in per cent, `browse` as a `Cell` that opens its chips."""


class Estimate(NamedTuple):
    """A value with its 95 % interval, in the cell of a table; NaN where there is none."""

    value: float
    low: float
    high: float


class Cell(NamedTuple):
    """A number of chips with the place of their label and prediction in the confusion matrix."""

    n: int
    label: int
    predicted: int


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a heading for each row, its first column.

    Attributes:
        name: for those who hear the page.
        columns: kind by heading.
        rows: one value for each column: text, a number, an Estimate or a Cell.
        order: "ascending" or "descending" by the heading of the column that rows are sorted by;
            None: the reader cannot sort the table.
        style: CSS classes.
    """

    macro: ClassVar[str] = "table"
    name: str
    columns: Mapping[str, Kind]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    title: str = ""
    order: Mapping[str, str] | None = field(default_factory=dict)
    style: str = ""


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    macro: ClassVar[str] = "text"
    html: str | Markup
    style: str = ""


@dataclass(frozen=True, slots=True)
class Tile:
    """One of the headline's figures; *earlier* has those of earlier classifiers by name."""

    name: str
    value: str
    detail: str = ""
    earlier: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Tiles:
    """The headline's figures."""

    macro: ClassVar[str] = "tiles"
    tiles: Sequence[Tile]


@dataclass(frozen=True, slots=True)
class Figure:
    """Drawings below their caption."""

    macro: ClassVar[str] = "figure"
    drawings: Sequence[Drawing]
    caption: str | Markup = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """A chip as WebP; *row* is its place in the Browser's list, if it has one."""

    webp: bytes
    alt: str
    row: int | None = None


@dataclass(frozen=True, slots=True)
class Gallery:
    """Chips with their captions; *kind* is a CSS class. An item may have several pictures."""

    macro: ClassVar[str] = "gallery"
    items: Sequence[tuple[Sequence[Picture], Markup]]
    title: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Browser:
    """A list of chips that the reader can filter by label, prediction and key.

    Attributes:
        data: what the page's script reads, as JSON values.
    """

    macro: ClassVar[str] = "browser"
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Code:
    """Text in its own lines."""

    macro: ClassVar[str] = "code"
    text: str
    name: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and texts, by title."""

    macro: ClassVar[str] = "facts"
    groups: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class SideBySide:
    """Blocks side by side, if there is room."""

    macro: ClassVar[str] = "columns"
    columns: Sequence[Sequence[Block]]
    style: str = ""


Block = Table | Text | Tiles | Figure | Gallery | Browser | Code | Facts | SideBySide


@dataclass(frozen=True, slots=True)
class ReportSection:
    """A section of the page; *nav* is its name in the navigation, if that is shorter."""

    id: str
    title: str
    blocks: Sequence[Block]
    nav: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """The whole report.

    Attributes:
        title: the name of the data set.
        about: what was evaluated, by what: name and text.
        lede: the result in a few sentences.
        notes: what a reader must know before believing it.
    """

    title: str
    about: Sequence[tuple[str, str]]
    lede: Sequence[Markup]
    notes: Sequence[str]
    sections: Sequence[ReportSection] = field(default_factory=list)
