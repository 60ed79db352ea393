"""File names of chips: whatever a label or key contains, a value is one part of a path."""

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.commands.export import names
from pipeline.core.errors import SettingError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
ROW = {
    "chip_id": bytes(range(16)),
    "key": "2023/site 1/IMG_7.JPG",
    "row": 12,
    "col": -3,
    "top": -20,
    "left": -35,
    "height": 64,
    "width": 64,
    "label": "coral",
    "group": "site 1",
    "split": "train",
}


def named(text, *rows):
    return [names.name(names.read(text), row) for row in rows or (ROW,)]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("{key}_{row}_{col}", "2023/site 1/IMG_7_12_-3"),
        ("{label}/{key_stem}_{row}_{col}", "coral/IMG_7_12_-3"),
        ("{split}/{label}/{chip_id}", "train/coral/000102030405060708090a0b0c0d0e0f"),
        ("{group}-{top}_{left}_{height}x{width}", "site 1--20_-35_64x64"),
    ],
)
def test_a_template_names_a_chip_and_parses_the_name_back(text, name):
    template = names.read(text)
    assert named(text) == [name]
    values = names.values(ROW)
    assert template.parse(name) == {field: values[field] for field in template.fields}


@given(TEXT)
def test_any_label_is_one_safe_part_of_a_path_and_is_parsed_back(label):
    name = names.safe(label)
    assert not set(name) & set('/\\:*?"<>|')
    assert not re.search(r"[\x00-\x1f\x7f]", name)
    assert not name.startswith(".")
    assert not name.endswith((".", " "))
    assert unquote(name, errors="strict") == label


@given(TEXT, TEXT)
def test_two_labels_never_share_a_name(one, other):
    assert (names.safe(one) == names.safe(other)) == (one == other)


TEMPLATES = (
    "{key}_{row}_{col}",
    "{label}/{key_stem}_{row}_{col}",
    "{label}_{key_stem}_{row}_{col}",
    "{key_stem}-{top}-{left}",
    "{quadkey}/{group}.{split}.{chip_id}",
    "{key}/{label}_{quadkey}",
)


@given(st.sampled_from(TEMPLATES), TEXT, TEXT, TEXT, st.tuples(*[st.integers(-99, 99)] * 2))
def test_a_name_is_parsed_back_to_its_values_or_is_an_error(text, label, key, quadkey, corner):
    top, left = corner
    wanted = names.read(text, ["quadkey"])
    row = {**ROW, "label": label, "key": f"a/{key}", "quadkey": quadkey, "top": top, "left": left}
    own = {**names.values(row), "quadkey": names.safe(quadkey)}
    try:
        name = names.name(wanted, row)
    except SettingError as stop:
        assert "put other text, or a /, between its fields" in str(stop)  # noqa: PT017
        assert wanted.text not in TEMPLATES[:2]
    else:
        assert wanted.parse(name) == {field: own[field] for field in wanted.fields}


def test_an_ambiguous_name_is_an_error_that_shows_both_readings():
    row = {**ROW, "label": "dead_coral"}
    with pytest.raises(SettingError) as stop:
        named("{label}_{key_stem}", row)
    assert str(stop.value) == (
        "--name: '{label}_{key_stem}' gives 2023/site 1/IMG_7.JPG (12, -3) the name "
        "'dead_coral_IMG_7', which reads as {'label': 'dead', 'key_stem': 'coral_IMG_7'}; "
        "put other text, or a /, between its fields"
    )


def test_ordinary_labels_stay_as_they_are():
    for label in ("Porites", "dead coral", "Kelp (brown)", "é", "a-b_c.d", "0.5"):
        assert names.safe(label) == label
    assert [names.safe(label) for label in ("a/b", "..", "50%", "x.")] == [
        "a%2Fb",
        "%2E%2E",
        "50%25",
        "x%2E",
    ]


def test_a_key_keeps_its_folders_and_none_of_them_leads_out_of_the_target():
    row = {**ROW, "key": "../.hidden/a.b.png"}
    assert named("{key}_{row}", row) == ["%2E%2E/%2Ehidden/a.b_12"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("../{key}", "--name: '../{key}' would lead out of the target folder"),
        ("/{key}", "--name: '/{key}' would lead out of the target folder"),
        (".a/{key}", "--name: '.a/{key}' would lead out of the target folder"),
        ("{key}/", "--name: '{key}/' would lead out of the target folder"),
        ("{ke}", "--name: '{ke}' {ke} is none of the fields key, key_stem, label, "),
        ("chip", "--name: 'chip' has no field"),
        ("{key", "--name: '{key' not a template"),
    ],
)
def test_a_template_that_cannot_be_used_is_an_error(text, says):
    with pytest.raises(SettingError) as stop:
        names.read(text)
    assert str(stop.value).startswith(says)
