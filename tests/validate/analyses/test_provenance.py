"""What made the results: whole, in a fixed order, and without clock, host or path."""

from pages import CARD, SHIPPED
from ruamel.yaml import YAML

from pipeline.config import loader
from pipeline.validate.analyses import provenance


def test_code_recipes_machine_and_inputs_are_named():
    found = provenance.provenance(loader.load(SHIPPED), CARD, {"labels": "1" * 64, "none": {}})
    assert [*found] == ["Code", "Features", "Classifier", "Inputs, SHA-256"]
    assert found["Code"]["extract/engine"] == "2"
    assert found["Code"]["train/training"] == "6"
    assert found["Features"]["extractor: name"] == "filters"
    assert "extractor: epochs" not in found["Features"]
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
