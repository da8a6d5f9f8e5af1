"""Driver `memory`: what one entity costs, by how much the process grew; what the state says of itself is not asked."""

import gc
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.features.events import SECOND_US, START_US, event_batch
from benchmarks.features.states import chunk_of, state_of, warm
from engine import Chunk, FeatureState

BATCH_ROWS = 1 << 16
HOUR_S, MINUTE_S = 3600, 60
DAYS_US = 2 * 24 * HOUR_S * SECOND_US


def drive(order: dict[str, Any]) -> dict[str, Any]:
    """The order: `view`, `entities`, `events` of each of them, or "hot": as many as fill every tile; `before`: how many other
    entities have had as many by then.

    Gives bytes_each (growth of resident memory), told_each (what the state says), entities, events.
    """
    entities, seed = order["entities"], order["seed"]
    times = hot_times_us() if order["events"] == "hot" else idle_times_us(order["events"])
    warm(order["view"], event_batch(np.zeros(1, np.int64), np.full(1, START_US), np.random.default_rng(seed)))
    once = state_of(order["view"])
    for chunk in chunks(1000, times, seed):  # whatever the first passes allocate once
        once.ingest(chunk)
    del once
    gc.collect()
    state = state_of(order["view"])
    dead = fold(state, chunks(order["before"], times, seed, card=entities))
    resident, told = resident_bytes(), state.bytes
    later = [at_us + DAYS_US for at_us in times] if order["before"] else times
    dead += fold(state, chunks(entities, later, seed))
    grown, told = resident_bytes() - resident, state.bytes - told
    assert not dead, f"{dead} events were not applied"
    assert state.entities == entities + order["before"]
    return {"bytes_each": grown / entities, "told_each": told / entities, "entities": entities, "events": len(times)}


def fold(state: FeatureState, given: Iterator[Chunk]) -> int:
    """How many events were not applied."""
    dead = sum(len(state.ingest(chunk)) for chunk in given)
    gc.collect()
    return dead


def resident_bytes() -> int:
    """Of this process, now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def hot_times_us() -> list[int]:
    """A day of events that leaves no tile empty: one an hour, then one each five minutes, then one each five seconds."""
    day_s = 24 * HOUR_S
    hours = [hour * HOUR_S for hour in range(24)]
    minutes = [day_s + five * 5 * MINUTE_S for five in range(12)]
    seconds = [day_s + HOUR_S + five * 5 for five in range(12)]
    return [START_US + at_s * SECOND_US for at_s in [*hours, *minutes, *seconds]]


def idle_times_us(events: int) -> list[int]:
    """A few events, a minute apart."""
    return [START_US + index * MINUTE_S * SECOND_US for index in range(events)]


def chunks(entities: int, times: list[int], seed: int, card: int = 0) -> Iterator[Chunk]:
    """At each instant one event of every entity, `card` and on."""
    rng, first = np.random.default_rng(seed), 0
    for at_us in times:
        for start in range(0, entities, BATCH_ROWS):
            cards = card + np.arange(start, min(start + BATCH_ROWS, entities), dtype=np.int64)
            yield chunk_of(event_batch(cards, np.full(len(cards), at_us, np.int64), rng), first)
            first += len(cards)
