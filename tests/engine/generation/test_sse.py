"""Server-sent events, however they are cut into pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import Internal
from engine.generation import sse
from engine.generation.sse import EventReader

_LINES = st.sampled_from([b"data: {}", b"data:x", b"event: ping", b": comment", b"id: 1", b"data", b"data: \xc3\xa9"])
_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


def _events(pieces: list[bytes]) -> list[tuple[str | None, bytes]]:
    reader = EventReader()
    return [(each.kind, each.data) for piece in pieces for each in reader.feed(piece)]


@given(
    events=st.lists(st.lists(_LINES, min_size=1, max_size=4), max_size=6),
    end=_ENDS,
    cuts=st.lists(st.integers(0, 400), max_size=12),
)
def test_the_same_events_come_however_the_bytes_are_cut(events: list[list[bytes]], end: bytes, cuts: list[int]) -> None:
    text = b"".join(end.join(lines) + end + end for lines in events)
    places = [0, *sorted(min(each, len(text)) for each in cuts), len(text)]
    pieces = [text[begin:stop] for begin, stop in pairwise(places)]
    assert _events(pieces) == _events([text]) == [each for lines in events for each in _naive(lines)]


def _naive(lines: list[bytes]) -> list[tuple[str | None, bytes]]:
    data = [line.partition(b":")[2].removeprefix(b" ") for line in lines if line.partition(b":")[0] == b"data"]
    kinds = [line.partition(b": ")[2].decode() for line in lines if line.startswith(b"event")]
    return [(kinds[-1] if kinds else None, b"\n".join(data))] if data else []


def test_an_event_without_end_is_refused_at_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "GENERATION_EVENT_BYTES_MAX", 100)
    reader = EventReader()
    assert list(reader.feed(b"data: " + b"x" * 90)) == []
    with pytest.raises(Internal, match="more than 100 bytes"):
        list(reader.feed(b"x" * 10))
