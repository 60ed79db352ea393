"""What made the results: whole, in a fixed order, and without clock, host or path."""

from pathlib import Path

from ruamel.yaml import YAML

from pipeline.config import loader
from pipeline.core import code_version
from pipeline.validate import provenance

SHIPPED = Path(__file__).parents[2] / "params.yaml"
MADE_BY = {
    "code": {"engine": 2},
    "identity": {"name": "filters", "weights": None},
    "numerics": {"device": "cpu", "libraries": {"torch": "2.11"}, "threads": 1},
    "label_map": "",
}
CARD = {
    "extractor": {"made_by": MADE_BY, "recipe": "f" * 64},
    "made_by": {**MADE_BY, "code": {"training": 6}},
    "recipe": "c" * 64,
    "epochs": 3,
    "calibration": {"method": "temperature", "temperature": 1.23456789},
}


def test_code_recipes_machine_and_inputs_are_named():
    found = provenance.provenance(loader.load(SHIPPED), CARD, {"labels": "1" * 64, "none": {}})
    assert [*found] == ["Code", "Features", "Classifier", "Inputs, SHA-256"]
    assert found["Code"]["git tree of pipeline/"] == code_version.tree()
    assert found["Code"]["version: engine"] == "2"
    assert found["Code"]["version: training"] == "6"
    assert found["Features"]["extractor: name"] == "filters"
    assert "extractor: weights" not in found["Features"]
    assert found["Features"]["recipe"] == "f" * 64
    assert found["Classifier"]["calibration: temperature"] == "1.23457"
    assert (found["Classifier"]["device"], found["Classifier"]["torch"]) == ("cpu", "2.11")
    assert found["Inputs, SHA-256"] == {"labels": "1" * 64}


def test_the_settings_are_shown_as_params_yaml_has_them_without_where_things_lie():
    text = provenance.settings(loader.load(SHIPPED))
    shown = YAML(typ="safe").load(text)
    given = YAML(typ="safe").load(SHIPPED.read_text(encoding="utf-8"))
    assert shown["train"]["classifier"] == given["train"]["classifier"]
    assert shown["bucket"]["include"] == given["bucket"]["include"]
    assert given["bucket"]["url"] not in text
