"""Drawings: the confusion matrix, charts and their axes, and their PNG files."""

import io
import re
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import CURVE, data_of, run
from PIL import Image
from synthetic_predictions import certain_table, random_table
from vl_convert import svg_to_png

from pipeline.validate.analyses import calibration, learning_curve
from pipeline.validate.analyses.confusion import commonest_mistakes, confusion
from pipeline.validate.evaluation import evaluate
from pipeline.validate.report import page
from pipeline.validate.report.drawings import abbreviate, nice_ticks, shorten, text_width
from pipeline.validate.report.matrix import matrix, similar_beside


def matrix_of(predictions, classes, **more):
    return matrix(*confusion(evaluate(predictions, classes)), **more)


def test_cells_are_numbered_where_there_is_room():
    few = matrix_of(*random_table(1, n_classes=5))
    many = matrix_of(*random_table(1, n=4000, n_classes=100))
    assert sum(int(cell.text) for cell in few.cells) == 200
    assert {cell.text for cell in many.cells} == {""}


def test_beyond_a_hundred_labels_the_rarest_share_a_row():
    drawing = matrix_of(*random_table(1, n=6000, n_classes=130))
    assert (len(drawing.names), drawing.n_merged) == (101, 30)
    chips = sum(int(cell.title.split(": ")[1].split(" of ")[0]) for cell in drawing.cells)
    assert chips == 6000


def test_labels_taken_for_each_other_are_side_by_side():
    counts = np.diag([50, 50, 50, 50])
    counts[0, 2] = counts[2, 0] = counts[1, 3] = counts[3, 1] = 30
    order = similar_beside(counts)
    assert abs(order.index(0) - order.index(2)) == 1
    assert abs(order.index(1) - order.index(3)) == 1


def test_classes_that_never_occurred_are_left_out_of_the_matrix_and_counted():
    predictions = certain_table(["a", "b"], ["b", "b"], ["a", "b", "c", "d"])
    drawing = matrix_of(predictions, ["a", "b", "c", "d"])
    assert ({name.title for name in drawing.names}, drawing.n_absent) == ({"a", "b"}, 2)


def test_a_cell_says_what_it_counts():
    predictions = certain_table(["a", "a", "a", "b"], ["a", "a", "b", "b"], ["a", "b"])
    cells = matrix_of(predictions, ["a", "b"]).cells
    titles = {(cell.kind, cell.title) for cell in cells}
    assert ("r8", "a → a: 2 of 3 (66.7%)") in titles
    assert ("w6", "a → b: 1 of 3 (33.3%)") in titles
    assert ("r9", "b → b: 1 of 1 (100.0%)") in titles


def test_the_commonest_mistake_comes_first():
    predictions = certain_table(list("aaabbc"), list("bbabac"), list("abc"))
    mistakes = commonest_mistakes(*confusion(evaluate(predictions, list("abc"))))
    assert [(label, predicted, cell.n) for label, predicted, cell, _ in mistakes] == [
        ("a", "b", 2),
        ("b", "a", 1),
    ]


def test_a_curve_without_calibration_draws_the_training_loss_alone():
    curve = CURVE.assign(calibration_loss=None, calibration_accuracy=None)
    charts = learning_curve.draw(curve)
    assert [[line.name for line in chart.lines] for chart in charts] == [["training loss"]]


def test_one_epoch_makes_a_chart():
    assert [chart.title for chart in learning_curve.draw(CURVE.head(1))] == ["Loss", "Accuracy"]


numbers = st.floats(-1e6, 1e6).map(lambda x: round(x, 3))


@settings(deadline=None)
@given(numbers, numbers, st.integers(2, 8))
def test_ticks_cover_the_values_in_few_equal_steps(a, b, about):
    low, high = sorted((a, b))
    ticks = nice_ticks(low, high, about)
    slack = 1e-6 * max(abs(low), abs(high), 1)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack
    assert 2 <= len(ticks) <= about + 3
    assert np.ptp(np.diff(ticks)) <= slack


@pytest.mark.parametrize(("n", "text"), [(0, "0"), (9999, "9999"), (12_500, "12.5k"), (3e6, "3M")])
def test_counts_on_an_axis_are_short(n, text):
    assert abbreviate(n) == text


def test_every_point_is_within_its_frame():
    decisions = evaluate(*random_table(0)).decisions
    charts = [calibration.draw_reliability(decisions), calibration.draw_histogram(decisions)]
    for chart in [*charts, *learning_curve.draw(CURVE)]:
        places = [(dot.x, dot.y) for dot in [*chart.dots, *chart.bars]]
        for line in chart.lines:
            places += [tuple(map(float, place.split(","))) for place in line.points.split()]
        assert places
        assert all(chart.left <= x <= chart.right for x, _ in places)
        assert all(chart.top <= y <= chart.bottom for _, y in places)


def test_one_chip_is_no_plural():
    decisions = evaluate(*random_table(0, n=15, n_groups=5, hit=3.0)).decisions
    bars = calibration.draw_histogram(decisions).bars
    assert any(bar.title.startswith("1 chip with a score from ") for bar in bars)


def plots_of(*arguments, **changes):
    results = run(data_of(*arguments, **changes))
    return page.plots({name: plot for result in results for name, plot in result.plots.items()})


NAMES = {
    "confusion",
    "confusion_shares",
    "f1",
    "reliability",
    "risk_coverage",
    "learning_curve",
}


def test_the_plots_are_png_files_that_repeat():
    made = plots_of(*random_table(0))
    assert made.keys() == NAMES
    assert plots_of(*random_table(0)) == made
    for data in made.values():
        assert Image.open(io.BytesIO(data)).format == "PNG"
    assert plots_of(*random_table(0), curve=CURVE.head(0)).keys() == NAMES - {"learning_curve"}


@pytest.mark.parametrize("n_classes", [1, 2, 130])
def test_any_number_of_classes_makes_plots(n_classes):
    for data in plots_of(*random_table(1, n=10 * n_classes, n_classes=n_classes)).values():
        assert min(Image.open(io.BytesIO(data)).size) > 100


def test_a_plot_has_a_shade_for_each_cell_of_the_matrix():
    predictions = certain_table(list("aaab"), list("aabb"), ["a", "b"])
    data = plots_of(predictions, ["a", "b"])["confusion_shares"]
    drawing = matrix_of(predictions, ["a", "b"])
    theme = (page.FOLDER / "theme.css").read_text(encoding="utf-8").partition("@media")[0]
    pixels = Image.open(io.BytesIO(data)).convert("RGB")
    area = (drawing.side * page.PNG_SCALE) ** 2
    colours = {f"#{bytes(colour).hex()}" for n, colour in pixels.getcolors(10**6) if n > area / 2}
    shades = {theme.split(f"--{cell.kind}: ")[1][:7] for cell in drawing.cells}
    assert len(shades) == 3
    assert shades <= colours


def test_a_plot_has_latin_greek_and_cyrillic_as_they_are_and_other_scripts_in_latin_letters():
    own = "Échinoderme à œufs, Große Łódź; κοράλλι; коралл; Rạn san hô"
    assert page._transliterated(own) == own
    assert page._transliterated("e\u0301") == "é"
    assert page._transliterated("珊瑚 1, ปะการัง") == "ShanHu 1, pakarang"
    assert page._transliterated("<b>שונית</b>") == "<b>svnyt</b>"


def test_a_plot_does_not_change_with_the_fonts_of_the_machine():
    """Labels of any script are drawn with the one font that the converter brings along."""
    text = "Échinoderme κοράλλι коралл 珊瑚 → ≥ − – … ↓"
    predictions = certain_table([text, "b"] * 3, [text, "b"] * 3, sorted([text, "b"]))
    data = plots_of(predictions, sorted([text, "b"]))["f1"]
    ink = np.asarray(Image.open(io.BytesIO(data)).convert("L")) < 128
    assert ink.any()


def test_the_font_has_every_letter_that_is_not_transliterated():
    def drawn(letter):
        text = (
            f'<text x="5" y="30" font-family="{page.FONT}" font-size="24">&#{ord(letter)};</text>'
        )
        svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40">{text}</svg>'
        return svg_to_png(svg)

    letters = [chr(n) for n in range(32, 0x2300) if re.match(f"[{page.LETTERS}]", chr(n))]
    drawings = {letter: drawn(letter) for letter in letters if unicodedata.name(letter, "")}
    missing = drawn("\U0010fffd")
    assert not [letter for letter, drawing in drawings.items() if drawing == missing]


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=40), st.floats(20, 400))
def test_a_name_in_a_drawing_is_no_wider_than_its_place(name, width):
    shown = shorten(name, 12, width)
    assert text_width(shown, 12) <= width or shown == "…"
    assert shown == name or shown.endswith("…")
