"""What was retrieved for a question: passages, and how the lists of several questions become one. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from engine.errors import Internal, quoted
from engine.tensor import Tensor

RANK_K: Final = 60
"""Of reciprocal rank fusion: a passage's share of a list is 1 / (RANK_K + its rank), as Cormack, Clarke and Buettcher found
good (SIGIR 2009)."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A span of a document. `start`, `end`: its place there, in characters, where the documents say so."""

    id: str
    text: str
    score: float
    document: str | None = None
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class PassageTensors:
    """The outputs of a retrieval that passages are read from; each [n] or [1, n], the best first. None: not there."""

    id: str = "ids"
    text: str = "text"
    score: str = "scores"
    document: str | None = None
    start: str | None = None
    end: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Of those that are there."""
        named = (self.id, self.text, self.score, self.document, self.start, self.end)
        return tuple(name for name in named if name is not None)


def passages_of(outputs: Mapping[str, Tensor], tensors: PassageTensors) -> list[Passage]:
    """The passages of one question. Those without a finite score are the empty places of a list that is not full.

    Raises Internal where the outputs differ in length.
    """
    columns: dict[str, list[Any]] = {}
    for name in tensors.names:
        if (found := outputs.get(name)) is None:
            raise Internal(f"retrieval: output {quoted(name)} is missing")
        columns[name] = found.array.reshape(-1).tolist()
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise Internal(f"retrieval: outputs of one length expected, got {lengths}")

    def column(name: str | None) -> list[Any]:
        return [None] * lengths[tensors.id] if name is None else columns[name]

    rows = zip(
        *(column(name) for name in (tensors.id, tensors.text, tensors.score)),
        *(column(name) for name in (tensors.document, tensors.start, tensors.end)),
        strict=True,
    )
    return [
        Passage(_text(key), _text(text), score, None if document is None else _text(document), start, end)
        for key, text, score, document, start, end in rows
        if abs(score) < float("inf")
    ]


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def fused(lists: Sequence[Sequence[Passage]]) -> list[Passage]:
    """Those of several lists, the best first, each once, with the best of its scores: by reciprocal rank fusion. One list stays
    as it is; of equals the one that came first is first."""
    if len(lists) == 1:
        return list(lists[0])
    shares: dict[str, float] = {}
    best: dict[str, Passage] = {}
    for each in lists:
        for rank, passage in enumerate(each, 1):
            shares[passage.id] = shares.get(passage.id, 0.0) + 1 / (RANK_K + rank)
            if passage.id not in best or passage.score > best[passage.id].score:
                best[passage.id] = passage
    return [best[key] for key in sorted(shares, key=lambda key: -shares[key])]
