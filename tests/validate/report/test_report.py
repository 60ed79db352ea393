"""The report as HTML: what is in it, in which order, and that nothing of it can do harm."""

import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from html_pages import Page
from pages import (
    CARD,
    CURVE,
    data_of,
    full_data,
    html_of,
    labels_of,
    near_of,
    overlaps_of,
    warned,
    with_validate,
)
from synthetic_predictions import certain_table, random_table, with_keys

from pipeline.core import rejects
from pipeline.core.rejects import Reject
from pipeline.validate import report
from pipeline.validate.analyses import per_group
from pipeline.validate.comparable import Comparable
from pipeline.validate.predictions import Predictions
from pipeline.validate.report import pictures
from pipeline.validate.report.page import plots

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7 * 7 }}"


def made(*arguments, **changes):
    return Page(html_of(data_of(*arguments, **changes)))


@pytest.fixture(scope="module")
def page():
    return made(*random_table(0))


def test_texts_with_html_in_them_are_text_everywhere():
    predictions = certain_table(
        [HOSTILE, "b", "unseen " + HOSTILE] * 4,
        [HOSTILE, HOSTILE, "b"] * 4,
        [HOSTILE, "b"],
        [HOSTILE, "g"] * 6,
    )
    data = data_of(
        with_keys(predictions, [HOSTILE] * 12),
        [HOSTILE, "b"],
        rejected=rejects.table([Reject("chip", HOSTILE, "truncated", HOSTILE)]),
        decoder_warnings=warned([(b"w" * 16, HOSTILE, HOSTILE)]),
        metadata=lambda _: [HOSTILE] * 12,
        inputs={HOSTILE: HOSTILE},
        labels=labels_of([("a.jpg", HOSTILE, "train", HOSTILE)]),
    )
    html = html_of(with_validate(data, by=("site",), title=HOSTILE, gallery_size=4))
    page = Page(html)
    assert [script.get("type") for script in page.all("script")] == ["application/json", None]
    assert all(image["src"].startswith("data:image/webp;base64,") for image in page.all("img"))
    assert len(page.all("img")) == 5
    assert not [name for _, attributes in page.tags for name in attributes if name[:2] == "on"]
    assert page.text.count("alert(1)") > 10
    assert "{{ 7 * 7 }}" in page.text
    listed = json.loads(re.search(r'application/json">(.*?)</script>', html)[1])
    assert listed["keys"] == [HOSTILE]


def test_characters_that_cannot_be_seen_are_shown_by_their_codes():
    """A NUL, and one that reverses what follows: a label is not to look like another one."""
    names = ["cor\x00al", "\u202elaroc", "sand\x07", "\\u0000"]
    predictions = certain_table(names * 5, names[1:] + names[:1] + names * 4, names, names * 5)
    data = data_of(with_keys(predictions, ["a\u2067\x01.jpg"] * 20), names)
    html = html_of(data)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", html)
    page = Page(html)
    for shown in ("cor⟨U+0000⟩al", "⟨U+202E⟩laroc", "sand⟨U+0007⟩", "\\u0000"):
        assert shown in page.text
    listed = json.loads(re.search(r'application/json">(.*?)</script>', html)[1])
    assert listed["keys"] == ["a⟨U+2067⟩⟨U+0001⟩.jpg"]
    assert sorted(listed["labels"]) == sorted(
        ["cor⟨U+0000⟩al", "⟨U+202E⟩laroc", "sand⟨U+0007⟩", "\\u0000"]
    )
    drawings = {name: plot for result in data.results for name, plot in result.plots.items()}
    assert all(png.startswith(b"\x89PNG") for png in plots(drawings).values())


@pytest.mark.parametrize(
    ("calibration", "note"),
    [
        ({"method": "none", "why": "no calibration chip has a known label"}, True),
        ({"method": "none", "why": "train.calibration is none"}, False),
        ({"method": "mixture", "temperature": 1.0}, False),
    ],
)
def test_the_top_says_if_the_scores_could_not_be_calibrated(calibration, note):
    data = data_of(*random_table(0), card=CARD | {"calibration": calibration})
    html = html_of(data)
    top = html[: html.index('class="tiles"')]
    sentence = "The scores are not calibrated: no calibration chip has a known label."
    assert (sentence in top) == note
    metrics = {name: value for result in data.results for name, value in result.metrics.items()}
    assert metrics["calibrated"] == (calibration["method"] != "none")


def test_the_page_needs_no_network():
    html = html_of(data_of(*random_table(0)))
    sources = [a[name] for _, a in Page(html).tags for name in ("src", "href") if name in a]
    assert sources
    assert all(source.startswith(("#", "data:image/webp;base64,")) for source in sources)
    assert not re.search(r"https?://|@import|url\(|//cdn", html)


def test_every_link_leads_to_a_place_on_the_page(page):
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"][1:] for link in page.all("a")} <= set(ids)


def test_the_same_results_give_the_same_bytes():
    first, again = (html_of(data_of(*random_table(3, unseen=2))) for _ in range(2))
    assert first == again


def test_the_top_names_data_set_extractor_classifier_and_code(page):
    top = page.text[: page.text.index("Skip to the results") + 800]
    for name in ("Data set", "Chips", "Extractor", "Classifier", "Code"):
        assert name in top
    assert "demo/bucket: 2 labelled chips of 2 images" in top
    assert "filters, weights none" in top
    assert "mlp, hidden layers of 100" in top
    assert re.search(r"(as in pipeline/code.lock|edited, for validate); results version \d+", top)


def test_the_top_names_the_stages_of_edited_code():
    data = data_of(*random_table(3))
    made_by = data.card["made_by"]
    made_by = {**made_by, "code": {**made_by["code"], "edited": "0" * 64}}
    data.card = {**data.card, "made_by": made_by}
    assert "edited, for train" in Page(html_of(data)).text


def test_the_result_the_confusion_matrix_and_the_mistakes_come_first():
    page = Page(html_of(full_data(5, gallery=8)))
    sections = [attributes["id"] for attributes in page.all("section")]
    assert sections[:4] == ["headline", "comparison", "confusion", "gallery"]
    assert sections.index("metrics") > sections.index("classes")
    links = [link["href"][1:] for link in page.all("a") if link["href"] != "#main"]
    assert links == sections


def test_every_metric_is_shown(page):
    data = data_of(*random_table(0))
    text = Page(html_of(data)).text
    for name, value in {k: v for r in data.results for k, v in r.metrics.items()}.items():
        shown = f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
        assert shown in text, name
        assert name.removesuffix("_low").removesuffix("_high") in text


def test_the_headline_gives_the_interval_and_the_baseline():
    """Three of four correct; one group, so the interval is everything; 'a' is the commonest."""
    text = made(certain_table(list("aaab"), list("aabb"), ["a", "b"], "gggg"), ["a", "b"]).text
    assert (
        "The classifier predicted the label of 75.0\u202f% of 4 validation chips from 1 group "
        "(95\u00a0% interval: 0.0\u202f% to 100.0\u202f%). It distinguishes 2 classes; always "
        "predicting the commonest label would be correct for 75.0\u202f%."
    ).replace("\u202f", " ").replace("\u00a0", " ") in text


@pytest.mark.parametrize("n_classes", [1, 2, 5, 100, 130])
def test_any_number_of_classes_makes_a_page(n_classes):
    page = made(*random_table(1, n=30 * n_classes, n_classes=n_classes, hit=3.0))
    assert not page.open
    cells = [a for a in page.all("rect") if set(a) == {"x", "y", "width", "height"}]
    assert len(cells) >= min(n_classes, 100)


def test_a_classifier_without_epochs_has_no_learning_curve():
    page = made(*random_table(0), curve=CURVE.head(0))
    assert "This classifier is not trained in epochs." in page.text


def test_no_rejects_are_reported_as_none(page):
    assert "Nothing: no stage rejected a row." in page.text


def test_images_in_two_splits_are_a_warning_and_are_listed(page):
    rows = [("a.jpg", "g", "train", "x"), (HOSTILE, "h", "validation", "x")]
    images = pa.table({"key": ["a.jpg", HOSTILE], "version": ["1", "1"]})
    text = made(*random_table(0), labels=labels_of(rows), images=images).text
    assert "1 pair of images in different splits has the same bytes" in text
    assert f"{HOSTILE} validation a.jpg train" in text
    assert "no image has the same bytes as an image of another split" in page.text


PAIR = [
    "ab" * 16,
    "a.jpg",
    1,
    2,
    "validation",
    "x",
    "cd" * 16,
    HOSTILE,
    3,
    4,
    "train",
    "y",
    0.5,
    2.0,
]


def test_near_duplicates_are_a_warning_and_are_shown_side_by_side():
    html = html_of(data_of(*random_table(0), near_duplicates=near_of([PAIR])))
    assert html.count('a.jpg around row 1, column 2" src="data:image/webp') == 1
    assert html.count(' around row 3, column 4" src="data:image/webp') == 1
    text = Page(html).text
    assert "1 validation chip looks nearly the same as a chip that the classifier was" in text
    assert "10 validation chips compared by features with 20 chips of the other splits" in text
    assert "25.0 % of the usual distance" in text
    assert HOSTILE in text


def test_chips_that_share_pixels_across_splits_are_a_warning_and_are_shown(page):
    pair = [*PAIR[:-2], 8, 0.125]
    found = overlaps_of([pair] * 2, [("a.jpg", 3, 1)], n_pairs=12_345, n_validation=900)
    html = html_of(data_of(*random_table(0), overlaps=found))
    assert html.count(' around row 3, column 4" src="data:image/webp') == 2
    text = Page(html).text
    assert "12,345 pairs of chips in different splits have pixels in common, and 900 valid" in text
    assert "1 image is in more than one split." in text
    assert "results/tables/overlapping_chips.csv lists the first 10,000 of them" in text
    assert "12.5 % of the smaller window in common" in text
    assert "no windows of different splits share pixels" in page.text
    assert "in common" not in page.text


def test_an_image_in_two_splits_is_a_warning_though_its_windows_share_nothing():
    found = overlaps_of(images=[("a.jpg", 3, 1)])
    text = made(*random_table(0), overlaps=found).text
    assert "1 image has chips in more than one split. Their windows share no pixels" in text


def test_exact_duplicates_are_shown():
    labels = labels_of([("a.jpg", "g", "validation", "x"), ("b.jpg", "h", "train", "y")])
    images = pa.table({"key": ["a.jpg", "b.jpg"], "version": ["1", "1"]})
    html = html_of(data_of(*random_table(0), labels=labels, images=images))
    assert html.count(' around row 5, column 5" src="data:image/webp') == 2
    assert "1 pair of images in different splits has the same bytes" in Page(html).text


def test_a_sample_is_called_a_sample():
    found = near_of([PAIR] * 10_000, all_validation=1234, all_training=5678)
    data = with_validate(data_of(*random_table(0), near_duplicates=found), gallery_size=0)
    text = Page(html_of(data)).text
    assert "a sample of 10 validation chips" in text
    assert "(of 1,234 and 5,678)" in text
    assert "at least 10,000 look nearly the same" in text
    none = made(*random_table(0)).text
    assert "20 chips of the other splits; none looks nearly the same" in none


def test_what_was_asked_for_is_beside_what_was_reached():
    labels, predicted = list("ab") * 50, list("ab") * 45 + list("ba") * 5
    predictions, classes = certain_table(labels, predicted, ["a", "b"]), ["a", "b"]
    data = data_of(predictions, classes)
    held_out = replace(data.predictions, table=certain_table(["a"] * 20, ["a"] * 20, classes))
    text = made(predictions, classes, calibration_predictions=held_out).text
    assert "You asked for an accuracy of 95.0 % (validate.target_accuracy)." in text
    assert "With a score of 1.000 or more, 90.0 % of the predictions for validation chips" in text
    assert "These are 100.0 % of them; the other 0.0 % need a second look." in text
    wrong = replace(held_out, table=certain_table(["a"] * 20, ["b"] * 20, classes))
    none = made(predictions, classes, calibration_predictions=wrong).text
    assert "every one of the predictions needs a second look" in none
    assert "no calibration chip to choose a threshold by" in made(predictions, classes).text


def test_label_issues_are_counted_and_shown():
    labels = list("ab") * 40
    labels[3] = "a"
    predictions = certain_table(labels, list("ab") * 40, ["a", "b"])
    text = made(predictions, ["a", "b"]).text
    assert "1 label of the calibration and validation splits may be wrong" in text
    assert "Is the label right? The classifier is confident of another one a → b (1.00)" in text
    none = made(certain_table(list("abab"), list("abab"), ["a", "b"]), ["a", "b"]).text
    assert "No label of the calibration and validation splits is probably wrong" in none


def test_split_counts_settings_and_provenance_are_shown(page):
    assert "train 1 1 1 calibration 0 0 0 validation 1 1 1" in page.text
    assert "Settings: params.yaml, without paths bucket: include:" in page.text
    assert "label map, SHA-256" in page.text or "device cpu" in page.text
    assert "labels 0123456789abcdef" in page.text


def test_the_page_says_what_a_group_is_and_where_groups_go(page):
    assert (
        "A group is what the annotations name as one, or an image if they name none." in page.text
    )
    assert "of a hundred groups, about 65 are for training, 15 for calibration and 20" in page.text


def test_earlier_classifiers_are_beside_the_new_one():
    predictions, classes = random_table(1, n=200)
    own = Predictions(predictions, classes, None).evaluation
    other = Predictions(random_table(1, n=200, hit=3.0)[0], classes, None).evaluation
    text = made(predictions, classes, earlier={"2023-survey": Comparable(own, other)}).text
    accuracy = f"{other.correct.mean():.3f}"
    assert f"2023-survey: {accuracy}" in text[: text.index("Weakest")]
    assert "Compared with earlier classifiers" in text


def test_tables_can_be_heard_and_sorted_by_keyboard(page):
    headings = page.all("th")
    assert all(heading.get("scope") in {"col", "row"} for heading in headings)
    sortable = [heading for heading in headings if "aria-sort" in heading]
    buttons = [button for button in page.all("button") if set(button) == {"type"}]
    assert len(sortable) <= len(buttons)
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
    css = (Path(report.__file__).parent / "theme.css").read_text(encoding="utf-8")
    themes = re.findall(r":root \{(.*?)\n *\}", css, re.DOTALL)
    assert len(themes) == 2
    for theme in themes:
        colours = dict(re.findall(r"--(\w+): (#\w{6})", theme))
        for number in range(1, 10):
            for kind in "rw":
                assert contrast(colours[f"{kind}{number}"], colours[f"t{number}"]) >= 4.5
        for text in ("ink", "quiet", "blue", "orange", "green", "yellow"):
            assert contrast(colours[text], colours["page"]) >= 4.5, text
        for ground in ("raised", "tint", "warn"):
            assert contrast(colours["ink"], colours[ground]) >= 4.5, ground


def test_a_large_gallery_stays_under_ten_megabytes():
    """Noise compresses worst; 60 and 200 are the most pictures of either size, 96 keeps pixels."""
    noise = np.random.default_rng(1).integers(0, 256, (800, 800, 3), dtype=np.uint8)
    for count, side in ((60, 800), (200, 800), (200, 96)):
        webp = pictures.picture(noise[:side, :side], (0, 0, side, side), count)
        data = full_data(10, gallery=count)
        data.pictures = lambda chips, _, webp=webp: dict.fromkeys(chips, webp)
        data.near_duplicates, data.overlaps = near_of(), overlaps_of()
        data.labels = data.labels.slice(0, 1)
        data.decoder_warnings = warned([])
        html = html_of(data)
        assert html.count("data:image/webp") == count
        assert len(html.encode()) < 10e6


def test_what_makes_no_mistake_is_not_called_weak_and_may_make_some_elsewhere():
    labels = list("abab")
    text = made(certain_table(labels, labels, ["a", "b"], list("uvwx")), ["a", "b"]).text
    assert "Weakest" not in text
    # 0.025 ** (1 / 4): four groups in four can be right though only 40 % of groups are.
    assert re.search(r"95\s% interval:\s39\.8\s% to 100\.0\s%", text)


def test_what_weakens_the_headline_is_a_note(page):
    assert "they are wide" not in made(*random_table(0, n=400, n_groups=20, hit=3.0)).text
    weak = certain_table(["a", "a", "new"], ["b", "a", "a"], ["a", "b"], "xyz")
    text = made(weak, ["a", "b"]).text
    for note in (
        "The intervals are based on only 3 groups: they are wide, and hold only if these are a "
        "fair sample of all.",
        "1 chip has a label that is not in the training split; it counts as wrong, and is left out "
        "of the log loss.",
        "The classifier is not better than always predicting the commonest label.",
    ):
        assert note in text


def test_groups_values_and_cover_are_shown_with_their_intervals():
    predictions, classes = random_table(3, n=200, n_groups=4)
    groups = predictions["group"].to_pylist()
    keys = [f"{group}/{at % 5}" for at, group in enumerate(groups)]
    sites = [str(int(group[-1]) % 2) for group in groups]
    data = data_of(with_keys(predictions, keys), classes, metadata=lambda _: sites)
    data = with_validate(data, by=("site",), bootstrap_rounds=50)
    html = html_of(data)
    tables = {name: t for result in data.results for name, t in result.tables.items()}
    assert per_group.MAX_ROWS >= len(tables["per_group"]) == 4
    for row in [*tables["per_group"].itertuples(), *tables["by_site"].itertuples()]:
        low, high = round(100 * row.accuracy_low), round(100 * row.accuracy_high)
        assert f"<small>{low} to {high}</small>" in html
    for row in tables["cover"].itertuples():
        bias = f"{100 * row.bias_low:+.1f} to {100 * row.bias_high:+.1f}".replace("-", "\u2212")
        r2 = f"{row.r2_low:.2f} to {row.r2_high:.2f}".replace("-", "\u2212")
        rmse = f"{100 * row.rmse_low:.1f} to {100 * row.rmse_high:.1f}"
        for text in (bias, rmse, r2):
            assert f"<small>{text}</small>" in html
