"""Vectors of texts that were encoded already: bounded by bytes, the longest unused go first, each text encoded once at a time.

It belongs to one loaded version of one encoder, so another version begins with none. Its key is the text as it is encoded,
with its prompt before it: a query and a passage of the same words are two.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from engine.bytes_bound import BytesBound
from engine.encoders.pooling import Floats
from engine.tensor import Array

Row = tuple[Floats, int]
"""A text's vector [d], and its tokens."""

Encode = Callable[[Sequence[str]], tuple[Floats, Array]]
"""The vectors [n, d] of texts, and the tokens [n] of each."""

_ENTRY_BYTES: Final = 256
"""What an entry takes beside its text and its numbers, about."""


@dataclass(eq=False, slots=True)
class _Pending:
    """A text that some thread is encoding. `row` stays None where that fails."""

    over: threading.Event = field(default_factory=threading.Event)
    row: Row | None = None


class EncodingCache:
    """See the module. Any number of threads. `hits` and `misses` count texts; one that another thread is encoding is a hit."""

    def __init__(self, bytes_max: int) -> None:
        self._rows: BytesBound[str, Row] = BytesBound(bytes_max)
        self._pending: dict[str, _Pending] = {}
        self._lock = threading.Lock()
        self.hits = self.misses = 0

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def bytes_size(self) -> int:
        """Of the vectors kept now, with their texts."""
        return self._rows.bytes_size

    def encoded(self, texts: Sequence[str], encode: Encode) -> tuple[Floats, Array]:
        """float32 [n, d] and int32 [n] of `texts`, of which `encode` computes those that are not there, each once. Raises what
        `encode` does; where another thread's failed on a text of these, they are computed here."""
        rows: dict[str, Row] = {}
        missing = list(dict.fromkeys(texts))
        first = True
        while missing:
            own, others = self._claimed(missing, rows)
            if first:
                self._count(len(texts) - len(own), len(own))
                first = False
            rows |= self._computed(own, encode)
            for text, pending in others.items():  # after its own: who waits keeps nobody waiting
                pending.over.wait()
                if pending.row is not None:
                    rows[text] = pending.row
            missing = [text for text in others if text not in rows]
        vectors = np.stack([rows[text][0] for text in texts])
        return vectors, np.array([rows[text][1] for text in texts], np.int32)

    def _claimed(self, texts: Iterable[str], rows: dict[str, Row]) -> tuple[dict[str, _Pending], dict[str, _Pending]]:
        """Puts what is there into `rows`; what is this thread's to encode, and what others are encoding."""
        own: dict[str, _Pending] = {}
        others: dict[str, _Pending] = {}
        with self._lock:
            for text in texts:
                if (row := self._rows.get(text)) is not None:
                    rows[text] = row
                elif (pending := self._pending.get(text)) is not None:
                    others[text] = pending
                else:
                    own[text] = self._pending[text] = _Pending()
        return own, others

    def _computed(self, own: dict[str, _Pending], encode: Encode) -> dict[str, Row]:
        rows: dict[str, Row] = {}
        try:
            if own:
                vectors, tokens = encode(list(own))
                # copies: a row that is kept must not keep its batch
                rows = {text: (vectors[at].copy(), int(tokens[at])) for at, text in enumerate(own)}
        finally:
            with self._lock:
                for text, pending in own.items():
                    del self._pending[text]
                    pending.row = rows.get(text)
                    if pending.row is not None:
                        self._rows.keep(text, pending.row, _bytes_of(text, pending.row))
            for pending in own.values():
                pending.over.set()
        return rows

    def _count(self, hits: int, misses: int) -> None:
        with self._lock:
            self.hits += hits
            self.misses += misses


def _bytes_of(text: str, row: Row) -> int:
    return len(text.encode()) + row[0].nbytes + _ENTRY_BYTES
