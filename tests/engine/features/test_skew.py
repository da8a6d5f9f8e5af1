"""The probe finds what was served wrongly, and nothing else."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from engine.features.answer import FeatureRows
from engine.features.history import History
from engine.features.skew import STATUS, ServedRow, ServedSample, compare, served_row
from engine.log.declaration import LocalLogSpec
from engine.log.local import LocalLog
from engine.log.past import ARRIVAL, PARTITION, read_log
from tests.engine.features import oracle
from tests.engine.features.oracle import Oracle
from tests.engine.features.running import START_US, row, running
from tests.engine.features.streams import SCHEMA, Arrived, random_stream, table_of, whole_view

S = 1_000_000
SETTLE = S // 5
STATUS_CODES = {oracle.PRESENT: 0, oracle.MISSING: 1, oracle.STALE: 2}


def _served(log: list[Arrived], seed: int) -> list[ServedRow]:
    """What an online view answers while the log grows, at instants about which nothing is appended for a while."""
    view, rng, rows = whole_view(), random.Random(seed), []
    model = Oracle(view, SCHEMA)
    for number, each in enumerate(log):
        model.push(each.partition, each.row, each.appended_us)
        now = each.appended_us + 2 * SETTLE
        if number + 1 < len(log) and log[number + 1].appended_us <= now + 2 * SETTLE:
            continue
        for entity in ("card 0", "card 3", "stranger"):
            request = {"limit": rng.choice([None, 0.5]), "place": rng.choice(["home", None])}
            answer = model.lookup(entity, now, request)
            newest = answer.newest or 0
            rows.append(
                ServedRow("cards", entity, now, now, STATUS_CODES[answer.status], newest, answer.features, request)
            )
    return rows


@pytest.fixture(scope="module")
def log() -> list[Arrived]:
    return random_stream(5, rows=400)


@pytest.fixture(scope="module")
def served(log: list[Arrived]) -> list[ServedRow]:
    return _served(log, 1)


def test_what_the_evident_model_serves_has_no_skew(log: list[Arrived], served: list[ServedRow]) -> None:
    history = History(whole_view(), table_of(log), arrival="appended")
    report = compare(history, served, settle_us=SETTLE)
    assert report.rows > 40
    assert report.unsettled == 0
    assert {name: skew.examples for name, skew in report.features.items() if skew.mismatched} == {}
    assert all(skew.compared == report.rows for skew in report.features.values())


def test_a_value_served_wrongly_is_counted_and_shown(log: list[Arrived], served: list[ServedRow]) -> None:
    history = History(whole_view(), table_of(log), arrival="appended")
    rows = [each for each in served if each.status == 0]
    wrong = replace(rows[3], features={**rows[3].features, "count_0": 99.0, "sum_1": float("nan")})
    stale = replace(rows[4], status=2)
    found = compare(history, [*rows[:3], wrong, stale, *rows[5:]], settle_us=SETTLE).features
    assert {name for name, skew in found.items() if skew.mismatched} == {"count_0", "sum_1", STATUS}
    (example,) = found["count_0"].examples
    assert (example.entity, example.as_of_us, example.served) == (wrong.entity, wrong.as_of_us, 99.0)
    assert example.expected == rows[3].features["count_0"]
    assert found["sum_1"].examples[0].served != found["sum_1"].examples[0].served, "NaN, which is null"
    assert found["count_0"].share == pytest.approx(1 / len(rows))


def test_a_tolerance_forgives_and_examples_are_bounded(log: list[Arrived], served: list[ServedRow]) -> None:
    history = History(whole_view(), table_of(log), arrival="appended")
    rows = [each for each in served if each.status == 0]
    off = [replace(each, features={"sum_1": float(each.features["sum_1"] or 0) * 1.001 + 0.001}) for each in rows]
    assert compare(history, off, tolerance=0.01, settle_us=SETTLE).features["sum_1"].mismatched == 0
    strict = compare(history, off, examples_max=2, settle_us=SETTLE).features["sum_1"]
    assert strict.mismatched == len(rows)
    assert len(strict.examples) == 2
    assert compare(history, off).features["count_0"].compared == 0, "it was not served"


def test_a_row_whose_events_had_just_arrived_is_left_out() -> None:
    rows = [
        {"card": "card 0", "at": at * S, "id": str(at), "amount": 1.0, "shop": None, "code": 1} for at in (100, 109)
    ]
    table = table_of([Arrived(0, row, (int(str(row["at"])) + S)) for row in rows])
    history = History(whole_view(), table, arrival="appended")
    row = ServedRow("cards", "card 0", 112 * S, 110 * S + S // 2, 0, 0, {"count_0": -1.0})
    assert compare(history, [row]).unsettled == 1
    report = compare(history, [replace(row, read_us=112 * S), replace(row, view="another")])
    assert (report.rows, report.unsettled) == (1, 0)
    assert report.features["count_0"].examples[0].expected == 1
    assert compare(history, []).rows == 0


def test_the_log_itself_is_a_past_that_is_compared_with(
    log: list[Arrived], served: list[ServedRow], tmp_path: Path
) -> None:
    now = [0]
    kept = LocalLog(LocalLogSpec(str(tmp_path), "os"), SCHEMA, tmp_path / "log", clock_us=lambda: now[0])
    assert read_log(kept).num_rows == 0
    batches = table_of(log).select(SCHEMA.names).combine_chunks().to_batches()
    for number, each in enumerate(log):
        now[0] = each.appended_us
        kept.append(batches[0].slice(number, 1))
    past = read_log(kept)
    kept.close()
    names = [name for name in SCHEMA.names if name != "amount"]  # which has NaN
    assert past.select(names).equals(table_of(log).select(names))
    assert past.column(ARRIVAL).to_pylist() == table_of(log).column("appended").to_pylist()
    history = History(whole_view(), past, arrival=ARRIVAL, partition=PARTITION)
    report = compare(history, served, settle_us=SETTLE)
    assert report.rows > 40
    assert not any(skew.mismatched for skew in report.features.values())


def test_what_an_engine_serves_while_events_come_has_no_skew(tmp_path: Path) -> None:
    sample, rng = ServedSample(200, 1), random.Random(1)
    keys = pa.array(["a", "b", "c", "stranger"])
    with running(tmp_path) as engine:
        view = engine.view()
        for number in range(0, 200, 4):
            cards = [rng.choice("abc") for _ in range(4)]
            engine.push(*(row(n, card, at_s=n - rng.randrange(90)) for n, card in enumerate(cards, number)))
            as_of, amount = START_US + rng.randrange(number + 1, 4000) * S, float(number)
            rows = view.lookup(keys, as_of_us=as_of, request={"now_amount": pa.array([amount] * 4)})
            read = time.time_ns() // 1000
            make = partial(_kept, rows, keys, as_of, read, amount)
            sample.offer(4, make)
        past = read_log(engine.engine.features._logs["tx"].current())
    history = History(view.view, past, arrival=ARRIVAL, partition=PARTITION)
    report = compare(history, sample.take()[0], settle_us=0)
    assert report.rows == 200
    assert {name: skew.examples for name, skew in report.features.items() if skew.mismatched} == {}
    assert history.verdicts["late"] > 5


def _kept(rows: FeatureRows, keys: pa.Array, as_of: int, read: int, amount: float, at: int) -> ServedRow:
    entity, request = keys[at].as_py(), {"now_amount": amount}
    return served_row("spending", rows, at, entity=entity, as_of_us=as_of, read_us=read, request=request)


def _row(number: int) -> ServedRow:
    return ServedRow("cards", number, 0, 0, 0, 0, {})


def _after(start: int) -> Callable[[int], ServedRow]:
    return lambda i: _row(start + i)


def test_a_sample_is_bounded_uniform_and_the_same_for_the_same_seed() -> None:
    seen: Counter[object] = Counter()
    for seed in range(2000):
        sample = ServedSample(5, seed)
        for start in range(0, 50, 10):
            sample.offer(10, _after(start))
        rows, offered = sample.take()
        assert (len(rows), offered) == (5, 50)
        assert len({each.entity for each in rows}) == 5
        seen.update(each.entity for each in rows)
        if seed == 7:
            again = ServedSample(5, seed)
            again.offer(50, _row)
            assert again.take()[0] == rows, "however they were offered"
    counts = np.array([seen[i] for i in range(50)])
    # Each of 50 is expected 200 times, with a deviation of 13.4: chi squared with 49 degrees is below 100 but for 1 in 40,000.
    assert ((counts - 200) ** 2 / 180).sum() < 100


def test_passing_over_rows_without_a_lock_chooses_the_same() -> None:
    rng, plain, quick = random.Random(8), ServedSample(7, 3), ServedSample(7, 3)
    start, passed = 0, 0
    for count in (rng.randrange(4) for _ in range(3000)):
        plain.offer(count, _after(start))
        if quick.skips(count):
            passed += count
        else:
            quick.offer(count, _after(start))
        start += count
    assert quick.take() == plain.take()
    assert passed > 0.9 * start


def test_rows_that_are_not_chosen_are_never_made() -> None:
    made = []
    sample = ServedSample(3, 1)
    for start in range(0, 100_000, 1000):
        sample.offer(1000, lambda i, start=start: made.append(start + i) or _row(start + i))  # type: ignore[misc,func-returns-value]
    assert len(made) < 100
    sample.take()
    sample.offer(2, _row)
    assert [each.entity for each in sample.take()[0]] == [0, 1]
