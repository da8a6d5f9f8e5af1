"""Answers of one loaded language model that are given again: to the same call of the same tenant, while what they came from is
the same.

Only answers that came whole are kept. A stream is given again as the stream it was, event for event.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from engine.bytes_bound import BytesBound
from engine.clock import Clock, Deadline
from engine.errors import Internal
from engine.generation.call import Chunks, GenerationAnswer, GenerationCall, GenerationKind, Served
from engine.generation.declaration import AnswersSpec
from engine.generation.sse import DONE, EventReader
from engine.generation.statistics import GenerationStatistics

_TOLD: Final = "vireo-cache"
_SAMPLING: Final = frozenset((GenerationKind.CHAT, GenerationKind.COMPLETION))
_CUT: Final = ("abort", "error")
_DONE: Final = DONE.removeprefix(b"data: ").rstrip()
_ENTRY_BYTES: Final = 512
"""What an entry takes beside its answer, about."""

Body = bytes | tuple[bytes, ...]
"""A whole answer, or the chunks of a stream."""


@dataclass(frozen=True, slots=True)
class _Kept:
    body: Body
    until: Deadline


class KeptAnswers:
    """See the module. For one event loop; `bytes_size` and the length may be read from any thread."""

    def __init__(self, spec: AnswersSpec, clock: Clock, counted: GenerationStatistics) -> None:
        self._spec, self._clock, self._counted = spec, clock, counted
        self._kept: BytesBound[Hashable, _Kept] = BytesBound(spec.bytes_max)

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def bytes_size(self) -> int:
        """Of the answers kept now."""
        return self._kept.bytes_size

    def key(self, call: GenerationCall) -> Hashable | None:
        """What calls have in common that are answered alike; None where its answer is not to be kept."""
        if call.fresh or call.kind is GenerationKind.RESPONSES or not (self._spec.always or _determined(call)):
            return None
        try:
            body = orjson.dumps(call.body, option=orjson.OPT_SORT_KEYS)
        except orjson.JSONEncodeError:  # too deep, or no Unicode: who answers says so
            return None
        return call.kind, call.model, call.tenant, hashlib.sha256(body).digest()

    def found(self, key: Hashable) -> GenerationAnswer | None:
        """The kept answer, counted whether there is one."""
        kept = self._kept.get(key)
        if kept is not None and kept.until.expired(self._clock()):
            self._kept.drop(key)
            kept = None
        if kept is None:
            self._counted.kept_misses += 1
            return None
        self._counted.kept_hits += 1
        body = kept.body if isinstance(kept.body, bytes) else _Again(kept.body)
        return GenerationAnswer(body, headers=((_TOLD, "hit"),))

    def recorded(self, answer: GenerationAnswer, key: Hashable, key_now: Callable[[], Hashable]) -> GenerationAnswer:
        """The same answer, which is kept once it has ended well, if `key_now` then still gives `key`."""
        answer = replace(answer, headers=(*answer.headers, (_TOLD, "miss")))
        if answer.status != 200:
            return answer

        def keep(body: Body) -> None:
            if not _marked(answer.served) and _whole(body) and key_now() == key:
                self._keep(key, body)

        if isinstance(answer.body, bytes):
            keep(answer.body)
            return answer
        return replace(answer, body=_Recorded(answer.body, self._spec.bytes_max, keep))

    def _keep(self, key: Hashable, body: Body) -> None:
        ttl_s = self._spec.ttl_s
        until = Deadline.NEVER if ttl_s is None else Deadline.after(ttl_s, self._clock())
        size = len(body) if isinstance(body, bytes) else sum(map(len, body))
        self._kept.keep(key, _Kept(body, until), size + _ENTRY_BYTES)


class _Again(AsyncIterator[bytes]):
    """A stream that was, as `Chunks`."""

    def __init__(self, chunks: tuple[bytes, ...]) -> None:
        self._chunks = iter(chunks)

    async def __anext__(self) -> bytes:
        for chunk in self._chunks:
            return chunk
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """See `Chunks`."""
        self._chunks = iter(())


class _Recorded(AsyncIterator[bytes]):
    """Chunks as they come; `ended` gets all of them where they come to their end and have at most `bytes_max`."""

    def __init__(self, chunks: Chunks, bytes_max: int, ended: Callable[[Body], None]) -> None:
        self._chunks, self._ended, self._left = chunks, ended, bytes_max
        self._so_far: list[bytes] = []

    async def __anext__(self) -> bytes:
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            if self._so_far:
                self._ended(tuple(self._so_far))
                self._so_far = []
            raise
        self._left -= len(chunk)
        if self._left >= 0:
            self._so_far.append(chunk)
        else:
            self._so_far = []
        return chunk

    async def aclose(self) -> None:
        """See `Chunks`."""
        self._so_far = []
        await self._chunks.aclose()


def _determined(call: GenerationCall) -> bool:
    """Whether the same call is certain to be answered the same."""
    if call.kind not in _SAMPLING:
        return True
    temperature, seed = call.body.get("temperature"), call.body.get("seed")
    return (type(temperature) in (int, float) and temperature == 0) or type(seed) is int


def _marked(served: Served | None) -> bool:
    """Whether a fallback stood in for some of the work."""
    return served is not None and served.response is not None and bool(served.response.marks)


def _whole(body: Body) -> bool:
    """Whether an answer says all that was asked for, and no error."""
    if isinstance(body, bytes):
        return _sound(body)
    reader = EventReader()
    last = b""
    try:
        for chunk in body:
            for event in reader.feed(chunk):
                last = event.data
                if event.kind == "error" or (last != _DONE and not _sound(last)):
                    return False
    except Internal:  # an event of more bytes than any may have
        return False
    return last == _DONE


def _sound(data: bytes) -> bool:
    try:
        read: Any = orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    if not isinstance(read, Mapping):
        return isinstance(read, list)
    choices = read.get("choices")
    each_choice = choices if isinstance(choices, list) else []
    cut = any(isinstance(each, Mapping) and each.get("finish_reason") in _CUT for each in each_choice)
    return read.get("error") is None and not cut
