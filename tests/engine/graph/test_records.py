"""The writer of records against real local logs: away, full, closed, and with rows that do not fit."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from engine import InvalidArgument, NotFound, ResourceExhausted, Unavailable
from engine.graph import records as module
from engine.graph.exposure import Exposure
from engine.graph.records import RecordWriter
from engine.log.declaration import ColumnSpec
from engine.log.local import LocalLog
from engine.log.log import Appended
from engine.log.schema import arrow_schema
from tests.engine.graph.recording import COLUMNS, Outcomes, decision, kept, maker, open_log, tensor, writer_of
from tests.engine.graph.recording import response as answered
from tests.engine.graph.splits import until
from tests.fakes import Gate


def numbers(rows: list[dict[str, Any]]) -> list[int]:
    """Which requests they are of."""
    return [int(each["request"]) for each in rows]


def test_rows_follow_at_once_and_in_order(tmp_path: Path) -> None:
    log = open_log(tmp_path / "log", durability="os")
    writer = writer_of(log)
    writer.offer(decision(0))
    until(lambda: log.latest() == {0: 1})  # nothing else has to happen
    for number in range(1, 500):
        writer.offer(decision(number, rows=1 + number % 3))
    writer.close()
    rows = kept(log)
    assert numbers(rows) == [number for number in range(500) for _ in range(1 if not number else 1 + number % 3)]
    assert rows[0] == {"request": "0", "card": "card-0", "amount": 0.0, "score": 0.5, "at": rows[0]["at"]}
    counted = writer.statistics()
    assert (counted.appended, counted.lost, counted.rejected, counted.waiting) == (len(rows), 0, 0, 0)
    log.close()


def test_what_comes_during_an_append_goes_together_in_the_next(tmp_path: Path) -> None:
    log, gate, batches = open_log(tmp_path / "log"), Gate(), []

    def push(_: str, batch: pa.RecordBatch) -> None:
        batches.append(batch.num_rows)
        gate()
        log.append(batch)

    writer = writer_of(log, push)
    writer.offer(decision(0))
    gate.wait_entered()
    for number in range(1, 51):
        writer.offer(decision(number))
    gate.open()
    writer.close()
    assert batches == [1, 50]
    assert numbers(kept(log)) == list(range(51))
    log.close()


@pytest.mark.parametrize("how", ["durable", "whole append", "close"])
def test_rest_ends_with_a_durable_row_with_a_whole_append_and_with_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(module, "_GATHER_S", 60.0)  # it rests for longer than the test has patience
    monkeypatch.setattr(module, "_REST_S_MAX", 60.0)
    monkeypatch.setattr(module, "_APPEND_ROWS_MAX", 4)
    log, outcomes = open_log(tmp_path / "log"), Outcomes()
    writer = writer_of(log)
    for number in range(3):
        writer.offer(decision(number))
    until(lambda: writer._state is module._State.RESTING)
    assert log.latest() == {0: 0}
    if how == "durable":
        writer.append_durably(decision(3), outcomes)
        until(lambda: outcomes.told == [None])
    elif how == "whole append":
        writer.offer(decision(3))
    else:
        writer.close()
    until(lambda: log.latest() == {0: 3 if how == "close" else 4})
    writer.close()
    log.close()


def test_writer_rests_many_times_as_long_as_an_append_took_and_once_where_it_is_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_APPEND_ROWS_MAX", 4)
    log = open_log(tmp_path / "log")
    writer = writer_of(log)
    waits: list[float] = []
    monkeypatch.setattr(writer._changed, "wait_for", lambda _, s=None: waits.append(s))
    monkeypatch.setattr(writer, "_loop", lambda: None)
    for took_s, count in ((0.0, 1), (0.002, 1), (0.002, 9), (0.03, 9), (9.0, 9), (9.0, 1)):
        writer._took_s = took_s
        for number in range(count):
            writer.offer(decision(number))
        taken = writer._take()
        writer._counts.waiting = 0
        writer._waiting.clear()
        assert len(taken) == min(count, 4)
    assert waits == pytest.approx([0.01, 0.064, 0.01, 0.03, 0.25, 0.25])
    writer.close()
    log.close()


def test_durable_rows_are_told_when_the_log_has_them(tmp_path: Path) -> None:
    log, outcomes = open_log(tmp_path / "log"), Outcomes()
    writer = writer_of(log)
    for number in range(20):
        writer.append_durably(decision(number, rows=2), outcomes)
    until(lambda: len(outcomes.told) == 20)
    assert outcomes.told == [None] * 20
    assert log.latest() == {0: 40}
    writer.close()
    log.close()


def test_durable_row_is_not_told_before(tmp_path: Path) -> None:
    log, gate, outcomes = open_log(tmp_path / "log"), Gate(), Outcomes()

    def push(_: str, batch: pa.RecordBatch) -> None:
        gate()
        log.append(batch)

    writer = writer_of(log, push)
    writer.append_durably(decision(0), outcomes)
    gate.wait_entered()
    assert not outcomes.told
    gate.open()
    until(lambda: outcomes.told == [None])
    writer.close()
    log.close()


class Away:
    """A log that is away until it is not."""

    def __init__(self, log: LocalLog) -> None:
        self.log, self.back, self.tries = log, threading.Event(), 0

    def __call__(self, _: str, batch: pa.RecordBatch) -> Appended:
        """A push."""
        self.tries += 1
        if not self.back.is_set():
            raise Unavailable("log 'decisions': cannot be reached")
        return self.log.append(batch)


def test_log_that_is_away_is_tried_again_and_nothing_is_lost(tmp_path: Path) -> None:
    log = open_log(tmp_path / "log")
    away = Away(log)
    writer = writer_of(log, away)
    for number in range(10):
        writer.offer(decision(number))
    until(lambda: away.tries >= 2)
    assert writer.statistics().waiting == 10
    away.back.set()
    until(lambda: writer.statistics().appended == 10)
    assert numbers(kept(log)) == list(range(10))
    writer.close()
    log.close()


def test_durable_rows_fail_at_once_while_the_log_is_away_and_others_wait(tmp_path: Path) -> None:
    log, outcomes = open_log(tmp_path / "log"), Outcomes()
    away = Away(log)
    writer = writer_of(log, away)
    writer.offer(decision(0))
    until(lambda: away.tries >= 1)
    for number in range(1, 4):  # each ends the pause
        writer.append_durably(decision(number), outcomes)
        until(lambda number=number: len(outcomes.told) == number)  # type: ignore[misc]
    assert all(isinstance(each, Unavailable) for each in outcomes.told)
    away.back.set()
    writer.append_durably(decision(4), outcomes)
    until(lambda: outcomes.told[3:] == [None])
    until(lambda: sorted(numbers(kept(log))) == [0, 4])
    counted = writer.statistics()
    assert (counted.failed, counted.lost, counted.waiting) == (3, 0, 0)
    writer.close()
    log.close()


def test_rows_past_the_bound_are_counted_as_lost_and_durable_ones_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "RECORDS_WAITING_MAX", 10)
    caplog.set_level(logging.ERROR, "vireo.graph")
    log, outcomes = open_log(tmp_path / "log"), Outcomes()
    away = Away(log)
    writer = writer_of(log, away)
    for number in range(25):
        writer.offer(decision(number))
    writer.append_durably(decision(99), outcomes)
    assert [type(each) for each in outcomes.told] == [ResourceExhausted]
    assert writer.statistics().lost == 15
    assert writer.statistics().waiting == 10
    away.back.set()
    until(lambda: writer.statistics().appended == 10)
    assert numbers(kept(log)) == list(range(10))
    assert len(caplog.records) == 1, "told once a minute"
    writer.close()
    log.close()


def test_row_that_does_not_fit_is_rejected_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log, gate, outcomes = open_log(tmp_path / "log"), Gate(), Outcomes()

    def push(_: str, batch: pa.RecordBatch) -> None:
        gate()
        log.append(batch)

    writer = writer_of(log, push)
    writer.offer(decision(0))
    gate.wait_entered()
    bad = decision(5, rows=3)
    bad.tensors[1] = tensor("BYTES", [b"fine", b"\xff\xfe", b"fine too"])
    refused = decision(6)
    refused.tensors[2] = tensor("INT64", [2**60])
    for number in range(1, 9):
        writer.offer(bad if number == 5 else decision(number))
    writer.append_durably(refused, outcomes)
    writer.append_durably(decision(9), outcomes)
    gate.open()
    writer.close()
    cards = [each["card"] for each in kept(log)]
    assert sorted(cards) == sorted(["card-0", *(f"card-{n}0" for n in (1, 2, 3, 4, 6, 7, 8, 9)), "fine", "fine too"])
    assert len(outcomes.told) == 2
    assert sorted(str(type(each).__name__) for each in outcomes.told) == ["InvalidArgument", "NoneType"]
    counted = writer.statistics()
    assert (counted.rejected, counted.appended, counted.waiting) == (2, 11, 0)
    assert "do not fit" in caplog.text
    log.close()


def test_null_in_a_column_that_is_not_nullable_is_rejected(tmp_path: Path) -> None:
    schema = arrow_schema({**COLUMNS, "card": ColumnSpec("string", nullable=False)})
    log = open_log(tmp_path / "log", schema)
    writer = writer_of(log)
    nameless = decision(1)
    nameless.tensors[1] = None
    for each in (decision(0), nameless, decision(2)):
        writer.offer(each)
    writer.close()
    assert numbers(kept(log)) == [0, 2]
    assert writer.statistics().rejected == 1
    log.close()


def test_kinds_that_mix_in_one_log_all_arrive(tmp_path: Path) -> None:
    log = open_log(tmp_path / "log")
    writer = writer_of(log)
    other = maker({"request": "$id", "amount": 1})
    for number in range(30):
        writer.offer(decision(number, made_by=other) if number % 3 else decision(number))
    writer.close()
    rows = kept(log)
    assert numbers(rows) == list(range(30))
    assert [row["card"] is None for row in rows] == [bool(number % 3) for number in range(30)]
    log.close()


def test_closed_writer_has_written_what_waited_and_takes_no_more(tmp_path: Path) -> None:
    log, outcomes = open_log(tmp_path / "log"), Outcomes()
    writer = writer_of(log)
    for number in range(300):
        writer.offer(decision(number))
    writer.close()
    assert log.latest() == {0: 300}
    writer.offer(decision(300))
    writer.append_durably(decision(301), outcomes)
    assert [type(each) for each in outcomes.told] == [Unavailable]
    assert writer.statistics().lost == 1
    log.close()


def test_writer_whose_log_stays_away_ends_and_says_what_is_lost(tmp_path: Path) -> None:
    log = open_log(tmp_path / "log")
    writer = writer_of(log, Away(log))
    for number in range(7):
        writer.offer(decision(number))
    writer.close()
    assert writer.statistics().lost == 7
    RecordWriter("unused", push=Away(log), schema=lambda _: log.schema).close()
    log.close()


def test_log_that_is_declared_no_more_loses_its_rows_and_push_that_breaks_too(tmp_path: Path) -> None:
    log, outcomes = open_log(tmp_path / "log"), Outcomes()
    failures: list[Exception] = [NotFound("no log 'decisions'"), ZeroDivisionError("ours")]

    def push(_: str, batch: pa.RecordBatch) -> None:
        if failures:
            raise failures.pop()
        log.append(batch)

    writer = writer_of(log, push)
    for number in range(3):
        writer.append_durably(decision(number), outcomes)
        until(lambda number=number: len(outcomes.told) == number + 1)  # type: ignore[misc]
    assert [type(each).__name__ for each in outcomes.told] == ["Internal", "NotFound", "NoneType"]
    writer.close()
    assert numbers(kept(log)) == [2]
    log.close()


def test_caller_that_fails_on_the_news_harms_nobody(tmp_path: Path) -> None:
    log, outcomes = open_log(tmp_path / "log"), Outcomes()
    writer = writer_of(log)

    def fail(_: Exception | None) -> None:
        raise RuntimeError("the caller's own")

    writer.append_durably(decision(0), fail)
    writer.append_durably(decision(1), outcomes)
    writer.close()
    assert outcomes.told == [None]
    log.close()


def test_exposures_are_one_row_a_key(tmp_path: Path) -> None:
    schema = arrow_schema(
        {"experiment": "string", "variant": "string", "key": "string", "request_id": "string", "time": "timestamp"}
    )
    log = open_log(tmp_path / "log", schema)
    writer = writer_of(log)
    writer.offer(Exposure("s", "a", [b"u1", b"u\xff"], "7", 1_000_000))
    writer.offer(Exposure("s", "b", None, "", 2_000_000))
    writer.close()
    rows = kept(log)
    assert [(row["experiment"], row["variant"], row["key"], row["request_id"]) for row in rows] == [
        ("s", "a", "u1", "7"), ("s", "a", "u\\xff", "7"), ("s", "b", None, ""),
    ]  # fmt: skip
    assert [row["time"].timestamp() for row in rows] == [1.0, 1.0, 2.0]
    log.close()


def test_exposures_fill_the_columns_that_the_log_has(tmp_path: Path) -> None:
    schema = arrow_schema({"variant": "string", "note": "string", "experiment": "string"})
    log = open_log(tmp_path / "log", schema)
    writer = writer_of(log)
    writer.offer(Exposure("s", "a", [b"u1"], "7", 1))
    writer.close()
    assert kept(log) == [{"variant": "a", "note": None, "experiment": "s"}]
    log.close()


def test_many_threads_lose_nothing(tmp_path: Path) -> None:
    log, outcomes = open_log(tmp_path / "log", durability="os"), Outcomes()
    writer = writer_of(log)

    def work(thread: int) -> None:
        for number in range(200):
            rows = decision(thread * 1_000 + number)
            if number % 5:
                writer.offer(rows)
            else:
                writer.append_durably(rows, outcomes)

    threads = [threading.Thread(target=work, args=(each,)) for each in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    writer.close()
    found = numbers(kept(log))
    assert sorted(found) == [thread * 1_000 + number for thread in range(4) for number in range(200)]
    assert outcomes.told == [None] * 160
    log.close()


def test_error_names_the_column(tmp_path: Path) -> None:
    rows = decision(1)
    rows.tensors[1] = tensor("BYTES", [b"\xff"])
    with pytest.raises(InvalidArgument, match="column 'card': a value of BYTES does not fit string"):
        rows.maker.batch([rows], open_log(tmp_path / "log").schema)
    assert answered().id == "7"


@pytest.mark.parametrize("count", [3, 40])
def test_words_are_those_of_their_requests_however_many_rows_there_are(tmp_path: Path, count: int) -> None:
    log = open_log(tmp_path / "log")
    writer = writer_of(log, lambda _, batch: log.append(batch))
    with writer._changed:  # all of them go together
        for number in range(count):
            writer._waiting.append(module._Entry(rows := decision(number, rows=20), rows.count, None))
            writer._counts.waiting += rows.count
    writer.offer(decision(count, rows=20))
    writer.close()
    assert numbers(kept(log)) == [number for number in range(count + 1) for _ in range(20)]
    assert len({each["at"] for each in kept(log)}) == count + 1
    log.close()
