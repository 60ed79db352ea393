"""What a format is given to write: answers about chips, or the labels that people gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.core import label_sets


@dataclass(frozen=True, slots=True)
class AnnotatedChip:
    """One chip and what is said of it.

    Attributes:
        window: top, left, height, width.
        label: what people have said; None: nothing.
        answer: what is to be written; None: nothing.
        score: the classifier's, where the answer is its own.
    """

    key: str
    row: int
    col: int
    window: tuple[int, int, int, int]
    image_height: int
    image_width: int
    label: str | None
    answer: str | None
    score: float | None

    @property
    def is_whole(self) -> bool:
        """Whether it is all of its image."""
        return self.window == (0, 0, self.image_height, self.image_width)

    @property
    def inside(self) -> tuple[int, int, int, int]:
        """What of the window lies in the image: tools know no box that reaches over the border."""
        top, left = max(self.window[0], 0), max(self.window[1], 0)
        bottom = min(self.window[0] + self.window[2], self.image_height)
        right = min(self.window[1] + self.window[3], self.image_width)
        return top, left, bottom - top, right - left


@dataclass(frozen=True, slots=True)
class WrittenAnnotations:
    """What is to be written.

    Attributes:
        rows: chips, sorted by key, row and col.
        others: the other chips of their images, for formats that replace all of an image.
        prefix: `annotations.prefix`: what a name in the file lacks of its key.
        separator: `annotations.label_separator`.
        url: the bucket's.
        model: what made the answers.
        at_points: whether chips stand around points, so that their centres are what matters.
    """

    rows: Sequence[AnnotatedChip]
    others: Sequence[AnnotatedChip] = ()
    prefix: str = ""
    separator: str | None = None
    url: str = ""
    model: str = ""
    at_points: bool = False

    def name(self, key: str) -> str:
        """Give the image's name as a file of annotations has it."""
        return key.removeprefix(self.prefix)

    def split(self, text: str | None) -> tuple[str, ...]:
        """Give the labels of an answer."""
        return () if text is None else label_sets.split(text, self.separator)

    def labels(self) -> list[str]:
        """Give all labels of the answers, sorted."""
        return sorted({label for chip in self.rows for label in self.split(chip.answer)})
