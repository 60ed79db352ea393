"""Label maps: what each label becomes, and which files and names are errors."""

import hashlib

import pytest

from pipeline.config.sections import TrainParams
from pipeline.core.errors import InputError
from pipeline.train import label_map
from pipeline.train.label_map import LabelMap, check, parse


def read(text):
    return parse(text.encode(), "map.csv")


def checked(text, labels, how="names"):
    check(read(text), labels, TrainParams(label_map="data/maps/map.csv", label_map_check=how))


def test_chains_are_followed_to_their_end():
    found = read("from,to\nPorites lutea,Porites\nPorites,Coral\nCoral,Coral\nTape,\nTag,Tape\n")
    assert found.to == {
        "Porites lutea": "Coral",
        "Porites": "Coral",
        "Coral": "Coral",
        "Tape": None,
        "Tag": None,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("from,to\na,b\nb,a\n", "map.csv:3: goes round in a circle: 'a' → 'b' → 'a'"),
        (
            "from,to\nx,a\na,b\nb,c\nc,a\n",
            "map.csv:5: goes round in a circle: 'a' → 'b' → 'c' → 'a'",
        ),
    ],
)
def test_a_circle_is_an_error_that_lists_it(text, message):
    with pytest.raises(InputError) as stop:
        read(text)
    assert str(stop.value) == f"train.label_map: {message}"


def test_labels_that_no_chip_has_are_errors_with_their_lines():
    text = "from,to\nPorites,Coral\nPoritess,Coral\nUrchin,\n"
    with pytest.raises(InputError) as stop:
        checked(text, {"Porites", "Sand"})
    assert str(stop.value) == (
        "train.label_map: map.csv: no chip has the label 'Poritess' (line 3; nearest: 'Porites'), "
        "'Urchin' (line 4); fix the names or remove the lines, or set train.label_map_check to "
        "open"
    )
    checked(text, {"Porites", "Sand"}, "open")
    checked(text, {"Porites", "Poritess", "Urchin"})


def test_a_label_inside_a_chain_need_not_be_one_of_a_chip():
    text = "from,to\nPorites lutea,Porites\nPorites,Coral\n"
    checked(text, {"Porites lutea"})
    with pytest.raises(InputError, match="no chip has the label 'Porites lutea' .line 2"):
        checked(text, {"Porites"})


def test_a_closed_map_must_name_every_label():
    text = "from,to\nPorites,Coral\nSand,Sand\n"
    checked(text, {"Porites", "Sand", "Coral"}, "closed")
    with pytest.raises(InputError) as stop:
        checked(text, {"Porites", "Sand", "Turf", "Algae"}, "closed")
    assert str(stop.value) == (
        "train.label_map: map.csv: does not name the label 'Algae', 'Turf'; add a line for each "
        "(a label to keep becomes itself), or set train.label_map_check to names"
    )
    checked(text, {"Porites", "Sand", "Turf"})


def test_labels_are_stripped_and_normalised():
    """Another keyboard may write the same letters in another Unicode form."""
    assert read("from,to\n A\u0308ste ,Wood\n").to == {"\u00c4ste": "Wood"}


def test_without_a_map_nothing_is_checked():
    check(read("from,to\n"), {"a"}, TrainParams())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("from,to\nPorites\n", "m.csv:2: has 1 cells, and the header 2"),
        ("from,to\na,b,c\n", "m.csv:2: has 3 cells, and the header 2"),
        ('from,to\na,"b\nc,d\n', "m.csv:3: not a table: unexpected end of data"),
        ('from,to\na,"b\nc,"d"\n', "m.csv:3: not a table: ',' expected after"),
        ("from,to,to\na,b,c\n", "m.csv:1: needs the columns from and to, each once"),
        ("from,to\na," + "x" * 200_000, "m.csv:2: not a table: field larger than field limit"),
    ],
    ids=["short", "long", "open quote", "foreign quote", "twice", "large"],
)
def test_a_malformed_row_is_an_error(text, message):
    with pytest.raises(InputError) as stop:
        parse(text.encode(), "m.csv")
    assert str(stop.value).startswith(f"train.label_map: {message}")


def test_any_line_ends_and_any_case_of_the_header_are_read():
    assert parse(b"\r From ,TO\ra,b\r", "m.csv").to == {"a": "b"}


def test_a_chain_of_thousands_is_followed():
    text = "from,to\n" + "".join(f"{step},{step + 1}\n" for step in range(5000))
    assert set(parse(text.encode(), "m.csv").to.values()) == {"5000"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "labels.csv:1: needs the columns from and to"),
        ("old,new\na,b\n", "needs the columns from and to"),
        ("from,to\na,b\na,c\n", "labels.csv:3: 'a' becomes 'c', and 'b' above"),
        ("from,to\n,b\n", "labels.csv:2: names no label"),
        ("from,to\na,b\na,\n", "labels.csv:3: 'a' becomes 'nothing', and 'b' above"),
    ],
)
def test_a_label_that_becomes_two_things_is_an_error(text, message):
    with pytest.raises(InputError, match=message):
        parse(text.encode(), "labels.csv")
    with pytest.raises(InputError, match="not UTF-8"):
        parse(b"from,to\n\xff\xfe,a\n", "labels.csv")


def test_a_label_map_written_by_a_spreadsheet_is_read():
    found = parse('\ufefffrom,to,note\r\n a ,b,x\r\n"c, d",,\r\n'.encode(), "m.csv")
    assert found.to == {"a": "b", "c, d": None}


def test_a_line_break_in_a_quoted_label_is_kept():
    assert parse(b'from,to\r\n"two\r\nlines",x\r\n', "m.csv").to == {"two\r\nlines": "x"}


def test_the_map_that_params_name_is_read_with_its_digest(tmp_path):
    text = "from,to\na,b\nb,c\n"
    (tmp_path / "m.csv").write_text(text)
    found = label_map.read(TrainParams(label_map=str(tmp_path / "m.csv")))
    assert found == LabelMap(
        {"a": "c", "b": "c"},
        hashlib.sha256(text.encode()).hexdigest(),
        {"a": "b", "b": "c"},
        {"a": 2, "b": 3},
    )
    assert label_map.read(TrainParams()) == LabelMap({}, "", {}, {})
    (tmp_path / "m.csv").write_text("a,b\n")
    for name, message in (
        ("m.csv", f"{tmp_path}/m.csv:1: needs the columns from and to, each once"),
        ("none.csv", f"{tmp_path}/none.csv: no such file"),
    ):
        with pytest.raises(InputError) as raised:
            label_map.read(TrainParams(label_map=str(tmp_path / name)))
        assert str(raised.value) == f"train.label_map: {message}"


@pytest.mark.parametrize(
    ("count", "more"), [(50, ""), (51, " and 1 more"), (1250, " and 1,200 more")]
)
def test_a_message_lists_50_labels(count, more):
    names = [f"label {number:04}" for number in range(count)]
    with pytest.raises(InputError) as raised:
        checked("from,to\n", {*names}, "closed")
    listed = ", ".join(map(repr, names[:50]))
    assert f"does not name the label {listed}{more}; add a line" in str(raised.value)


def test_the_nearest_of_several_labels_is_named():
    with pytest.raises(InputError, match="'Poritess' .line 2; nearest: 'Porites'.;"):
        checked("from,to\nPoritess,x\n", {"Pori", "Porites", "Porite", "Poritexxx"})
