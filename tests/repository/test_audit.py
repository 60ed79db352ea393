"""The audit of the requirements: what was not looked up is never said to be safe."""

import importlib.util

import pytest
from conftest import ROOT

spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci/audit.py")
audit = importlib.util.module_from_spec(spec)
spec.loader.exec_module(audit)

SAFE = {"name": "luigi", "version": "3.8.1", "vulns": []}
LEFT = {"name": "torch", "skip_reason": "not found"}
BAD = {"name": "x", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}


@pytest.mark.parametrize(
    ("pins", "code", "said"),
    [
        ([SAFE], 0, "audited: none of 1 pinned requirements has a known vulnerability"),
        ([SAFE, LEFT], 0, "NOT AUDITED: no advisory service answers for 1 of 2 requirements (to"),
        ([SAFE, BAD], 1, "1 known vulnerabilities in requirements.txt:\n  x 1: CVE-1, mended in 2"),
        ([], 0, "NOT AUDITED: no advisory service answers for all; run make audit where"),
    ],
)
def test_the_verdict_says_what_was_looked_up(pins, code, said):
    found = audit.verdict({"dependencies": pins}, required=False)
    assert found[0] == code
    assert found[1].startswith(said)


def test_where_an_audit_is_required_none_is_a_failure():
    assert audit.verdict(None, required=True)[0] == 1
    assert audit.verdict({"dependencies": [LEFT]}, required=True)[0] == 1
    assert audit.verdict({"dependencies": [SAFE]}, required=True)[0] == 0
