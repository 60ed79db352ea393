"""What files of objects share: the objects themselves, their rejects, and the names of images."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pipeline.annotations import Annotations, AnnotationSource, FileSettings, _merge, _rows
from pipeline.annotations._frame import displayed_size
from pipeline.annotations._values import LONE_SURROGATE, label
from pipeline.core import schemas
from pipeline.core.errors import InputError, Rejected
from pipeline.core.rejects import Reject
from pipeline.core.urls import redacted


@dataclass(slots=True)
class AnnotatedObject(_merge.Annotation):
    """A point (row, col), something with a window, or, with neither, a whole image.

    `crowd` marks a region of many objects; `image_height` and `image_width` are those that the file
    states. See schemas.OBJECTS for the other fields.
    """

    top: int | None = None
    left: int | None = None
    height: int | None = None
    width: int | None = None
    outline: tuple[tuple[float, ...], ...] | None = None
    pixels: bytes | None = None
    crowd: bool = False
    image_height: int | None = None
    image_width: int | None = None


class Objects(AbstractContextManager[Any]):
    """The objects and the rejects of one file, which `with objects.at(key, line):` collects."""

    def __init__(self, source: AnnotationSource, settings: FileSettings) -> None:
        self.source, self.separator = source, settings.label_separator
        self.names = ImageNames(source, settings.prefix)
        self.rows: list[AnnotatedObject] = []
        self.rejects: list[Reject] = []

    def at(self, key: str, line: int | str) -> Objects:
        """Return a context in which objects of this *line* are added, or its Rejected is caught."""
        self.key, self.line = key, line
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        if isinstance(error, Rejected):
            self.rejects.append(self.source.reject(self.key, self.line, error))
        return isinstance(error, Rejected)

    def add(self, name: Any, **fields: Any) -> None:
        """Add an object with the label *name*; raise Rejected if it cannot be a label."""
        fields["label"] = label(name, self.separator)
        self.rows.append(AnnotatedObject(key=self.key, line=self.line, **fields))

    def result(self) -> Annotations:
        """Return what a format's `read` returns."""
        return _merge.to_table(self.rows, schemas.OBJECTS), self.rejects


def from_json(source: AnnotationSource) -> Any:
    """Read a JSON file in UTF-8, UTF-16 or UTF-32; raise InputError if it is not JSON."""
    _rows.check_text(source, "unpack it and name the JSON file in it")
    try:
        return json.loads(source.data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source.name}: not JSON: {error}") from error


UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)", re.DOTALL)
"""An uploaded file of Label Studio, `/data/upload/PROJECT/8HEX-name.jpg`, and its own name."""
FROM_ELSEWHERE = re.compile(r"([A-Za-z]:)?/|\.{1,2}/|.*://", re.DOTALL)
"""The beginning of an address, or of a path on a machine: neither can be a key."""


class ImageNames:
    """The keys of images by the names, addresses and paths that annotation tools write.

    `sizes` are those of the images as the tool has them: see AnnotationSource.orientations.
    """

    def __init__(self, source: AnnotationSource, prefix: str) -> None:
        self.keys, self.prefix = frozenset(source.keys), prefix
        self.orientations = source.orientations
        self.stored_sizes = dict(zip(source.keys, source.sizes, strict=False))
        self.sizes = {
            key: displayed_size(size, self.orientations.get(key, 1))
            for key, size in self.stored_sizes.items()
        }

    def key(self, name: str) -> str:
        """Return the key of the image *name*; for an address or path, the longest end that is one.

        Windows' backslashes are slashes, unless a key has them. A name without an extension is the
        only image with that name. The name of an unknown image is returned for messages, without
        the signature that an address can have.
        """
        key = self.prefix + name
        if key in self.keys:
            return key
        if LONE_SURROGATE.search(name):
            return self.prefix + ascii(name)
        name = name.replace("\\", "/")
        key = self.prefix + (redacted(name) if "://" in name else name)
        match = next((end for end in self._ends(name) if end in self.keys), None)
        if match is None and len(uploaded := self.uploaded(name)) == 1:
            (match,) = uploaded
        if match is None and name and "." not in key.rpartition("/")[2]:
            match = self._by_stem.get(key)
        return match or key

    @cached_property
    def _by_stem(self) -> dict[str, str]:
        """The key of each name without extension that only one image has."""
        counts = Counter(key.rpartition(".")[0] for key in self.keys)
        stems = ((key.rpartition(".")[0], key) for key in self.keys)
        return {stem: key for stem, key in stems if counts[stem] == 1}

    def uploaded(self, name: str) -> list[str]:
        """Return the images, sorted, that may have been uploaded to Label Studio as *name*.

        It keeps an image's own name without its folder.
        """
        last = next(reversed(list(self._ends(name))), "").removeprefix(self.prefix)
        match = UPLOADED.fullmatch(last)
        return self._by_uploaded_name.get(match[1], []) if match else []

    @cached_property
    def _by_uploaded_name(self) -> dict[str, list[str]]:
        """The images below the prefix by the names that they have after an upload."""
        keys: dict[str, list[str]] = {}
        for key in sorted(self.keys):
            if key.startswith(self.prefix):
                keys.setdefault(uploaded_name(key.rpartition("/")[2]), []).append(key)
        return keys

    def _ends(self, name: str) -> Iterator[str]:
        """Yield the keys that the ends of an address or a path would be, longest first."""
        if not FROM_ELSEWHERE.match(name):
            return
        try:
            parts = urlsplit(name)
        except ValueError:
            return
        path = (parse_qs(parts.query).get("d") or [unquote(parts.path)])[0]
        steps = path.replace("\\", "/").lstrip("/").split("/")
        for start in range(len(steps)):
            yield self.prefix + "/".join(steps[start:])


def uploaded_name(name: str) -> str:
    """Return what Label Studio calls an uploaded file, after the 8 digits that it puts before it.

    Source: Django, `get_valid_filename`, which it stores uploads by.
    """
    return re.sub(r"[^-\w.]", "", name.replace(" ", "_"))
