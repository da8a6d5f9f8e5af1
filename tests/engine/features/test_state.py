"""The online state answers, at every moment of a stream, what the evident model answers."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from engine.features.state import FeatureState
from engine.features.view import FeatureKind, View
from engine.features.window import SECOND_US
from engine.log.log import Chunk, DeadLetter
from kernels import record
from tests.engine.features import oracle
from tests.engine.features.oracle import Oracle, near
from tests.engine.features.streams import SCHEMA, Arrived, random_stream, table_of, whole_view

S = SECOND_US
STATUS = (oracle.PRESENT, oracle.MISSING, oracle.STALE)
ENTITIES = ["card 0", "card 1", "card 2", "card 3", "card 4", "card 5", "nobody"]


def chunks_of(log: list[Arrived], rng: random.Random, rows_max: int) -> list[Chunk]:
    """The log cut at random, each chunk of one partition."""
    found, at = [], 0
    while at < len(log):
        end = at + 1
        while end < len(log) and log[end].partition == log[at].partition and end - at < rng.randrange(1, rows_max + 1):
            end += 1
        table = table_of(log[at:end])
        batch = table.select(SCHEMA.names).combine_chunks().to_batches()[0]
        appended = table["appended"].cast(pa.int64()).to_numpy()
        found.append(Chunk(log[at].partition, at, end, batch, appended))
        at = end
    return found


def assert_same(state: FeatureState, model: Oracle, as_of_us: int) -> None:
    """Every entity of both answers alike."""
    view = state.view
    rows = state.lookup(pa.array(ENTITIES), as_of_us)
    for number, entity in enumerate(ENTITIES):
        wanted = model.lookup(entity, as_of_us, {"limit": None, "place": None})
        assert STATUS[rows.status[number]] == wanted.status, (entity, as_of_us)
        if wanted.status != oracle.MISSING:
            assert rows.event_time_us[number] == wanted.newest
        for position, feature in enumerate(view.features):
            if feature.kind is FeatureKind.EXPRESSION:
                continue
            found = rows.texts[position][number] if position in rows.texts else _value(rows.values[number, position])
            assert near(found, wanted.features[feature.name]), (
                f"{entity} at {as_of_us}, {feature.name}: {found}, not {wanted.features[feature.name]}; "
                f"{view.aggregates[feature.of[0]]}"
            )


def _value(number: float) -> float | None:
    return None if np.isnan(number) else float(number)


def _follow(view: View, log: list[Arrived], seed: int, rows_max: int = 20) -> tuple[FeatureState, Oracle]:
    """Both fed alike, and compared now and then as of now, of the past, of the future."""
    rng = random.Random(seed)
    state, model = FeatureState(view), Oracle(view, SCHEMA)
    dead: list[DeadLetter] = []
    for chunk in chunks_of(log, rng, rows_max):
        dead += state.ingest(chunk)
        for each in log[chunk.first : chunk.next]:
            model.push(each.partition, each.row, each.appended_us)
        if rng.random() < 0.15:
            now = log[chunk.next - 1].appended_us
            assert_same(state, model, now + rng.choice([0, 1, -30 * S, rng.randrange(100 * S), rng.randrange(900 * S)]))
    assert_same(state, model, log[-1].appended_us)
    verdicts = model.verdicts
    counts = state.counts
    assert counts.applied == verdicts.get(oracle.APPLIED, 0)
    assert counts.duplicates == verdicts.get(oracle.DUPLICATE, 0)
    assert counts.filtered == verdicts.get(oracle.FILTERED, 0)
    assert counts.late == verdicts.get(oracle.LATE, 0)
    assert counts.dead == len(dead) == sum(verdicts.get(each, 0) for each in oracle.DEAD)
    return state, model


@pytest.mark.parametrize("seed", range(12))
def test_state_equals_the_evident_model_at_every_moment(seed: int) -> None:
    view = whole_view(entities_max=1000)
    _follow(view, random_stream(seed, partitions=1), seed)


@pytest.mark.parametrize("seed", range(100, 130))
def test_an_entity_that_begins_cold_and_becomes_hot_equals_the_evident_model(seed: int) -> None:
    rng = random.Random(seed)
    view = _some_of(whole_view(entities_max=1000), rng, 7)
    state, _ = _follow(view, random_stream(seed, 300, entities=6), seed)
    used_cold, used_hot = (int(state._control[word // 8]) for word in (record.M_COLD_USED, record.M_HOT_USED))
    assert used_cold, f"seed {seed}: no record was ever cold"
    assert used_hot, f"seed {seed}: no record ever became hot"


def _some_of(whole: View, rng: random.Random, count: int) -> View:
    """A view of so few features, over two columns, that a cold record has room for some events."""
    columns = rng.sample(range(len(whole.columns)), 2)
    fitting = [
        each for each in whole.features
        if each.kind is FeatureKind.AGGREGATE and whole.aggregates[each.of[0]].column in (None, *columns)
    ]  # fmt: skip
    features = rng.sample(fitting, count)
    while not any(whole.aggregates[each.of[0]].window for each in features):
        features = rng.sample(fitting, count)
    used = sorted({each.of[0] for each in features})
    aggregates = tuple(
        replace(old, column=None if old.column is None else columns.index(old.column))
        for old in (whole.aggregates[each] for each in used)
    )
    return replace(
        whole, aggregates=aggregates, columns=tuple(whole.columns[each] for each in columns),
        features=tuple(replace(each, of=(used.index(each.of[0]),)) for each in features),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_a_dumped_state_is_loaded_as_it_was_and_goes_on_alike(seed: int) -> None:
    view, log = whole_view(entities_max=1000), random_stream(seed)
    chunks = chunks_of(log, random.Random(seed), 30)
    whole, half = FeatureState(view), FeatureState(view)
    for number, chunk in enumerate(chunks):
        whole.ingest(chunk)
        half.ingest(chunk)
        if number % 3 == 0:
            copied = [
                (name, pa.RecordBatch.from_pydict(batch.to_pydict(), batch.schema)) for name, batch in half.dump()
            ]
            half = FeatureState.load(view, copied)
    as_of = log[-1].appended_us
    first, second = (each.lookup(pa.array(ENTITIES), as_of) for each in (whole, half))
    np.testing.assert_array_equal(first.values, second.values)
    assert first.texts == second.texts
    assert (whole.offsets, whole.watermarks, whole.counts) == (half.offsets, half.watermarks, half.counts)
