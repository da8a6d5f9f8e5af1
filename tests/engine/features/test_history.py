"""History answers for the past what the evident model answers, and never looks ahead."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.features.history import History, Past
from engine.features.view import View
from engine.features.window import SECOND_US
from tests.engine.features import oracle
from tests.engine.features.oracle import DEAD, Answer, Oracle, near
from tests.engine.features.streams import SCHEMA, Arrived, random_stream, table_of, whole_view

S = SECOND_US
SEEDS = range(12)
STATUS = (oracle.PRESENT, oracle.MISSING, oracle.STALE)


def _queries(log: list[Arrived], seed: int, count: int = 60) -> list[tuple[str, int, dict[str, Any]]]:
    """(entity, instant, request inputs): at and about events, at edges of tiles, and anywhere."""
    rng = random.Random(seed)
    asked = []
    for _ in range(count):
        near = rng.choice(log)
        at = near.row["at"] if near.row["at"] is not None and rng.random() < 0.5 else near.appended_us
        at += rng.choice([0, 0, 1, -1, rng.randrange(30 * S), rng.randrange(250 * S), rng.randrange(700 * S)])
        at -= at % S if rng.random() < 0.2 else 0
        entity = near.row["card"] or "nobody"
        asked.append((entity, at, {"limit": rng.choice([None, 0.5]), "place": rng.choice(["home", "away", None])}))
    return asked


def _asked(history: History, queries: list[tuple[str, int, dict[str, Any]]]) -> Past:
    request = {name: pa.array([each[2][name] for each in queries]) for name in ("limit", "place")}
    keys = pa.array([each[0] for each in queries], pa.string())
    return history.at(keys, np.array([each[1] for each in queries]), request=request)


def _assert_equal(past: Past, answers: list[Answer], seed: int) -> None:
    assert [STATUS[each] for each in past.status] == [each.status for each in answers], f"seed {seed}"
    assert past.event_time_us.tolist() == [each.newest or 0 for each in answers], f"seed {seed}"
    for name, values in past.features.items():
        for row, (found, answer) in enumerate(zip(values.to_pylist(), answers, strict=True)):
            assert near(found, answer.features[name]), (
                f"seed {seed}, row {row}, {name}: {found} {answer.features[name]}"
            )


def _without_arrival(view: View, log: list[Arrived]) -> list[Arrived]:
    """The rows that count, in order of time: what the model is to be fed where arrivals are not known."""
    once = Oracle(replace(view, lateness_us=1 << 60, future_us=1 << 60), SCHEMA)
    counted = [each for each in log if once.push(0, each.row, 0) not in (*DEAD, "duplicate", "filtered")]
    return sorted(counted, key=lambda each: int(each.row["at"]))


@pytest.mark.parametrize("seed", SEEDS)
def test_history_by_arrival_is_the_log_judged_up_to_each_query(seed: int) -> None:
    view, log = whole_view(), random_stream(seed, partitions=1 + seed % 2)
    history = History(view, table_of(log), arrival="appended", partition="partition")
    queries = _queries(log, seed)
    model, answers, pushed = Oracle(view, SCHEMA), {}, 0
    for number, (entity, at, request) in sorted(enumerate(queries), key=lambda each: each[1][1]):
        while pushed < len(log) and log[pushed].appended_us <= at:
            model.push(log[pushed].partition, log[pushed].row, log[pushed].appended_us)
            pushed += 1
        answers[number] = model.lookup_before(entity, at, request)
    _assert_equal(_asked(history, queries), [answers[number] for number in range(len(queries))], seed)
    for each in log[pushed:]:
        model.push(each.partition, each.row, each.appended_us)
    assert {name: count for name, count in history.verdicts.items() if count} == model.verdicts
    assert len(model.verdicts) > 5, "the stream was to have something of everything"


@pytest.mark.parametrize("seed", SEEDS)
def test_history_without_arrival_takes_events_as_they_happened(seed: int) -> None:
    view, log = whole_view(), random_stream(seed)
    queries = _queries(log, seed)
    model = Oracle(replace(view, event_id=None, where=None, lateness_us=1 << 60, future_us=1 << 60), SCHEMA)
    for each in sorted((each for each in log if each.row["at"] is not None), key=lambda each: int(each.row["at"])):
        model.see_texts(each.row)
    rows, answers = _without_arrival(view, log), {}
    for number, (entity, at, request) in sorted(enumerate(queries), key=lambda each: each[1][1]):
        while rows and rows[0].row["at"] < at:
            model.push(0, rows[0].row, 0)
            rows.pop(0)
        answers[number] = model.lookup_before(entity, at, request)
    history = History(view, table_of(log))
    _assert_equal(_asked(history, queries), [answers[number] for number in range(len(queries))], seed)
