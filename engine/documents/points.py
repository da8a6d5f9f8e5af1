"""Passages as points of a collection: ids, payloads, and which of them have to be written. Pure.

A passage's id follows from its document and its position there. Its field `digest` follows from all that it is made of; that of
a document's first passage is followed by ":" and the digest of the whole file. The first is written when all the others are, so
that it alone says whether a document is there as it is now.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from engine.documents.declaration import DocumentsSpec
from engine.documents.document import Block, Document
from engine.documents.splitter import Chunk, ChunkBounds, split_document
from engine.vectors.declaration import CollectionSpec
from engine.vectors.values import TEXT_ID_BYTES_MAX, PointId

_DIGEST_BYTES: Final = 12
_NUMBER_CHARS: Final = 12
_TITLE_CHARS_MAX: Final = 300
_PATH: Final = " > "


@dataclass(frozen=True, slots=True)
class PassagePoint:
    """A point, but for its vectors, which are made of the text `embedded`."""

    id: PointId
    embedded: str
    payload: Mapping[str, Any]
    digest: str


@dataclass(frozen=True, slots=True)
class Changes:
    """`doubt`: the document's first passage, which is to say no more that all of it is there before anything else is done,
    None where it is not there. `write`: in this order, the first passage last. `delete`: what is no more."""

    doubt: PointId | None
    write: Sequence[PassagePoint]
    delete: Sequence[PointId]


class Passages:
    """Of one collection. `settings`: whatever else decides what points become, such as versions of encoders."""

    def __init__(self, spec: DocumentsSpec, collection: CollectionSpec, bounds: ChunkBounds, settings: str) -> None:
        self._spec, self._collection, self._bounds = spec, collection, bounds
        self._settings = _digest(settings.encode())

    def digest(self, content: bytes) -> str:
        """Of a file: another where it is another, or is read, split, embedded or written otherwise."""
        return _digest(self._settings.encode(), content)

    def id(self, document: str, position: int) -> PointId:
        """Of a document's passage."""
        if self._collection.id == "integer":
            return int.from_bytes(hashlib.blake2b(f"{document}\0{position}".encode(), digest_size=8).digest())
        long = len(document.encode()) + _NUMBER_CHARS > TEXT_ID_BYTES_MAX
        return f"{_digest(document.encode()) if long else document}#{position}"

    def points(self, name: str, digest: str, document: Document) -> list[PassagePoint]:
        """Of a document called `name`, whose file has this `digest`."""
        title = _one_line(document.title or "")
        chunks = split_document(document, self._bounds, lambda place: self._context(name, title, place))
        return [
            self._point(name, title, digest, document.text[chunk.start : chunk.end], chunk, position)
            for position, chunk in enumerate(chunks)
        ]

    def is_as(self, found: Mapping[str, Any], digest: str) -> bool:
        """Whether the payload of a document's first passage says that all of it is there, as `digest` says."""
        told = found.get(self._spec.fields.digest)
        return isinstance(told, str) and told.endswith(f":{digest}")

    def changes(self, points: Sequence[PassagePoint], kept: Mapping[PointId, Mapping[str, Any]]) -> Changes:
        """What makes of the passages that are `kept` of a document, payloads by id, those that it has now."""
        told = {key: payload.get(self._spec.fields.digest) for key, payload in kept.items()}
        write = [each for each in (*points[1:], *points[:1]) if told.get(each.id) != each.digest]
        now = {each.id for each in points}
        delete = [key for key in kept if key not in now]
        several = len(write) + len(delete) > 1
        return Changes(next((each.id for each in points[:1] if several and each.id in kept), None), write, delete)

    def _context(self, name: str, title: str, place: Block) -> str:
        headings = [each for each in map(_one_line, place.headings) if each]
        path = headings if headings[:1] == [title] else [title, *headings]
        filled = self._spec.context.format(
            path=_PATH.join(each for each in path if each), title=title, headings=_PATH.join(headings), document=name,
            page="" if place.page is None else place.page,
        )  # fmt: skip
        return filled if filled.strip() else ""

    def _point(self, name: str, title: str, digest: str, text: str, chunk: Chunk, position: int) -> PassagePoint:
        embedded = chunk.context + text
        headings = [each for each in map(_one_line, chunk.headings) if each]
        fields = self._collection.fields
        declared = fields.get(self._spec.fields.headings)
        values: dict[str, Any] = {
            "text": text, "document": name, "searched": embedded, "title": title or None,
            "headings": headings if declared is not None and declared.array else _PATH.join(headings) or None,
            "page": chunk.page, "start": chunk.start, "end": chunk.end, "position": position,
        }  # fmt: skip
        payload = {getattr(self._spec.fields, role): value for role, value in values.items() if value is not None}
        payload = {field: value for field, value in payload.items() if field in fields}
        own = _digest(self._settings.encode(), repr((embedded, sorted(payload.items()))).encode())
        told = own if position else f"{own}:{digest}"
        return PassagePoint(self.id(name, position), embedded, payload | {self._spec.fields.digest: told}, told)


def _digest(*parts: bytes) -> str:
    found = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for each in parts:
        found.update(len(each).to_bytes(8))
        found.update(each)
    return found.hexdigest()


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_TITLE_CHARS_MAX]
