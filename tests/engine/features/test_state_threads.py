"""Readers beside the writer: never a half-applied event, never an entity that is not found while it moves; and bounded memory."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from engine.features.compilation import compile_view
from engine.features.declaration import FeatureSpec, FeatureViewSpec
from engine.features.state import FeatureState
from engine.features.state_reads import StateRows
from engine.features.view import View
from engine.features.window import SECOND_US
from engine.log.log import Chunk
from kernels import record
from kernels.ingest import NO_WATERMARK

S = SECOND_US
START_US = 1_700_000_000 * S
SCHEMA = pa.schema({"card": pa.int64(), "one": pa.float64(), "two": pa.float64(), "at": pa.timestamp("us", "UTC")})


def _view(**changes: Any) -> View:  # noqa: ANN401
    features = {
        f"{aggregation}_{column}_{window}": FeatureSpec(aggregation=aggregation, column=column, window=window)
        for aggregation in ("count", "sum", "min", "max")
        for column in ("one", "two")
        for window in ("1m", "1h")
    }
    features |= {f"last_{column}": FeatureSpec(aggregation="last", column=column) for column in ("one", "two")}
    features |= {
        f"decayed_{column}": FeatureSpec(aggregation="decayed_sum", column=column, half_life="1m")
        for column in ("one", "two")
    }
    spec = FeatureViewSpec(source="log", entity="card", event_time="at", features=features, **changes)
    return compile_view("cards", spec, SCHEMA, lambda key: key)


def _chunk(first: int, cards: np.ndarray, values: np.ndarray, at_us: np.ndarray) -> Chunk:
    arrays = [pa.array(cards), pa.array(values), pa.array(2 * values), pa.array(at_us, pa.timestamp("us", "UTC"))]
    batch = pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)
    return Chunk(0, first, first + len(cards), batch, at_us)


class _Reader(threading.Thread):
    """Looks entities up until told to end; counts what cannot be."""

    def __init__(self, state: FeatureState, keys: list[int]) -> None:
        super().__init__()
        self._state, self._keys = state, pa.array(keys)
        names = [each.name for each in state.view.features]
        self._ones = [number for number, name in enumerate(names) if "_one" in name and "count" not in name]
        self._twos = [names.index(names[number].replace("_one", "_two")) for number in self._ones]
        self._counts = [names.index(f"count_{column}_1h") for column in ("one", "two")]
        self.reads = self.torn = self.missing = 0
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.is_set():
            rows = self._rows()
            self.reads += len(rows.status)
            self.missing += int((rows.status != 0).sum())
            found = rows.values[rows.status == 0]
            apart = found[:, self._twos] != 2 * found[:, self._ones]
            counts = found[:, self._counts]
            self.torn += int(apart.any(axis=1).sum() + (counts[:, 0] != counts[:, 1]).sum())

    def _rows(self) -> StateRows:
        return self._state.lookup(self._keys, 0)


class _OneByOne(_Reader):
    """Looks one entity up at a time, by its number."""

    def _rows(self) -> StateRows:
        return self._state.lookup_one(self._keys[self.reads % len(self._keys)].as_py(), 0)


def test_no_read_beside_a_writer_is_torn_or_misses_an_entity() -> None:
    state, rng = FeatureState(_view(entities_max=100_000)), np.random.default_rng(1)
    hot = np.zeros(2_000, np.int64)
    state.ingest(_chunk(0, np.arange(10), np.ones(10), np.full(10, START_US)))
    readers = [_Reader(state, [0]), _Reader(state, list(range(10))), _OneByOne(state, list(range(10)))]
    for reader in readers:
        reader.start()
    first = 10
    for step in range(
        120
    ):  # one entity all the time, nine that become hot on the way, and new ones that make the index grow
        others = rng.integers(0, 300 * (step + 1), 2_000)
        cards = np.concatenate([hot, others]) if step % 2 else np.repeat(np.arange(10), 40)
        at_us = START_US + step * S + np.sort(rng.integers(0, S, len(cards)))
        state.ingest(_chunk(first, cards, rng.integers(0, 1000, len(cards)).astype(np.float64), at_us))
        first += len(cards)
    for reader in readers:
        reader.ended.set()
        reader.join()
    assert all(reader.reads > 1_000 for reader in readers), "the readers did not run beside the writer"
    assert [(reader.torn, reader.missing) for reader in readers] == [(0, 0)] * 3
    assert state._control[record.M_HOT_USED // 8] >= 10


def test_one_entity_by_its_number_is_answered_as_in_an_array() -> None:
    state, rng = (
        FeatureState(_view(entities_max=1_000, max_age="30m", ttl="2h", lateness="1m")),
        np.random.default_rng(3),
    )
    numbers = np.concatenate([rng.integers(-(1 << 63), 1 << 62, 300), [0, -1, (1 << 63) - 1, -(1 << 63)]])
    cards = np.repeat(numbers, rng.integers(1, 40, len(numbers)))  # some are cold, some hot
    at_us = START_US + np.sort(rng.integers(0, 3 * 3600 * S, len(cards)))
    rng.shuffle(cards)
    state.ingest(_chunk(0, cards, rng.integers(0, 9, len(cards)).astype(np.float64), at_us))
    names = [each.name for each in state.view.features]
    seen: set[int] = set()
    for card in [*numbers.tolist(), 12345]:
        for as_of_us, chosen in (
            (0, None),
            (int(at_us[-1]) + 1, None),
            (int(at_us[-1]) + 3600 * S, (0, len(names) - 1)),
        ):
            one, same = state.lookup_one(card, as_of_us, chosen), state.lookup(pa.array([card]), as_of_us, chosen)
            np.testing.assert_array_equal(one.values, same.values)
            assert (one.status, one.event_time_us, one.least_us) == (same.status, same.event_time_us, same.least_us)
            seen.add(int(one.status[0]))
    assert seen == {0, 1, 2}


def test_no_read_is_of_an_instant_before_the_slowest_partition_wherever_the_state_comes_from() -> None:
    state = FeatureState(_view(entities_max=1_000, lateness="5s"))
    assert state.lookup_one(1, 0).least_us == NO_WATERMARK
    for partition, second in ((0, 100), (1, 40), (1, 70), (0, 90)):
        chunk = _chunk(0, np.ones(1, np.int64), np.ones(1), np.full(1, START_US + second * S))
        state.ingest(replace(chunk, partition=partition))
        assert state.lookup_one(1, 0).least_us == min(state.watermarks.values()) - 5 * S
    assert state.watermarks == {0: START_US + 100 * S, 1: START_US + 70 * S}
    loaded = FeatureState.load(state.view, state.dump())
    assert loaded.lookup_one(1, 0).least_us == state.lookup_one(1, 0).least_us == START_US + 65 * S


def test_too_many_entities_let_the_longest_unseen_go() -> None:
    state = FeatureState(_view(entities_max=1_000))
    for step in range(30):
        cards = np.concatenate([[7], np.arange(step * 100, (step + 1) * 100)])
        state.ingest(_chunk(step * 101, cards, np.ones(101), np.full(101, START_US + step * S)))
    assert state.entities <= 1_000
    assert state.counts.forgotten >= 2_000
    status = state.lookup(pa.array([7, 0, 2_999]), START_US + 30 * S).status
    assert status.tolist() == [0, 1, 0]


def test_as_many_entities_as_there_is_room_for_stay_however_often_they_come() -> None:
    state = FeatureState(_view(entities_max=1_000))
    cards = np.arange(1_000)
    for step in range(30):
        state.ingest(_chunk(step * 1_000, cards, np.ones(1_000), np.full(1_000, START_US + step * S)))
    assert state.entities == 1_000
    assert state.counts.forgotten == 0
    assert set(state.lookup(pa.array(cards), 0).values[:, 0]) == {30.0}


def test_entities_past_their_time_to_live_make_room_without_being_counted() -> None:
    state = FeatureState(_view(entities_max=1_000, ttl="2h", lateness="1s"))
    for step in range(30):
        cards = np.arange(step * 500, (step + 1) * 500)
        state.ingest(_chunk(step * 500, cards, np.ones(500), np.full(500, START_US + step * 7_300 * S)))
    assert state.counts.forgotten == 0
    assert state.entities <= 1_000


def test_memory_of_cold_records_is_given_back_when_their_entities_are_hot() -> None:
    state, entities = FeatureState(_view(entities_max=200_000)), 80_000
    cards = np.arange(entities)
    for step in range(12):
        state.ingest(_chunk(step * entities, cards, np.full(entities, step), np.full(entities, START_US + step * S)))
    control = state._control
    assert control[record.M_HOT_LIVE // 8] == entities
    assert control[record.M_COLD_USED // 8] == 0
    values = state.lookup(pa.array(cards), 0).values
    assert set(values[:, 0]) == {12.0}
    late = np.arange(entities, entities + 1_000)
    state.ingest(_chunk(12 * entities, late, np.ones(1_000), np.full(1_000, START_US + 20 * S)))
    assert state.lookup(pa.array(late), 0).status.tolist() == [0] * 1_000


def test_moving_cold_records_together_keeps_every_entity() -> None:
    state, entities = FeatureState(_view(entities_max=200_000)), 80_000
    rng = np.random.default_rng(2)
    cards = rng.permutation(entities)
    state.ingest(_chunk(0, cards, np.ones(entities), np.full(entities, START_US)))
    chosen = cards[rng.random(entities) < 0.7]
    for step in range(12):
        first = entities + step * len(chosen)
        state.ingest(_chunk(first, chosen, np.ones(len(chosen)), np.full(len(chosen), START_US + (step + 1) * S)))
    assert state._control[record.M_COLD_USED // 8] == entities - len(chosen)
    counts = state.lookup(pa.array(np.arange(entities)), 0).values[
        :, [f.name for f in state.view.features].index("count_one_1h")
    ]
    wanted = np.ones(entities)
    wanted[chosen] = 13
    np.testing.assert_array_equal(counts, wanted)


def test_event_ids_are_forgotten_when_they_are_too_old_to_come_again() -> None:
    state = FeatureState(_view(entities_max=1_000, event_id="card", lateness="10s"))
    for step in range(400):
        cards = np.arange(step * 100, step * 100 + 100)
        state.ingest(
            _chunk(step * 200, np.concatenate([cards, cards]), np.ones(200), np.full(200, START_US + step * S))
        )
    assert state.counts.applied == state.counts.duplicates == 40_000
    assert len(state._memory.ids) <= 8_192
