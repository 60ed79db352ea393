"""Templates: names are formatted and parsed, and a template that cannot parse is an error."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.templates import template


@pytest.mark.parametrize(
    ("text", "key", "values"),
    [
        (
            "{site}/{date}/{transect}_{n}.jpg",
            "reef 1/2024-05-01/T3_0007.jpg",
            {"site": "reef 1", "date": "2024-05-01", "transect": "T3", "n": "0007"},
        ),
        ("{a}_{b}.png", "x_y_z.png", {"a": "x", "b": "y_z"}),
        ("{site}/{site}_{n}.tif", "A/A_3.tif", {"site": "A", "n": "3"}),
        ("{site}/{site}_{n}.tif", "A/B_3.tif", None),
        ("{site}/{n}.jpg", "A/B/3.jpg", None),
        ("{site}/{n}.jpg", "A/3.jpeg", None),
        ("{site}/{n}.jpg", "A/3xjpg", None),
        ("{site}/{n}.jpg", "/3.jpg", None),
        ("{{{n}}}.jpg", "{3}.jpg", {"n": "3"}),
    ],
)
def test_a_key_is_parsed_by_the_template(text, key, values):
    assert template(text).parse(key) == values


VALUE = st.text(string.ascii_letters + string.digits, min_size=1, max_size=5)
BETWEEN = st.sampled_from(["_", "/", "-", ".", " {{", "}} "])


@given(
    st.lists(st.sampled_from(["site", "date", "transect", "n"]), min_size=1, max_size=6),
    st.data(),
)
def test_a_formatted_name_is_parsed_to_the_same_values(names, data):
    text = data.draw(BETWEEN).join(f"{{{name}}}" for name in names)
    parsed = template(text)
    values = {name: data.draw(VALUE) for name in parsed.fields}
    assert set(parsed.fields) == set(names)
    assert parsed.parse(parsed.format(values)) == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("site/n.jpg", "has no field, such as {site}"),
        ("{site}{n}.jpg", "{n} directly follows a field; put text between them"),
        ("{Site}.jpg", "{Site}: a field's name is of lower-case letters, digits and _"),
        ("{}.jpg", "{}: a field's name is of lower-case letters, digits and _"),
        ("{n:03d}.jpg", "{n} has a format; a field is only a name"),
        ("{n!r}.jpg", "{n} has a format; a field is only a name"),
        ("{n.jpg", "not a template: expected '}' before end of string"),
        ("{site}", "{site} is none of the fields row, col"),
    ],
)
def test_the_error_for_an_invalid_template_gives_the_reason(text, message):
    kinds = {"row": "[0-9]+", "col": "[0-9]+"} if text == "{site}" else None
    with pytest.raises(ValueError, match=".") as stop:
        template(text, kinds)
    assert str(stop.value) == message


def test_a_hostile_key_is_parsed_quickly():
    """A name of separators alone could be divided among six fields in 8e12 ways."""
    for text in ("{a}_{b}_{c}_{d}_{e}_{f}.jpg", "{a}/{b}_{c}_{d}_{e}_{f}.jpg"):
        assert template(text).parse("x/" * ("/" in text) + "_" * 1000 + ".png") is None
    assert template("{a}_{b}.jpg").parse("x__y.jpg.jpg") == {"a": "x", "b": "_y.jpg"}
