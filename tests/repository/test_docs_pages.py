"""Pages: what they link to and name exists; messages in troubleshooting are printed ones."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from functools import cache
from itertools import pairwise
from pathlib import Path

import dvc
import pytest
from conftest import ROOT
from ruamel.yaml import YAML

from pipeline.commands import annotate
from pipeline.config import registry
from pipeline.config.loader import PARTS, SECTIONS
from pipeline.config.machine import Machine
from pipeline.config.sections import RENAMED
from pipeline.core.rejects import REASONS

PAGES = sorted(
    [*(ROOT / "docs").rglob("*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md"))]
)
ALL = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "demo" / "README.md"]
TROUBLESHOOTING = ROOT / "docs" / "troubleshooting.md"

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
OF_DVC = ("lock.py", "rwlock.py", "utils/strictyaml.py")
"""Where DVC has the messages that the page explains."""

SHORTEST = 8
"""A shorter piece of a heading would be found anywhere in the code."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def prose(text: str) -> str:
    """The page without its blocks of code."""
    return FENCE.sub("", text)


@cache
def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", prose(text_of(path)), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", title.lower()) for title in titles)
    return {title.replace(" ", "-") for title in plain}


def parts_settings() -> dict[str, set[str]]:
    """The names of all settings, those of every part included, by section."""
    names = {section: set(kind.model_fields) for section, kind in SECTIONS.items()}
    for section, (folder, chooser) in PARTS.items():
        for part in registry.names(folder):
            kind = registry.find(folder, part, key=f"{section}.{chooser}").Settings
            names[section] |= set(kind.model_fields)
    return names


SETTINGS = parts_settings()
FILE_TYPES = {"csv", "md", "png", "py", "xml"}
METRICS_OF_TRAINING = {"train.loss", "train.accuracy"}


@pytest.mark.parametrize("path", ALL, ids=name_of)
def test_every_relative_link_leads_to_a_file_and_to_a_heading_in_it(path):
    for target in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", text_of(path)):
        link = "".join(target)
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), link
        assert not anchor or anchor in anchors(there), link


def test_every_page_is_in_the_index_of_the_documentation():
    index = ROOT / "docs" / "README.md"
    linked = {
        (index.parent / link).resolve() for link in re.findall(r"\]\(([^)#]+)", text_of(index))
    }
    formats = (ROOT / "docs" / "how-to" / "annotations").glob("*.md")
    pages = set((ROOT / "docs").rglob("*.md")) - {index, *formats}
    assert {name_of(page) for page in pages - linked} == set()


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_module_file_and_make_target_that_a_page_names_exists(path):
    text = text_of(path)
    targets = re.findall(r"^([a-z]+):", text_of(ROOT / "Makefile"), re.MULTILINE)
    assert set(re.findall(r"(?:`|^)make ([a-z]+)\b", text, re.MULTILINE)) <= set(targets)
    for module in re.findall(r"python -m ([\w.]+)", text):
        if module.split(".")[0] in {"stages", "demo", "docs", "pipeline", "tests"}:
            at = ROOT / module.replace(".", "/")
            assert at.with_suffix(".py").exists() or at.name.isupper() or at.is_dir(), module
    for script in re.findall(r"python ((?:benchmarks|docs)/[\w.]+)", text):
        assert (ROOT / script).exists(), script
    for file in re.findall(
        r"`((?:pipeline|stages|tests|docs|demo|examples|benchmarks)/[\w./-]+)`", text
    ):
        example = file.endswith(("/mine.py", "/mine.md")) or file == "demo/bucket"
        assert example or (ROOT / file).exists(), file


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_option_of_a_benchmark_on_a_page_is_one(path):
    for script, options in re.findall(
        r"python (benchmarks/\w+\.py)([^`\n]*(?:\n[^`\n]+)?)`", text_of(path)
    ):
        code = text_of(ROOT / script)
        for option in re.findall(r"--([a-z-]+)", options):
            assert f'"--{option}"' in code or 'f"--{name}"' in code, (script, option)


def test_every_option_of_a_command_in_the_reference_is_one():
    rows = text_of(ROOT / "docs" / "reference" / "commands.md").splitlines()
    for row in (row for row in rows if row.startswith("| `python -m stages.")):
        (module, *_) = re.findall(r"stages\.(\w+)", row)
        code = text_of(ROOT / "stages" / f"{module}.py")
        code += text_of(ROOT / "pipeline" / "scheduler" / "run.py")
        for option in re.findall(r"`(--[a-z-]+)`", row):
            assert f'"{option}"' in code, (module, option)


def test_the_reference_lists_every_command_and_every_setting_of_the_machine():
    listed = text_of(ROOT / "docs" / "reference" / "commands.md")
    stages = {path.stem for path in (ROOT / "stages").glob("[a-z]*.py")}
    assert {name for name in stages if f"python -m stages.{name}" not in listed} == set()
    targets = re.findall(r"^([a-z]+):.*##", text_of(ROOT / "Makefile"), re.MULTILINE)
    assert {name for name in targets if f"`make {name}`" not in listed} <= {"help"}
    settings = text_of(ROOT / "docs" / "reference" / "machine.md")
    assert {f.name for f in fields(Machine) if f"| `{f.name}` |" not in settings} == set()


def test_the_reference_of_files_lists_every_output_of_dvc():
    listed = text_of(ROOT / "docs" / "reference" / "files.md")
    stages = YAML(typ="safe").load(text_of(ROOT / "dvc.yaml"))["stages"]
    for stage in stages.values():
        for out in [*stage["outs"], *stage.get("metrics", [])]:
            path = out if isinstance(out, str) else next(iter(out))
            folder, _, _ = path.rpartition("/")
            assert path in listed or folder in listed, path


def test_contributing_lists_every_helper_of_the_tests():
    listed = text_of(ROOT / "CONTRIBUTING.md")
    helpers = {path.name for path in (ROOT / "tests" / "support").glob("*.py")}
    assert {name for name in helpers if f"| `{name}` |" not in listed} == set()


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_setting_that_a_page_names_is_one(path):
    text = text_of(path)
    named = {
        (section, key)
        for section, key in re.findall(rf"(?:`|-S '?)({'|'.join(SECTIONS)})\.([a-z_0-9]+)", text)
        if f"{section}.{key}" not in METRICS_OF_TRAINING and key not in FILE_TYPES
    }
    for language, block in FENCE.findall(text):
        if language == "yaml":
            loaded = YAML(typ="safe").load(block)
            named |= {(section, key) for section, values in loaded.items() for key in values}
    assert {(section, key) for section, key in named if key not in SETTINGS[section]} == set()
    machine = {f"QUADRAT_{field.name.upper()}" for field in fields(Machine)}
    assert set(re.findall(r"\bQUADRAT_[A-Z_]+\b", text)) <= machine


def test_the_reference_of_rejects_explains_every_reason():
    text = text_of(ROOT / "docs" / "reference" / "tables.md")
    assert {reason for reason in REASONS if f"| `{reason}` |" not in text} == set()


def test_the_changelog_has_the_new_name_of_every_setting_that_is_refused():
    rows = dict(
        re.findall(r"^\| `([\w.]+)` \| `([\w.]+)`", text_of(ROOT / "CHANGELOG.md"), re.MULTILINE)
    )
    for old, new in RENAMED.items():
        section = old.partition(".")[0]
        assert rows.get(old) == f"{section}.{re.match(r'[a-z_]+', new)[0]}", old


def test_annotations_are_written_of_the_chips_that_pages_name():
    named = {word for path in PAGES for word in re.findall(r"--of (\w+)", text_of(path))}
    assert named <= set(annotate.CHOICES)


def test_the_readme_is_short():
    assert len(text_of(ROOT / "README.md").splitlines()) <= 150


def constants(folder: Path) -> str:
    """All constant text of the code; what an f-string fills in is `…`."""
    texts = []
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(text_of(path))):
            if isinstance(node, ast.JoinedStr):
                pieces = (p.value if isinstance(p, ast.Constant) else "…" for p in node.values)
                texts.append("".join(map(str, pieces)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(texts)


@cache
def printed(of_dvc: bool) -> str:
    if of_dvc:
        folder = Path(str(dvc.__file__)).parent
        return "".join(text_of(folder / name) for name in OF_DVC)
    return "\n".join(constants(ROOT / name) for name in ("pipeline", "stages"))


def messages() -> list[tuple[str, bool]]:
    """The messages that are headings of the page, and whether they are DVC's."""
    text = text_of(TROUBLESHOOTING)
    starts = [match.start() for match in re.finditer(r"^## ", text, re.MULTILINE)]
    chapters = [text[a:b] for a, b in pairwise([*starts, len(text)])]
    return [
        (message, chapter.startswith("## Messages of DVC"))
        for chapter in chapters
        for message in re.findall(r"^### `(.*)`$", chapter, re.MULTILINE)
    ]


@pytest.mark.parametrize(("message", "of_dvc"), messages())
def test_every_message_in_troubleshooting_is_one_that_is_printed(message, of_dvc):
    pieces = [piece.strip(" :;,()") for piece in message.split("…")]
    telling = [piece for piece in pieces if len(piece) >= SHORTEST] or [max(pieces, key=len)]
    assert telling != [""]
    for piece in telling:
        assert piece in printed(of_dvc), piece


def test_troubleshooting_has_the_commonest_messages():
    assert len(messages()) >= 40


@pytest.mark.slow
def test_the_readmes_table_of_experiments_fits_120_columns(copy_of_done):
    (command,) = re.findall(
        r"^dvc exp show (--only-changed .*)$", text_of(ROOT / "README.md"), re.MULTILINE
    )
    (pattern,) = re.findall(r"--drop '(.*)'", command)
    repo = copy_of_done()
    repo.run("git", "add", "-A")
    repo.run("git", "commit", "-qm", "done")
    repo.run("dvc", "exp", "run", "-S", "train.classifier=lr")
    repo.run("dvc", "exp", "run", "-S", "train.classifier=lr", "-S", "train.epochs=3")
    words = ("dvc", "exp", "show", "--no-pager", "--only-changed", "--drop", pattern)
    table = repo.run(*words, COLUMNS="1000").stdout  # so that nothing is left out to fit
    assert max(map(len, table.splitlines())) <= 120, table
    for column in ("log_loss", "train.classifier", "train.epochs"):
        assert column in table


WITHOUT = (
    "aws ",
    "awk ",
    "cd ",
    "export ",
    "git clone",
    "kubectl ",
    "luigid ",
    "make ",
    "pip ",
    "source ",
)
"""Commands that need something that a test's clone does not have, or that other tests run."""

IMAGE = "mcr_lter1_fringingreef_pole1-2_qu2_20080415.jpg"


def commands(page: str) -> list[str]:
    """The commands of a page's blocks, those of a shell's line each."""
    blocks = [block for language, block in FENCE.findall(text_of(ROOT / page)) if language == "sh"]
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [
        line
        for line in lines
        if line
        and not line.startswith(("#", *WITHOUT))
        and " queue " not in line
        and "--queue" not in line
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "count"),
    [
        ("docs/tutorial.md", 11),
        ("docs/how-to/sweeps.md", 9),
        ("docs/how-to/export-chips.md", 3),
        ("docs/how-to/use-the-classifier.md", 2),
    ],
)
def test_every_command_of_a_page_runs(page, count, copy_of_done, tmp_path):
    repo = copy_of_done()
    listed = [line for line in commands(page) if "s3://" not in line and "quadkey" not in line]
    assert len(listed) == count
    for line in listed:
        here = line.replace(IMAGE, "plain/003.png").replace(" chips ", f" {tmp_path}/chips ")
        if line.startswith("dvc exp apply"):
            names = repo.run("dvc", "exp", "list", "--name-only").stdout.split()
            here = f"dvc exp apply {names[-1]}"
        repo.run("bash", "-c", here)


@pytest.mark.slow
@pytest.mark.parametrize("page", ["reference/files.md", "how-to/use-the-classifier.md"])
def test_every_block_of_python_on_a_page_runs(page, done_repo):
    blocks = FENCE.findall(text_of(ROOT / "docs" / page))
    programs = [block for language, block in blocks if language == "python"]
    assert programs
    for program in programs:
        done_repo.run("python", "-c", program)
