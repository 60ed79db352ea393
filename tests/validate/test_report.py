import io
import re
import unicodedata
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judging import certain_table, random_table, table
from pages import CURVE, facts_of
from PIL import Image

from pipeline.config.sections import ValidateParams
from pipeline.core import rejects
from pipeline.core.rejects import Reject
from pipeline.validate.metrics import _tables, judged
from pipeline.validate.metrics._trust import Threshold
from pipeline.validate.report import (
    GalleryChoice,
    GalleryItem,
    NearTwins,
    SplitCount,
    Trust,
    _charts,
    _confusion,
    _letters,
    _png,
    _rows,
    choose,
    picture,
    plots,
    render,
    thumbnail,
)

VOID = {"meta", "img", "br", "wbr"}
NOISE = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)


class Page(HTMLParser):
    """The page's tags with their attributes, and its text without style and script."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(html)
        self.text = " ".join("".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag in {"th", "td"}:
            self.words.append(" ")

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def facts():
    return facts_of(*random_table(0))


def chip(kind="right", **changes):
    made = GalleryChoice(b"0" * 16, "a.jpg", 3, 4, "sand", "sand", 0.75, kind)
    return replace(made, **changes)


HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7 * 7 }}"


def test_texts_with_html_in_them_are_text_everywhere():
    predictions = certain_table(
        [HOSTILE, "b", "unseen " + HOSTILE] * 4,
        [HOSTILE, HOSTILE, "b"] * 4,
        [HOSTILE, "b"],
        [HOSTILE, "g"] * 6,
    )
    hostile = chip(key=HOSTILE, label=HOSTILE, predicted=HOSTILE)
    by = _tables.per_value(
        judged(predictions, [HOSTILE, "b"]), [HOSTILE] * 12, ValidateParams(bootstrap_rounds=9)
    )
    page = Page(
        render(
            facts_of(
                predictions,
                [HOSTILE, "b"],
                title=HOSTILE,
                splits={HOSTILE: SplitCount(1, 1, 1)},
                rejects=rejects.table([Reject("chip", HOSTILE, "truncated", HOSTILE)]),
                gallery=[GalleryItem(hostile, thumbnail(NOISE, 1))],
                by={HOSTILE: by},
                provenance={HOSTILE: {HOSTILE: HOSTILE}},
            )
        )
    )
    assert len(page.all("script")) == 1
    assert len(page.all("img")) == 1
    assert not [name for _, attributes in page.tags for name in attributes if name[:2] == "on"]
    assert "alert(1)" in page.text
    assert "{{ 7 * 7 }}" in page.text


def test_the_page_needs_no_network(facts):
    html = render(facts)
    page = Page(html)
    sources = [a[name] for _, a in page.tags for name in ("src", "href") if name in a]
    assert sources
    assert all(source.startswith(("#", "data:image/webp;base64,")) for source in sources)
    assert not re.search(r"https?://|@import|url\(|//cdn", html)


def test_every_link_leads_to_a_place_on_the_page(facts):
    page = Page(render(facts))
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {link["href"][1:] for link in page.all("a")} <= ids


def test_the_same_facts_give_the_same_bytes():
    first, again = (render(facts_of(*random_table(3, unseen=2))) for _ in range(2))
    assert first == again


def test_every_metric_is_shown(facts):
    text = Page(render(facts)).text
    for name, value in facts.metrics.items():
        shown = f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
        assert shown in text, name
        assert name.removesuffix("_low").removesuffix("_high") in text


def test_a_metric_that_the_report_does_not_know_is_shown(facts):
    page = Page(render(replace(facts, metrics={**facts.metrics, "mean_cover_error": 0.12351})))
    assert "mean_cover_error 0.1235 – –" in page.text


def test_the_headline_gives_the_interval_and_the_baseline():
    """Three of four right; one group, so the interval is everything; 'a' is the commonest."""
    predictions = certain_table(list("aaab"), list("aabb"), ["a", "b"], "gggg")
    text = Page(render(facts_of(predictions, ["a", "b"]))).text
    assert (
        "Of 4 validation chips from 1 group, the classifier gave 75.0 % their label "
        "(95 % interval: 0.0 % to 100.0 %). It chooses among 2 classes; always answering the "
        "commonest label would be right for 75.0 %."
    ) in text


@pytest.mark.parametrize("n_classes", [1, 2, 5, 100, 130])
def test_any_number_of_classes_makes_a_page(n_classes):
    n = 30 * n_classes
    page = Page(render(facts_of(*random_table(1, n=n, n_classes=n_classes, hit=3.0))))
    assert not page.open
    cells = [a for a in page.all("rect") if set(a) == {"x", "y", "width", "height"}]
    assert len(cells) >= min(n_classes, 100)


def test_cells_are_numbered_where_there_is_room():
    few = _confusion.matrix(judged(*random_table(1, n_classes=5)))
    many = _confusion.matrix(judged(*random_table(1, n=4000, n_classes=100)))
    assert sum(int(cell.text) for cell in few.cells) == 200
    assert {cell.text for cell in many.cells} == {""}


def test_beyond_a_hundred_labels_the_rarest_share_a_row():
    matrix = _confusion.matrix(judged(*random_table(1, n=6000, n_classes=130)))
    assert (len(matrix.names), matrix.merged) == (101, 30)
    chips = sum(int(cell.title.split(": ")[1].split(" of ")[0]) for cell in matrix.cells)
    assert chips == 6000


def test_labels_taken_for_each_other_stand_side_by_side():
    counts = np.diag([50, 50, 50, 50])
    counts[0, 2] = counts[2, 0] = counts[1, 3] = counts[3, 1] = 30
    order = _confusion.similar_beside(counts)
    assert abs(order.index(0) - order.index(2)) == 1
    assert abs(order.index(1) - order.index(3)) == 1


def test_classes_that_never_occurred_are_left_out_of_the_matrix_and_counted():
    predictions = certain_table(["a", "b"], ["b", "b"], ["a", "b", "c", "d"])
    matrix = _confusion.matrix(judged(predictions, ["a", "b", "c", "d"]))
    assert ({name.title for name in matrix.names}, matrix.absent) == ({"a", "b"}, 2)


def test_a_cell_says_what_it_counts():
    predictions = certain_table(["a", "a", "a", "b"], ["a", "a", "b", "b"], ["a", "b"])
    cells = _confusion.matrix(judged(predictions, ["a", "b"])).cells
    titles = {(cell.kind, cell.title) for cell in cells}
    assert ("r8", "a → a: 2 of 3 (66.7%)") in titles
    assert ("w6", "a → b: 1 of 3 (33.3%)") in titles
    assert ("r9", "b → b: 1 of 1 (100.0%)") in titles


def test_the_commonest_mistake_comes_first():
    predictions = certain_table(list("aaabbc"), list("bbabac"), list("abc"))
    found = [
        (p.label, p.predicted, p.n) for p in _confusion.pairs(judged(predictions, list("abc")))
    ]
    assert found == [("a", "b", 2), ("b", "a", 1)]


def test_no_epochs_are_said_to_be_none(facts):
    text = Page(render(replace(facts, curve=CURVE.head(0)))).text
    assert "This classifier has no epochs to draw." in text


def test_a_curve_without_calibration_draws_the_training_loss_alone():
    curve = CURVE.assign(calibration_loss=None, calibration_accuracy=None)
    charts = _charts.curve_charts(curve)
    assert [[line.name for line in chart.lines] for chart in charts] == [["training loss"]]


def test_one_epoch_makes_a_chart():
    assert [chart.title for chart in _charts.curve_charts(CURVE.head(1))] == ["Loss", "Accuracy"]


numbers = st.floats(-1e6, 1e6).map(lambda x: round(x, 3))


@settings(deadline=None)
@given(numbers, numbers, st.integers(2, 8))
def test_ticks_cover_the_values_in_few_equal_steps(a, b, about):
    low, high = sorted((a, b))
    ticks = _charts.nice_ticks(low, high, about)
    slack = 1e-6 * max(abs(low), abs(high), 1)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack
    assert 2 <= len(ticks) <= about + 3
    assert np.ptp(np.diff(ticks)) <= slack


@pytest.mark.parametrize(("n", "text"), [(0, "0"), (9999, "9999"), (12_500, "12.5k"), (3e6, "3M")])
def test_counts_on_an_axis_are_short(n, text):
    assert _charts.brief(n) == text


def test_every_point_lies_within_its_frame(facts):
    for chart in [*_charts.reliability_charts(facts.judged), *_charts.curve_charts(CURVE)]:
        places = [(dot.x, dot.y) for dot in [*chart.dots, *chart.bars]]
        for line in chart.lines:
            places += [tuple(map(float, place.split(","))) for place in line.points.split()]
        assert places
        assert all(chart.left <= x <= chart.right for x, _ in places)
        assert all(chart.top <= y <= chart.bottom for _, y in places)


def test_rejects_are_counted_by_stage_and_reason_with_the_first_example():
    table_of_rejects = rejects.table(
        [
            Reject("extract", "b.jpg", "truncated", "the data end early"),
            Reject("chip", "a.jpg", "points_outside", "row 9 lies below a.jpg", 9, 2),
            Reject("chip", "c.jpg", "points_outside", "row 7 lies below c.jpg", 7, 2),
            Reject("chip", "d.jpg", "label_conflict", "two labels", 1, 1),
        ]
    )
    found = _rows.reject_rows(table_of_rejects)
    assert [(row.stage, row.reason, row.n, row.place, row.detail) for row in found] == [
        ("chip", "points_outside", 2, "a.jpg (9, 2)", "row 9 lies below a.jpg"),
        ("chip", "label_conflict", 1, "d.jpg (1, 1)", "two labels"),
        ("extract", "truncated", 1, "b.jpg", "the data end early"),
    ]
    assert found[0].meaning == "the point lies outside its image"


def test_no_rejects_are_said_to_be_none(facts):
    assert "Nothing: no stage rejected a row." in Page(render(facts)).text


def test_straddling_groups_are_a_warning(facts):
    text = Page(render(replace(facts, straddling=3))).text
    assert "3 groups are in more than one split." in text
    assert "every figure here flatters it" in text
    assert "flatters" not in Page(render(facts)).text


def test_one_group_or_chip_is_no_plural(facts):
    straddling = replace(facts, straddling=1)
    assert next(_rows.notes(straddling)).startswith("1 group has chips in more than one split")
    few = facts_of(*random_table(0, n=15, n_groups=5, hit=3.0)).judged
    _, histogram = _charts.reliability_charts(few)
    assert any(bar.title.startswith("1 chip with a score from ") for bar in histogram.bars)


def test_what_weakens_the_headline_is_said():
    assert list(_rows.notes(facts_of(*random_table(0, n=400, n_groups=20, hit=3.0)))) == []
    weak = certain_table(["a", "a", "new"], ["b", "a", "a"], ["a", "b"], "xyz")
    assert list(_rows.notes(facts_of(weak, ["a", "b"]))) == [
        "The intervals rest on only 3 groups and are likely to be too narrow.",
        (
            "1 chip carries a label that the classifier never saw in training; "
            "it counts as wrong, and is left out of the log loss."
        ),
        "The classifier is no better than always answering the commonest label.",
    ]


def test_images_in_two_splits_are_said_first_and_listed(facts):
    twins = pd.DataFrame(
        [["a.jpg", "train", HOSTILE, "validation"]],
        columns=["key", "split", "same_as", "same_as_split"],
    )
    found = replace(facts, twins=twins)
    assert next(_rows.notes(found)).startswith("1 pair of images has the same bytes")
    text = Page(render(found)).text
    assert f"a.jpg train {HOSTILE} validation" in text
    assert "No image of one split has the same bytes" in Page(render(facts)).text


def near_of(count, **more):
    row = ["ab", "a.jpg", 1, 2, "validation", "x", "cd", HOSTILE, 3, 4, "train", "y", 0.5, 2.0]
    names = ["chip_id", "key", "row", "col", "split", "label"]
    columns = [*names, *(f"near_{name}" for name in names), "distance", "usual"]
    known = {"judged": 10, "learnt": 20, "of_judged": 10, "of_learnt": 20, **more}
    return NearTwins(pd.DataFrame([row] * count, columns=columns), **known)


def test_near_twins_are_said_and_shown_side_by_side(facts):
    picture = thumbnail(NOISE, 1)
    found = replace(facts, near=near_of(2, pictures={0: (picture, picture)}))
    assert next(_rows.notes(found)).startswith("2 validation chips look nearly the same")
    html = render(found)
    assert html.count(' around row 1, column 2" src="data:image/webp') == 1
    assert html.count(' around row 3, column 4" src="data:image/webp') == 1
    text = Page(html).text
    assert "10 validation chips was compared" in text
    assert "2 look nearly the same as one of them" in text
    assert "25.0" in text[text.index("in two splits") :]
    assert "of the usual distance" in text
    assert HOSTILE in text


def test_of_a_sample_it_is_said_that_it_is_one(facts):
    found = replace(facts, near=near_of(1, of_judged=1234, of_learnt=5678, more=True))
    text = Page(render(found)).text
    assert "a sample of 10 validation chips" in text
    assert "(of 1,234 and 5,678)" in text
    assert "at least 1 looks nearly the same" in text
    none = Page(render(replace(facts, near=near_of(0)))).text
    assert "20 chips that were learnt from: none looks nearly the same" in none


def test_the_threshold_is_told_with_what_it_comes_to(facts):
    chosen, confirmed = Threshold(0.875, 0.7, 0.96), Threshold(0.875, 0.65, 0.9)
    text = Page(render(replace(facts, trust=Trust(0.95, chosen, confirmed)))).text
    assert "answers with a score of 0.875 or more are right for 96.0" in text
    assert "65.0" in text
    assert "90.0" in text
    none = Trust(0.95, Threshold(None, 0.0, None), Threshold(None, 0.0, None))
    assert "every answer is for a person" in Page(render(replace(facts, trust=none))).text
    assert "no calibration chip to choose a threshold by" in Page(render(facts)).text


def test_suspects_are_counted_and_shown(facts):
    item = GalleryItem(chip("suspect", label="sand", predicted="rock"), thumbnail(NOISE, 1))
    text = Page(render(replace(facts, n_label_issues=3, gallery=[item]))).text
    assert "3 labels of the calibration and validation splits may be wrong" in text
    assert "Is the label right? The classifier is confident of another" in text


def test_split_counts_and_provenance_are_shown(facts):
    origin = {"Recipes": {"features": "5e1a7c"}, "Libraries": {"numpy": "2.4"}}
    text = Page(render(replace(facts, provenance=origin, settings="train:\n  epochs: 3\n"))).text
    assert "train 17 5,100 5,000" in text
    assert "Recipes features 5e1a7c Libraries numpy 2.4" in text
    assert "without where things lie train: epochs: 3" in text


def test_tables_can_be_heard_and_sorted_by_keyboard(facts):
    page = Page(render(facts))
    headings = page.all("th")
    assert all(heading.get("scope") in {"col", "row"} for heading in headings)
    sortable = [heading for heading in headings if "aria-sort" in heading]
    assert len(sortable) == len(page.all("button")) > 0
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    assert page.all("html") == [{"lang": "en"}]


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_every_text_has_the_contrast_that_wcag_asks_for():
    """4.5 to 1 at least, light and dark: WCAG 2.2, 1.4.3 (AA)."""
    import pipeline.validate.report

    css = (
        Path(pipeline.validate.report.__file__).parent / pipeline.validate.report.TEMPLATE
    ).read_text()
    shades = re.findall(r"--f: (#\w{6}); --t: (#\w{6})", css)
    assert len(shades) == 2 * 2 * len(_confusion.SHADES)
    assert min(contrast(fill, text) for fill, text in shades) >= 4.5
    for mode in re.findall(r":root \{(.*?)\n *\}", css, re.DOTALL):
        colours = dict(re.findall(r"--(\w+): (#\w{6})", mode))
        for text in ("ink", "quiet", "blue", "orange", "green", "yellow"):
            assert contrast(colours[text], colours["page"]) >= 4.5, text
        for ground in ("raised", "tint", "warn"):
            assert contrast(colours["ink"], colours[ground]) >= 4.5, ground


def test_the_gallery_holds_each_kind_under_its_heading(facts):
    webp = thumbnail(NOISE, 3)
    items = [
        GalleryItem(chip("wrong", label="sand", predicted="rubble", score=0.987), webp),
        GalleryItem(chip("right"), webp),
    ]
    text = Page(render(replace(facts, gallery=items))).text
    assert "Wrong, the surest first sand, taken for rubble (0.99)a.jpg · 3, 4" in text
    assert "Right, and typical of their label sand, answered so (0.75)" in text
    assert "Doubtful: two classes nearly tie" not in text


def test_a_large_gallery_stays_under_ten_megabytes(facts):
    """Noise is what compresses worst; 60 and 200 are the most of either size, 96 keeps pixels."""
    noise = np.random.default_rng(1).integers(0, 256, (800, 800, 3), dtype=np.uint8)
    for count, side in ((60, 800), (200, 800), (200, 96)):
        items = [GalleryItem(chip(), thumbnail(noise[:side, :side], count))] * count
        assert len(render(replace(facts, gallery=items)).encode()) < 10e6


@pytest.mark.parametrize(("of", "size"), [(60, (320, 160)), (61, (176, 88))])
def test_a_thumbnail_keeps_its_shape(of, size):
    wide = np.zeros((400, 800, 3), dtype=np.uint8)
    assert Image.open(io.BytesIO(thumbnail(wide, of))).size == size


def seen(webp):
    return np.asarray(Image.open(io.BytesIO(webp)).convert("RGB"))


@pytest.mark.parametrize(
    ("window", "shown", "frame"),
    [
        ((30, 25, 20, 10), (20, 20, 40, 20), (10, 5, 20, 10)),
        ((-4, 60, 20, 20), (0, 50, 26, 30), (0, 10, 16, 20)),
    ],
)
def test_a_chip_is_framed_within_what_surrounds_it(window, shown, frame):
    """A frame lies outside the chip, whose own pixels stay; no picture goes past its image."""
    image = np.random.default_rng(2).integers(60, 200, (60, 80, 3), dtype=np.uint8)
    top, left, height, width = shown
    found = seen(picture(image, window, 1))
    assert found.shape[:2] == (height, width)
    around = image[top : top + height, left : left + width]
    row, col, rows, cols = frame
    inside = np.s_[row : row + rows, col : col + cols]
    assert np.array_equal(found[inside], around[inside])
    assert (found[row + rows, col : col + cols] == 255).all()
    assert (found[row + rows + 2, col : col + cols] == 0).all()
    far = np.ones(around.shape[:2], bool)
    far[max(0, row - 3) : row + rows + 3, max(0, col - 3) : col + cols + 3] = False
    assert np.array_equal(found[far], around[far])


def test_a_chip_that_is_its_whole_image_has_no_frame():
    image = NOISE[:40, :60]
    assert np.array_equal(seen(picture(image, (0, 0, 40, 60), 1)), image)


def test_a_large_chips_frame_shrinks_with_its_picture():
    image = np.full((1000, 1000, 3), 128, np.uint8)
    found = seen(picture(image, (300, 300, 400, 400), 1))
    assert found.shape == (320, 320, 3)
    white = np.flatnonzero(found[160, :, 0] > 220)
    assert np.abs(white - np.array([78, 79, 240, 241])).max() <= 1


def test_a_small_chip_is_shown_pixel_by_pixel():
    small = NOISE[:20, :30]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(thumbnail(small, 1)))), small)


def chosen(predictions, classes, count):
    return choose(predictions, judged(predictions, classes), count)


def test_the_gallery_takes_a_third_of_each_kind_and_no_chip_twice():
    predictions, classes = random_table(0, n=300)
    found = chosen(predictions, classes, 24)
    kinds = [choice.kind for choice in found]
    assert kinds == ["wrong"] * 8 + ["doubtful"] * 8 + ["right"] * 8
    assert len({choice.chip_id for choice in found}) == 24


def test_the_gallery_goes_round_the_labels():
    found = chosen(*random_table(0, n=300), 24)
    for kind in ("wrong", "doubtful", "right"):
        labels = [choice.label for choice in found if choice.kind == kind]
        assert {labels.count(label) for label in labels} == {2}


def test_the_gallery_shows_the_surest_mistake_the_nearest_tie_and_the_usual_right():
    a, b = [[x, 1 - x] for x in (0.6, 0.9, 0.51, 0.7, 0.8, 0.99)], ["b", "b", "a", "a", "a", "a"]
    found = chosen(table(b, a, ["a", "b"]), ["a", "b"], 3)
    # Scores of the right ones are 0.51, 0.7, 0.8 and 0.99: the median is 0.75.
    shown = [(choice.kind, round(choice.score, 2)) for choice in found]
    assert shown[:2] == [("wrong", 0.9), ("doubtful", 0.51)]
    assert shown[2] in [("right", 0.7), ("right", 0.8)]


def test_what_no_chip_is_wrong_enough_for_goes_to_the_other_kinds():
    predictions = certain_table(list("ab") * 10, list("ab") * 10, ["a", "b"])
    kinds = [choice.kind for choice in chosen(predictions, ["a", "b"], 6)]
    assert kinds == ["doubtful"] * 3 + ["right"] * 3


@pytest.mark.parametrize("count", [0, 1, 500])
def test_the_gallery_gives_no_more_than_asked_or_there_are(count):
    assert len(chosen(*random_table(0, n=50), count)) == min(count, 50)


def test_the_choice_does_not_depend_on_other_runs():
    assert chosen(*random_table(4), 9) == chosen(*random_table(4), 9)


def test_the_plots_are_png_files_that_repeat_and_hold_nothing_but_pixels(facts):
    made = plots(facts)
    assert [*made] == ["confusion", "confusion_shares", "f1", "reliability", "coverage", "learning"]
    assert plots(replace(facts)) == made
    for data in made.values():
        picture = Image.open(io.BytesIO(data))
        assert (picture.format, picture.info) == ("PNG", {})
    without = plots(replace(facts, curve=CURVE.head(0)))
    assert made.keys() - without.keys() == {"learning"}


@pytest.mark.parametrize("n_classes", [1, 2, 130])
def test_any_number_of_classes_makes_plots(n_classes):
    predictions = random_table(1, n=10 * n_classes, n_classes=n_classes)
    for data in plots(facts_of(*predictions)).values():
        assert min(Image.open(io.BytesIO(data)).size) > 100


def test_a_plot_has_a_shade_for_each_cell_of_the_matrix():
    predictions = certain_table(list("aaab"), list("aabb"), ["a", "b"])
    data = plots(facts_of(predictions, ["a", "b"]))["confusion_shares"]
    matrix = _confusion.matrix(judged(predictions, ["a", "b"]))
    pixels = Image.open(io.BytesIO(data)).convert("RGB")
    side = matrix.side * _png.SHARP
    colours = {colour for n, colour in pixels.getcolors(10**6) if n > side**2 / 2}
    shades = {_png._shades()[cell.kind][0] for cell in matrix.cells}
    assert len(shades) == 3
    assert shades <= {f"#{bytes(colour).hex()}" for colour in colours}


def test_a_plot_writes_latin_greek_and_cyrillic_as_they_are_and_other_scripts_in_latin_letters():
    own = "Échinoderme à œufs, Große Łódź; κοράλλι; коралл; Rạn san hô"
    assert _letters.drawable(own) == own
    assert _letters.drawable("e\u0301") == "é"
    assert _letters.drawable("珊瑚 1, ปะการัง") == "ShanHu 1, pakarang"
    assert _letters.drawable("<b>שונית</b>") == "<b>svnyt</b>"


def test_the_font_has_every_letter_that_it_is_said_to_have():
    letters = _letters.font(40)
    signs = [chr(at) for first, last in _letters.LETTERS for at in range(first, last + 1)]
    inked = {sign for sign in signs if any(letters.getmask(sign))}
    told = {sign for sign in signs if unicodedata.name(sign, "") and not sign.isspace()}
    assert told <= inked


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=40), st.floats(20, 400))
def test_a_name_in_a_plot_is_no_wider_than_its_place(text, width):
    shown = _letters.fitted(text, 12, width)
    assert _letters.font(12).getlength(shown) <= width or shown == "…"
    assert shown == _letters.drawable(text) or shown.endswith("…")


def test_the_weakest_classes_and_groups_stand_in_the_headline():
    labels, answers = ["a"] * 10 + ["b"] * 10 + ["c"] * 2, ["a"] * 16 + ["b"] * 6
    groups = ["good"] * 10 + ["bad"] * 10 + ["tiny"] * 2
    facts = facts_of(certain_table(labels, answers, list("abc"), groups), list("abc"))
    found = _rows.weakest(facts)
    assert found.classes == [
        ("c", 2, 0, "b"),
        ("b", 10, pytest.approx(8 / 16), "a"),
        ("a", 10, pytest.approx(20 / 26), "–"),
    ]
    assert found.groups == [("bad", 10, 0.4, "")]
    text = Page(render(facts)).text
    assert "Weakest classes Label Chips F1 Most often taken for c 2 0.0 % b b 10 50.0 % a" in text
    assert "Weakest groups of 10 chips or more Group Chips Accuracy bad 10 40.0 %" in text


def test_what_makes_no_mistake_is_not_called_weak_and_its_interval_is_not_believed():
    labels = list("abab")
    facts = facts_of(certain_table(labels, labels, ["a", "b"], list("uvwx")), ["a", "b"])
    text = Page(render(facts)).text
    assert "Weakest" not in text
    # 1 - 0.05 ** (1 / 4): such a share of groups with mistakes would be missed 1 time in 20
    assert "If 53% of such groups held mistakes, 4 without one would still be drawn" in text


def test_the_report_says_what_a_group_is_and_where_groups_go(facts):
    told = replace(facts, split_by="a folder of images", split_shares="half here, half there")
    text = Page(render(told)).text
    assert "A group is here a folder of images. Its own hash decides" in text
    assert "that of all its chips: half here, half there. So no chip" in text


def test_groups_values_and_cover_are_shown_with_their_intervals():
    made, classes = random_table(3, n=200, n_groups=4)
    keys = [f"{group}/{at % 5}" for at, group in enumerate(made["group"].to_pylist())]
    at = made.schema.get_field_index("key")
    made = made.set_column(at, "key", pa.array(keys, pa.string()))
    facts = facts_of(made, classes)
    values = [group[-1] for group in made["group"].to_pylist()]
    by = _tables.per_value(
        facts.judged, [str(int(v) % 2) for v in values], ValidateParams(bootstrap_rounds=50)
    )
    html = render(replace(facts, by={"site": by}))
    for row in [*facts.groups.itertuples(), *by.itertuples()]:
        low, high = round(100 * row.accuracy_low), round(100 * row.accuracy_high)
        assert f"<small>{low} to {high}</small>" in html
    for row in facts.covers.itertuples():
        bias = f"{100 * row.bias_low:+.1f} to {100 * row.bias_high:+.1f}".replace("-", "\u2212")
        r2 = f"{row.r2_low:.2f} to {row.r2_high:.2f}".replace("-", "\u2212")
        rmse = f"{100 * row.rmse_low:.1f} to {100 * row.rmse_high:.1f}"
        for text in (bias, rmse, r2):
            assert f"<small>{text}</small>" in html
