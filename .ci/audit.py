"""Look for the pinned requirements among known vulnerabilities; say so where that cannot be done.

An index without an advisory service knows of no vulnerability: that is no audit, and is never
taken for one. It passes all the same, unless AUDIT=required, as where code is released.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

AUDIT = ["pip-audit", "--requirement", "requirements.txt", "--require-hashes", "--disable-pip"]
AUDIT += ["--format", "json", "--progress-spinner", "off"]
NAMED = 3


def verdict(report: Any, *, required: bool) -> tuple[int, str]:
    """Give exit code and sentence for what pip-audit found; None: it found out nothing."""
    pins = [] if report is None else report["dependencies"]
    asked = [pin for pin in pins if "skip_reason" not in pin]
    known = [(pin, vuln) for pin in asked for vuln in pin["vulns"]]
    if known:
        lines = [
            f"  {pin['name']} {pin['version']}: {vuln['id']}, mended in "
            f"{', '.join(vuln['fix_versions']) or 'no version yet'}"
            for pin, vuln in known
        ]
        return 1, "\n".join([f"{len(known)} known vulnerabilities in requirements.txt:", *lines])
    if asked and len(asked) == len(pins):
        return 0, f"audited: none of {len(asked)} pinned requirements has a known vulnerability"
    left = [pin["name"] for pin in pins if "skip_reason" in pin]
    some = (
        f"{len(left)} of {len(pins)} requirements ({', '.join(left[:NAMED])}, …)" if left else "all"
    )
    return int(required), (
        f"NOT AUDITED: no advisory service answers for {some}; run make audit where "
        "the package index has one"
    )


def main() -> int:
    """Audit; print the verdict."""
    done = subprocess.run(AUDIT, capture_output=True, text=True, check=False)
    try:
        report = json.loads(done.stdout)
    except ValueError:
        report = None
    code, said = verdict(report, required=os.environ.get("AUDIT") == "required")
    print(said, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
