"""Make the pages that say what the code says; `make fix` runs this, and a test compares the pages.

In docs/reference/: params.md from the sections of params.yaml, tables.md from the schemas, parts.md
from the first line of each part. In CONTRIBUTING.md: the map of the code, from its imports.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections import defaultdict
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pyarrow as pa
from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML

from docs import house
from docs.settings import COSTS, OF_PARTS
from pipeline.config import registry
from pipeline.config.loader import PARTS, SECTIONS
from pipeline.config.sections import PRESETS, Section
from pipeline.core import rejects, schemas

ROOT = Path(__file__).parent.parent

TABLES: dict[str, pa.Schema] = {
    "data/index/images.parquet": schemas.IMAGES,
    "data/chips/NNNN.parquet": schemas.SCENE_CHIPS,
    "data/labels/labels.parquet": schemas.LABELS,
    "data/labels/measurements/SESSION.parquet": schemas.MEASUREMENTS,
    "data/features/NNNN.parquet": schemas.features(1280, "float32"),
    "data/rejects/STAGE.parquet": schemas.REJECTS,
    "results/predictions.parquet": schemas.PREDICTIONS,
    "BOUNDS.parquet (python -m stages.bounds)": schemas.BOUNDS,
    "chips.parquet (python -m stages.export)": schemas.EXPORTED,
}

FOLDERS = {
    "annotations": "annotations.format",
    "chip.methods": "chip.method",
    "extract.extractors": "extract.extractor",
    "extract.runtimes": "extract.runtime",
    "train.classifiers": "train.classifier",
    "validate.analyses": "results/report.html",
    "validate.metrics": "results/all_metrics.json",
    "storage": "bucket.url, store",
}
STORAGES = ("folder", "https", "s3")
"""Chosen by an address's scheme: the other files of their folder are not parts."""

TABLES_HEAD = """# Columns of the tables

Generated from `pipeline/core/schemas.py` and `pipeline/core/rejects.py`. Every file is Parquet;
rows are sorted by key, row and column.

`valid_share` and `mask_version` are columns of chips where `chip.nodata` is set. `images.parquet`
also has a column for each field of `index.pattern`, and `measurements/` has the columns of the
instrument. To join your own tables, use `key`, `row` and `col`: `chip_id` changes when the bytes of
an image do.
"""

PARTS_HEAD = """# Parts: the values that settings can name

Generated from the first line of each part's file. To add a part, add a file to its folder in
`pipeline/`: [CONTRIBUTING.md](../../CONTRIBUTING.md).
"""

PARAMS_HEAD = """# Settings: params.yaml

Generated from `pipeline/config/sections.py` and from the parts. *Default* is the value of a setting
that is not in the file; *shipped* is its value in `params.yaml`, if that differs. Change a setting
in the file, or for one run: `dvc exp run -S train.epochs=5`. A change of `max_rejects` costs
nothing.
"""

BOUNDS = {Ge: "≥", Gt: ">", Le: "≤", Lt: "<"}

NAMES = {str: "text", int: "integer", float: "number", bool: "true or false", type(None): "null"}

CHOICES = {
    ("annotations", "format"): "annotations",
    ("chip", "method"): "chip.methods",
    ("train", "classifier"): "train.classifiers",
}
"""Settings whose values are the names of the parts in a folder."""


def tables() -> str:
    """Return docs/reference/tables.md."""
    parts = [TABLES_HEAD]
    for name, schema in TABLES.items():
        lines = [f"\n## {name}\n", "| column | type | meaning |", "|---|---|---|"]
        lines += [f"| `{f.name}` | {_type(f)} | {schemas.DESCRIPTIONS[f.name]} |" for f in schema]
        parts.append("\n".join(lines) + "\n")
    reasons = "\n".join(f"| `{code}` | {why} |" for code, why in sorted(rejects.REASONS.items()))
    parts.append(f"\n## Reasons of rejects\n\n| reason | meaning |\n|---|---|\n{reasons}\n")
    return "".join(parts)


def _type(field: pa.Field) -> str:
    if field.name == "feature":
        return "list of float32 (or float16), as long as the extractor's features"
    return str(field.type)


def parts() -> str:
    """Return docs/reference/parts.md: every part, by the first sentence of its file."""
    lines = [PARTS_HEAD]
    for folder, setting in FOLDERS.items():
        lines.append(f"\n## {folder} (`{setting}`)\n\n| part | what it is |\n|---|---|\n")
        names = STORAGES if folder == "storage" else registry.names(folder)
        lines += [f"| `{name}` | {_first_sentence(folder, name)} |\n" for name in names]
    return "".join(lines)


def _first_sentence(folder: str, name: str) -> str:
    """Return the first sentence of a file's docstring, without importing the file."""
    spec = find_spec(f"pipeline.{folder}")
    root = Path(str(spec.origin)).parent if spec else Path()
    text = (root / f"{name}.py").read_text(encoding="utf-8")
    return text.removeprefix('"""').partition('"""')[0].partition("\n\n")[0].replace("\n", " ")


def params() -> str:
    """Return docs/reference/params.md: every setting, by the fields of its section."""
    shipped = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    pages = [PARAMS_HEAD]
    for section, kind in SECTIONS.items():
        pages.append(f"\n## {section}\n\n{COSTS[section]}\n\n{HEADER}")
        described = descriptions(kind)
        for name, field in kind.model_fields.items():
            allowed, value = _allowed(section, name, field), _default(field, shipped[section], name)
            pages.append(f"| `{section}.{name}` | {allowed} | {value} | {described[name]} |\n")
        if section in PARTS:
            pages.append(_part_settings(section, shipped[section]))
        if section == "train":
            pages.append(_presets())
    return "".join(pages)


PART_HEADER = "| setting | with | values | default | meaning |\n|---|---|---|---|---|\n"
HEADER = "| setting | values | default | meaning |\n|---|---|---|---|\n"


def descriptions(kind: type[Section]) -> dict[str, str]:
    """Return the docstring under each field of a section, in one line.

    Raises:
        KeyError: a field has none.
    """
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for before, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name):
            text = after.value if isinstance(after, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                found[before.target.id] = " ".join(text.value.split())
    missing = set(kind.model_fields) - set(found)
    if missing:
        raise KeyError(f"{kind.__name__}: a docstring is missing under {sorted(missing)}")
    return found


def _allowed(section: str, name: str, field: FieldInfo) -> str:
    if folder := CHOICES.get((section, name)):
        return ", ".join(f"`{part}`" for part in registry.names(folder))
    limits = [limit for part in field.metadata for limit in _limits(part)]
    return " ".join([_kind(field.annotation), *limits])


def _kind(kind: Any) -> str:
    """Return a type for a person: its name, its choices, its bounds."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is Annotated:
        limits = [limit for part in arguments[1:] for limit in _limits(part)]
        return " ".join([_kind(arguments[0]), *limits])
    if origin in {Union, UnionType}:
        return " or ".join(_kind(part) for part in arguments)
    if origin is tuple:
        each = arguments[0]
        is_list = arguments[1:] == (...,)
        return f"list of {_kind(each)}" if is_list else f"[{_kind(each)}, {_kind(each)}]"
    if isinstance(kind, type) and issubclass(kind, Section):
        return "names of " + ", ".join(f"`{name}`" for name in kind.model_fields)
    return NAMES[kind]


def _limits(part: Any) -> list[str]:
    """Return the bounds in a type's metadata, such as ≥ 1."""
    return [
        f"{sign} {getattr(limit, kind.__name__.lower()):g}"
        for limit in getattr(part, "metadata", [part])
        for kind, sign in BOUNDS.items()
        if isinstance(limit, kind)
    ]


def _default(field: FieldInfo, shipped: Mapping[str, Any], name: str) -> str:
    """Return the default, and what params.yaml has instead of it."""
    default = None if isinstance(field.default, Section) else field.default
    text = "required" if field.is_required() else _value(default)
    given = shipped.get(name)
    is_other = given is not None and (tuple(given) if isinstance(given, list) else given) != default
    return f"{text}; shipped: {_value(given)}" if is_other else text


def _value(value: Any) -> str:
    if value is None:
        return "`null`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list | tuple):
        return "`[" + ", ".join(str(_value(item)).strip("`") for item in value) + "]`"
    return f"`{value}`" if value != "" else "empty"


def _part_settings(section: str, shipped: Mapping[str, Any]) -> str:
    """Return the table of the settings that only some formats, or methods, have."""
    folder, chooser = PARTS[section]
    users: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for part in registry.names(folder):
        kind = registry.find(folder, part, key=f"{section}.{chooser}").Settings
        given = shipped if shipped[chooser] == part else {}
        for name in sorted(kind.model_fields.keys() - SECTIONS[section].model_fields.keys()):
            field = kind.model_fields[name]
            key = name, _allowed(section, name, field), _default(field, given, name)
            users[key].append(part)
    lines = [f"\nSettings that some values of `{section}.{chooser}` have:\n\n{PART_HEADER}"]
    for (name, values, default), names in sorted(users.items()):
        meaning = OF_PARTS.get(f"{names[0]}.{name}") or OF_PARTS[f"{section}.{name}"]
        listed = ", ".join(f"`{part}`" for part in names)
        lines.append(f"| `{section}.{name}` | {listed} | {values} | {default} | {meaning} |\n")
    return "".join(lines)


def _presets() -> str:
    names = sorted({name for preset in PRESETS.values() for name in preset})
    lines = ["\n`train.preset` sets these, where the setting itself is null:\n\n| preset | "]
    heads = " | ".join(f"`{name}`" for name in names)
    lines.append(f"{heads} |\n|---{'|---' * len(names)}|\n")
    for preset, values in PRESETS.items():
        cells = (_value(values[name]) if name in values else "" for name in names)
        lines.append(f"| `{preset}` | " + " | ".join(cells) + " |\n")
    return "".join(lines)


def contributing() -> str:
    """Return CONTRIBUTING.md with the map of the code between its marks."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    before, begin, rest = text.partition(house.BEGIN)
    _, end, after = rest.partition(house.END)
    return f"{before}{begin}\n{house.page()}{end}{after}"


PAGES = {
    "docs/reference/params.md": params,
    "docs/reference/tables.md": tables,
    "docs/reference/parts.md": parts,
    "CONTRIBUTING.md": contributing,
}


def main() -> None:
    """Write every page that is not as it should be, and print which."""
    for name, make in PAGES.items():
        path, text = ROOT / name, make()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"{name}: made again")  # noqa: T201 - the command's output


if __name__ == "__main__":
    main()
