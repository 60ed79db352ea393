"""params.yaml, parsed once into frozen values: every experiment setting and its bounds.

Read with ruamel.yaml as YAML 1.2, the reader that DVC uses: PyYAML takes `1e-3` for a string and
`off` for false. Machine settings are not here; they live in luigi.cfg (see machine.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from pipeline.config import registry
from pipeline.config.sections import (
    GROUPINGS,
    RENAMED,
    USER_PLUGIN,
    AnnotationParams,
    BucketParams,
    ChipParams,
    ExtractParams,
    IndexParams,
    Section,
    ShardParams,
    SplitParams,
    TrainParams,
    ValidateParams,
)
from pipeline.core.errors import SettingError, shorten
from pipeline.core.hashing import canonical_json, digest
from pipeline.core.urls import holds_credentials


@dataclass(frozen=True, slots=True)
class Params:
    """All of params.yaml: one frozen section for each top-level key."""

    bucket: BucketParams
    index: IndexParams
    annotations: AnnotationParams
    chip: ChipParams
    split: SplitParams
    shards: ShardParams
    extract: ExtractParams
    train: TrainParams
    validate: ValidateParams

    def to_json(self) -> str:
        """Return the text that `from_json` reads back, for other processes."""
        sections = {key: getattr(self, key).model_dump(mode="json") for key in SECTIONS}
        return canonical_json(sections).decode()

    def recipe_fields(self) -> dict[str, dict[str, Any]]:
        """Return the settings that shape rows, by section, as JSON values.

        What selects the images is included; where they are is not.
        """
        fields = {key: getattr(self, key).recipe_fields() for key in SECTIONS}
        selection = self.bucket.model_dump(mode="json", include={"include", "exclude"})
        return {**fields, "bucket": {**selection, **fields["bucket"]}}


SECTIONS: Mapping[str, type[Section]] = {
    "bucket": BucketParams,
    "index": IndexParams,
    "annotations": AnnotationParams,
    "chip": ChipParams,
    "split": SplitParams,
    "shards": ShardParams,
    "extract": ExtractParams,
    "train": TrainParams,
    "validate": ValidateParams,
}

MOST_VALUES = 100_000
LONGEST = 300
"""Letters of a value that a message shows."""

OPTIONAL = frozenset({"index"})
"""Sections that need not be there."""


def recipe(section: Section, **identity: Any) -> str:
    """Digest everything that shapes a row: the whole section and what the parts say they are."""
    return digest({"section": section.recipe_fields(), "identity": identity})


def load(path: Path | str) -> Params:
    """Read and check *path*, with every fault in one message.

    Raises:
        SettingError: the file is missing or not YAML, or a key or a value is wrong; each fault
            stands on its own line with file, line, key and what to do.
    """
    path = Path(path)
    try:
        found = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
        _check_size(found)
    except FileNotFoundError as error:
        raise SettingError(f"{path}: not there; run from the repository's root") from error
    except OSError as error:
        raise SettingError(f"{path}: cannot be read ({error.strerror})") from error
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        said = shorten(str(error.problem), LONGEST)
        raise SettingError(f"{path.name}:{line}: not YAML: {said}") from error
    except (YAMLError, ValueError, RecursionError) as error:  # not UTF-8, a number of 5,000 digits
        said = " ".join(str(error).split())
        raise SettingError(f"{path.name}: not YAML: {said}") from error
    if not isinstance(found, CommentedMap):
        raise SettingError(f"{path.name}:1: not a table of sections")
    return _checked(found, path.name)


def _check_size(found: Any) -> None:
    """See that anchors do not make so many values of a small file that nobody can go through them.

    Raises:
        ValueError: they do.
    """
    waiting, count = [found], 0
    while waiting:
        item = waiting.pop()
        count += 1
        if count + len(waiting) > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES:,} values, by anchors that hold each other")
        if isinstance(item, Mapping):
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def from_json(text: str) -> Params:
    """Read what `Params.to_json` wrote.

    Raises:
        SettingError: as `load` does.
    """
    return _checked(json.loads(text), "params")


def _checked(found: Any, name: str) -> Params:
    secrets = list(_secrets(found, name))
    if secrets:  # alone: other faults would show the values
        raise SettingError("\n".join(secrets))
    sections: dict[str, Section] = {}
    faults: list[str] = list(_unknown(found, SECTIONS, name, ""))
    faults += _half_letters(found, name)
    for key, kind in SECTIONS.items():
        values = found.get(key, {} if key in OPTIONAL else None)
        if not isinstance(values, Mapping):
            line = _line(found, key)
            faults.append(f"{name}:{line}: {key}: the section is missing or empty")
            continue
        try:
            sections[key] = _section(key, kind, values, name)
        except SettingError as error:
            faults.extend(str(error).split("\n"))
    if not faults:
        faults = list(_not_to_group_by(sections, found, name))
    if faults:
        raise SettingError("\n".join(faults))
    return Params(**cast("dict[str, Any]", sections))


def _not_to_group_by(sections: Mapping[str, Any], found: Any, name: str) -> Iterator[str]:
    """Find what is to be grouped by and is neither known nor a field of the pattern."""
    known = [*GROUPINGS, *sections["index"].fields]
    asked = {"split": [sections["split"].by], "validate": sections["validate"].by}
    for section, chosen in asked.items():
        for by in (by for by in chosen if by not in known):
            near = get_close_matches(by, known, n=1, cutoff=0.5)
            hint = f" (nearest: {near[0]!r})" if near else ""
            line = _line(found.get(section), "by")
            yield (
                f"{name}:{line}: {section}.by: no {by!r} among {', '.join(known)}{hint}; "
                "index.pattern names more"
            )


def _secrets(found: Mapping[str, Any], name: str) -> Iterator[str]:
    """Find addresses with credentials in them: params.yaml is committed, dvc.lock copies it."""
    for key, values in found.items():
        for field, value in values.items() if isinstance(values, Mapping) else ():
            texts = value if isinstance(value, list | tuple) else [value]
            if any(isinstance(text, str) and holds_credentials(text) for text in texts):
                yield (
                    f"{name}:{_line(values, field)}: {key}.{field}: the address holds a user name, "
                    "password, token or signature, and this file and dvc.lock are for others to "
                    "read; take it out: s3:// takes credentials from the environment, and what "
                    "needs a signed address is best fetched to a file"
                )


HALF = re.compile("[\ud800-\udfff]")


def _half_letters(found: Mapping[str, Any], name: str) -> Iterator[str]:
    """Find texts that no file can hold: by its number, YAML takes half of a letter too."""
    for key, values in found.items():
        for field, value in values.items() if isinstance(values, Mapping) else ():
            if HALF.search(json.dumps(_plain(value), ensure_ascii=False, default=str)):
                said = ascii(_plain(value))
                yield f"{name}:{_line(values, field)}: {key}.{field}: {said}: holds half a letter"


PARTS = {"annotations": ("annotations", "format"), "chip": ("chip.methods", "method")}
"""Sections whose settings belong to a part: the folder, and the key that names the part."""


def _section(key: str, kind: type[Section], values: Mapping[str, Any], name: str) -> Section:
    if key in PARTS:
        folder, chooser = PARTS[key]
        kind = _part_section(folder, f"{key}.{chooser}", values.get(chooser), values, name)
    elif key == "train":
        _named_part(
            "train.classifiers", "train.classifier", values.get("classifier", "mlp"), values, name
        )
    elif key == "extract":
        chosen = values.get("extractor")
        if isinstance(chosen, str) and not USER_PLUGIN.match(chosen):
            part = chosen.partition("/")[0]
            _named_part("extract.extractors", "extract.extractor", part, values, name)
    try:
        return kind.model_validate(_plain(values))
    except ValidationError as error:
        raise SettingError("\n".join(_faults(error, kind, key, values, name))) from error


def _named_part(
    folder: str, setting: str, chosen: Any, values: Mapping[str, Any], name: str
) -> None:
    """Check that *folder* has the part, without importing it: extractors import slowly."""
    known = registry.names(folder)
    if chosen not in known:
        nearest = get_close_matches(str(chosen), known, n=1, cutoff=0.5)
        hint = f" (nearest: {nearest[0]!r})" if nearest else ""
        line = _line(values, setting.partition(".")[2])
        raise SettingError(
            f"{name}:{line}: {setting}: no {chosen!r} among {', '.join(known)}{hint}"
        )


def _part_section(
    folder: str, setting: str, chosen: Any, values: Mapping[str, Any], name: str
) -> type[Section]:
    _named_part(folder, setting, chosen, values, name)
    section: type[Section] = registry.find(folder, chosen, key=setting).Settings
    return section


def _plain(value: Any) -> Any:
    """Strip ruamel's own types, and give lists as the tuples that frozen sections hold."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return tuple(_plain(item) for item in value)
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def _line(values: Any, key: str) -> int:
    """The line of *key* in the file, or of its section where the key is not there."""
    if not isinstance(values, CommentedMap):
        return 1
    if key in values:
        return int(values.lc.key(key)[0]) + 1
    return int(values.lc.line) + 1 if values.lc.line is not None else 1


def _unknown(values: Any, known: Mapping[str, Any], name: str, prefix: str) -> Iterator[str]:
    for key in values:
        if key not in known:
            yield (
                f"{name}:{_line(values, key)}: {prefix}{key}: not a setting"
                f"{_nearest(str(key), list(known), prefix)}"
            )


def _nearest(key: str, known: list[str], prefix: str) -> str:
    owner = _owner(key)
    if owner:
        return owner
    close = get_close_matches(key, known, n=1, cutoff=0.5)
    return f"; did you mean {prefix + close[0]!r}?" if close else f"; known are {', '.join(known)}"


@cache
def _owner(key: str) -> str:
    """Say which section or part has *key*, for a setting that stands in the wrong place."""
    for section, kind in SECTIONS.items():
        if key in kind.model_fields:
            return f"; it is a setting of {section!r}"
    for section, (folder, chooser) in PARTS.items():
        parts = [
            repr(part)
            for part in registry.names(folder)
            if key in registry.find(folder, part, key=f"{section}.{chooser}").Settings.model_fields
        ]
        if parts:
            return f"; it is a setting of {section}.{chooser} {', '.join(parts)}"
    return ""


def _faults(
    error: ValidationError, kind: type[Section], key: str, values: Mapping[str, Any], name: str
) -> Iterator[str]:
    for fault in error.errors():
        where = [str(part) for part in fault["loc"]]
        line = _line(values, where[0]) if where else _line(values, "")
        at = f"{name}:{line}: {'.'.join([key, *where])}"
        if renamed := RENAMED.get(f"{key}.{where[0]}" if where else ""):
            yield f"{at}: is now called {renamed}"
        elif fault["type"] == "extra_forbidden":
            near = _nearest(where[0], list(kind.model_fields), f"{key}.")
            yield f"{at}: not a setting{near}"
        elif fault["type"] == "missing":
            yield f"{at}: missing"
        else:
            message = fault["msg"].removeprefix("Value error, ")
            value = shorten(repr(fault["input"]), LONGEST)
            shown = "" if not where else f": {value}"
            yield f"{at}{shown}: {message[0].lower()}{message[1:]}"
