"""A user's own extractor in a clone; what it does at every batch is for a test to say."""

from __future__ import annotations

from typing import Any

from conftest import Repo

CODE = '''
"""An extractor that gives means and deviations, and does something else beside."""
import hashlib, json, os, time, torch
from pathlib import Path
from pipeline.extract.extractors import Identity

class Own:
    dim, size = 6, 32
    EXPORTS = False

    def __init__(self, extract, weights):
        pass

    def identity(self):
        return Identity("own", "", "none", "none", 1)

    def to(self, device):
        return self

    def __call__(self, chips):
{lines}
        x = chips.float()
        return torch.cat([x.mean(dim=(1, 2)), x.std(dim=(1, 2))], 1)
'''


def other(repo: Repo) -> None:
    """Change its code, so that it gives other features under the same name."""
    path = repo.path / "own.py"
    path.write_text(path.read_text(encoding="utf-8").replace("x.std", "x.var"), encoding="utf-8")


def use(repo: Repo, lines: str, **settings: Any) -> None:
    """Let a clone extract by it in two processes; it runs *lines*, indented so, at every batch."""
    code = CODE.replace("{lines}", lines.strip("\n"))
    (repo.path / "own.py").write_text(code, encoding="utf-8")
    repo.env["PYTHONPATH"] = f"{repo.path}:{repo.env['PYTHONPATH']}"
    repo.env["QUADRAT_WORKERS"] = "2"
    repo.set(extract__extractor="own:Own", **settings)
