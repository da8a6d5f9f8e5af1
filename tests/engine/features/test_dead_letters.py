"""Dead letters on their way out: at least once, bounded on disk, and never in the way of anything."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.errors import Unavailable
from engine.features.dead_letters import DeadLetterFile, DeadLetters
from engine.log.log import DeadLetter


def _letter(offset: int, payload: bytes = b'{"a": 1}') -> DeadLetter:
    return DeadLetter(0, offset, "why", payload)


def _lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


class _Outlet:
    """A place that fails when told to."""

    def __init__(self) -> None:
        self.taken: list[DeadLetter] = []
        self.fails = False

    def write(self, letters: Sequence[DeadLetter]) -> None:
        self.flush()
        self.taken += letters

    def flush(self) -> None:
        if self.fails:
            raise Unavailable("the broker is away")

    def close(self) -> None:
        self.flush()


def test_a_letter_is_one_line_that_says_where_and_why(tmp_path: Path) -> None:
    file = DeadLetterFile(tmp_path / "below" / "dead.jsonl")
    file.write([_letter(1), _letter(2, b'{\n"b": "x\\ny"\r\n}'), _letter(3, b"no { json"), _letter(4, b"\xff\xfe")])
    file.close()
    common = {"partition": 0, "reason": "why"}
    assert _lines(tmp_path / "below" / "dead.jsonl") == [
        common | {"offset": 1, "payload": {"a": 1}},
        common | {"offset": 2, "payload": {"b": "x\ny"}},
        common | {"offset": 3, "payload": "no { json"},
        common | {"offset": 4, "payload_base64": "//4="},
    ]


def test_a_line_that_a_crash_cut_off_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "dead.jsonl"
    for torn in (b'{"partition": 0', b"x" * 200_000):
        file = DeadLetterFile(path)
        file.write([_letter(1)])
        file.close()
        with path.open("ab") as raw:
            raw.write(torn)
    DeadLetterFile(path).close()
    assert len(_lines(path)) == 2


def test_a_file_past_its_bound_becomes_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "dead.jsonl"
    file = DeadLetterFile(path, bytes_max=1_000)
    for offset in range(100):
        file.write([_letter(offset)])
    file.close()
    kept = [line["offset"] for each in (path.with_name("dead.jsonl.1"), path) for line in _lines(each)]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["dead.jsonl", "dead.jsonl.1"]
    assert kept == list(range(100 - len(kept), 100))
    assert path.stat().st_size <= 1_000


def test_what_cannot_be_written_waits_and_is_not_settled_until_it_is(caplog: pytest.LogCaptureFixture) -> None:
    outlet = _Outlet()
    letters = DeadLetters("v", [outlet])
    letters.put([_letter(1)])
    outlet.fails = True
    letters.put([_letter(2)])
    letters.put([_letter(3)])
    assert not letters.settle()
    assert "the broker is away" in caplog.text
    outlet.fails = False
    assert letters.settle()
    assert [each.offset for each in outlet.taken] == [1, 2, 3]


def test_one_outlet_that_fails_keeps_nothing_from_the_other() -> None:
    bad, good = _Outlet(), _Outlet()
    bad.fails = True
    letters = DeadLetters("v", [bad, good])
    letters.put([_letter(1)])
    letters.put([_letter(2)])
    assert [each.offset for each in good.taken] == [1, 2]
    bad.fails = False
    letters.close()
    assert [each.offset for each in bad.taken] == [1, 2]


def test_too_many_that_wait_are_given_up_and_said_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("engine.features.dead_letters.DEAD_LETTERS_WAITING_MAX", 10)
    outlet = _Outlet()
    outlet.fails = True
    letters = DeadLetters("v", [outlet])
    with caplog.at_level(logging.ERROR):
        for offset in range(11):
            letters.put([_letter(offset)])
    assert "11 dead letters are given up" in caplog.text
    outlet.fails = False
    assert letters.settle()


def test_with_nowhere_to_go_letters_are_settled_at_once() -> None:
    letters = DeadLetters("v", [])
    letters.put([_letter(1)])
    assert letters.settle()
    letters.close()
