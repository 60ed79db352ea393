"""The pages of annotation formats: one each, with settings that are read as they stand."""

import re

import pytest
from conftest import ROOT
from ruamel.yaml import YAML

from pipeline.commands import annotate
from pipeline.config import registry
from pipeline.config.loader import _plain

FORMATS = registry.names("annotations")
PAGES = ROOT / "docs" / "how-to" / "annotations"


def test_every_format_has_a_page_and_a_line_in_the_overview():
    assert sorted(path.stem for path in PAGES.glob("*.md")) == FORMATS
    overview = (ROOT / "docs" / "how-to" / "annotations.md").read_text(encoding="utf-8")
    rows = dict(
        re.findall(r"^\| \[`(\w+)`\]\(annotations/\1\.md\) \|(.*)\|$", overview, re.MULTILINE)
    )
    assert sorted(rows) == FORMATS
    written = sorted(name for name, row in rows.items() if row.rpartition("|")[2].strip())
    assert written == annotate.formats()


@pytest.mark.parametrize("name", FORMATS)
def test_the_settings_on_a_formats_page_are_settings(name):
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert blocks
    for block in blocks:
        settings = _plain(YAML().load(block))
        assert settings["annotations"]["format"] == name
        part = registry.find("annotations", name, key="annotations.format")
        part.Settings.model_validate(settings["annotations"])
        if "chip" in settings:
            method = settings["chip"]["method"]
            registry.find("chip.methods", method, key="chip.method").Settings.model_validate(
                settings["chip"]
            )
