"""params.yaml, read once into frozen sections: every setting of an experiment, with its bounds.

Read with ruamel.yaml as YAML 1.2, like DVC does: PyYAML takes `1e-3` for a string and `off` for
false. Settings of the machine are in luigi.cfg (see machine.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, cast, get_type_hints

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
from pipeline.core.hashing import canonical_json
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
        """Return the text that `from_json` reads, for other processes."""
        sections = {key: getattr(self, key).model_dump(mode="json") for key in SECTIONS}
        return canonical_json(sections).decode()

    def recipe_fields(self) -> dict[str, dict[str, Any]]:
        """Return the settings that shape rows, by section, as JSON values.

        The patterns that select images are included; the address of the bucket is not, nor is a
        section without such settings.
        """
        fields = {key: made for key in SECTIONS if (made := getattr(self, key).recipe_fields())}
        selection = self.bucket.model_dump(mode="json", include={"include", "exclude"})
        return {**fields, "bucket": {**selection, **fields["bucket"]}}


SECTIONS: Mapping[str, type[Section]] = get_type_hints(Params)
OPTIONAL = frozenset({"index"})
"""Sections that may be missing."""
PARTS = {"annotations": ("annotations", "format"), "chip": ("chip.methods", "method")}
"""Sections whose settings belong to a part: its folder, and the setting with its name."""
MAX_VALUES = 100_000
SHOWN = 300
"""Characters of a value that a message shows."""
LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def load(path: Path | str) -> Params:
    """Read params.yaml.

    Raises:
        SettingError: the file is missing or not YAML, or a setting is wrong. Each fault is a line
            of the message, with file, line, setting and what to do.
    """
    path = Path(path)
    try:
        loaded = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
        _check_size(loaded)
    except FileNotFoundError as error:
        raise SettingError(f"{path}: not found; run from the repository's root") from error
    except OSError as error:
        raise SettingError(f"{path}: cannot be read ({error.strerror})") from error
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = shorten(str(error.problem), SHOWN)
        raise SettingError(f"{path.name}:{line}: not YAML: {problem}") from error
    except (YAMLError, ValueError, RecursionError) as error:  # not UTF-8, a number of 5,000 digits
        problem = " ".join(str(error).split())
        raise SettingError(f"{path.name}: not YAML: {problem}") from error
    if not isinstance(loaded, CommentedMap):
        raise SettingError(f"{path.name}:1: has no sections")
    return _params(loaded, path.name)


def _check_size(loaded: Any) -> None:
    """Raise ValueError if anchors expand a small file to more values than can be checked."""
    waiting, count = [loaded], 0
    while waiting:
        item = waiting.pop()
        count += 1
        if count + len(waiting) > MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES:,} values, by anchors in anchors")
        if isinstance(item, Mapping):
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def from_json(text: str) -> Params:
    """Read the text of `Params.to_json`; raise SettingError as `load` does."""
    return _params(json.loads(text), "params")


def _params(loaded: Any, name: str) -> Params:
    if secrets := list(_secrets(loaded, name)):  # alone: other messages would show the values
        raise SettingError("\n".join(secrets))
    sections: dict[str, Section] = {}
    faults = [
        f"{name}:{_line(loaded, key)}: {key}: not a setting{_hint(str(key), SECTIONS, '')}"
        for key in loaded
        if key not in SECTIONS
    ]
    faults += _half_characters(loaded, name)
    for key in SECTIONS:
        values = loaded.get(key, {} if key in OPTIONAL else None)
        if not isinstance(values, Mapping):
            faults.append(f"{name}:{_line(loaded, key)}: {key}: the section is missing or empty")
            continue
        try:
            sections[key] = _section(key, values, name)
        except SettingError as error:
            faults.extend(str(error).split("\n"))
    if not faults:
        faults = list(_unknown_groupings(sections, loaded, name))
    if faults:
        raise SettingError("\n".join(faults))
    return Params(**cast("dict[str, Any]", sections))


def _unknown_groupings(sections: Mapping[str, Any], loaded: Any, name: str) -> Iterator[str]:
    """Yield a message for each grouping that is neither built in nor a field of the pattern."""
    names = [*GROUPINGS, *sections["index"].fields]
    chosen = {"split": [sections["split"].by], "validate": sections["validate"].by}
    for section, groupings in chosen.items():
        at = _at(section, "by", loaded.get(section), name)
        for by in groupings:
            if by not in names:
                yield f"{at}: {registry.unknown(by, names)}; index.pattern names more"


def _settings(loaded: Mapping[str, Any], name: str) -> Iterator[tuple[str, Any]]:
    """Yield the file, line and name of every setting, for messages, and its value."""
    for section, values in loaded.items():
        for field, value in values.items() if isinstance(values, Mapping) else ():
            yield _at(section, field, values, name), value


def _secrets(loaded: Mapping[str, Any], name: str) -> Iterator[str]:
    """Yield a message for each address with credentials: params.yaml and dvc.lock are committed."""
    for at, value in _settings(loaded, name):
        texts = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(text, str) and holds_credentials(text) for text in texts):
            yield (
                f"{at}: the address holds a user name, password, token or signature, and this file "
                "and dvc.lock are shared; take it out: s3:// takes credentials from the "
                "environment, and a file with a signed address is best downloaded"
            )


def _half_characters(loaded: Mapping[str, Any], name: str) -> Iterator[str]:
    """Yield a message for each text that no file can contain: YAML's escapes can spell it."""
    for at, value in _settings(loaded, name):
        plain = _plain(value)
        if LONE_SURROGATE.search(json.dumps(plain, ensure_ascii=False, default=str)):
            yield f"{at}: {plain!a}: contains half a character"


def _section(key: str, values: Mapping[str, Any], name: str) -> Section:
    kind = SECTIONS[key]
    if key in PARTS:
        folder, chooser = PARTS[key]
        kind = registry.find(
            folder, values.get(chooser), key=_at(key, chooser, values, name)
        ).Settings
    elif key == "train":
        classifier = values.get("classifier", "mlp")
        registry.check("train.classifiers", classifier, key=_at(key, "classifier", values, name))
    elif key == "extract":
        chosen = values.get("extractor")
        if isinstance(chosen, str) and not USER_PLUGIN.match(chosen):
            part = chosen.partition("/")[0]  # not imported: extractors import slowly
            try:
                registry.check("extract.extractors", part, key=_at(key, "extractor", values, name))
            except SettingError as error:
                hint = f"; a network of torchvision is written torchvision/{chosen}"
                raise SettingError(f"{error}{'' if '/' in chosen else hint}") from error
    try:
        return kind.model_validate(_plain(values))
    except ValidationError as error:
        raise SettingError("\n".join(_faults(error, kind, key, values, name))) from error


def _at(section: str, field: str, values: Any, name: str) -> str:
    """Return the file, line and name of a setting, for messages."""
    return f"{name}:{_line(values, field)}: {section}.{field}"


def _plain(value: Any) -> Any:
    """Return *value* without ruamel's types, and with tuples, which can be frozen, for lists."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return tuple(_plain(item) for item in value)
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def _line(values: Any, key: str) -> int:
    """Return the line of *key* in the file, or of its section if it has no such key."""
    if not isinstance(values, CommentedMap):
        return 1
    if key in values:
        return int(values.lc.key(key)[0]) + 1
    return int(values.lc.line) + 1 if values.lc.line is not None else 1


def _hint(key: str, names: Mapping[str, Any], prefix: str) -> str:
    """Return where *key* is a setting, or else the nearest of the section's *names*."""
    if owner := _owner(key):
        return f"; it is a setting of {owner}"
    close = get_close_matches(key, names, n=1, cutoff=0.5)
    return f"; did you mean {prefix + close[0]!r}?" if close else f"; it can be {', '.join(names)}"


@cache
def _owner(key: str) -> str:
    """Return the section, or the parts of one, that have a setting *key*; "" if none has."""
    for section, kind in SECTIONS.items():
        if key in kind.model_fields:
            return repr(section)
    for section, (folder, chooser) in PARTS.items():
        settings = {
            name: registry.find(folder, name, key=section).Settings
            for name in registry.names(folder)
        }
        parts = [repr(name) for name, kind in settings.items() if key in kind.model_fields]
        if parts:
            return f"{section}.{chooser} {', '.join(parts)}"
    return ""


def _faults(
    error: ValidationError, kind: type[Section], key: str, values: Mapping[str, Any], name: str
) -> Iterator[str]:
    for fault in error.errors():
        where = [str(part) for part in fault["loc"]]
        field = where[0] if where else ""
        at = f"{name}:{_line(values, field)}: {'.'.join([key, *where])}"
        if renamed := RENAMED.get(f"{key}.{field}"):
            yield f"{at}: is now called {renamed}"
        elif fault["type"] == "extra_forbidden":
            yield f"{at}: not a setting{_hint(field, kind.model_fields, f'{key}.')}"
        elif fault["type"] == "missing":
            yield f"{at}: missing"
        else:
            message = fault["msg"].removeprefix("Value error, ")
            shown = f": {shorten(repr(fault['input']), SHOWN)}" if where else ""
            yield f"{at}{shown}: {message[0].lower()}{message[1:]}"
