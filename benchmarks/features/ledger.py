"""Events that follow from their numbers, and what a view over them must say: by its meaning, not by folding. Pure."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.features.events import SECOND_US, START_US
from benchmarks.features.views import Declared, view_of, windowed

CARDS = 50
EVENT_US = SECOND_US // 20
"""Twenty events a second of event time: a thousand events span all tiles of a minute."""

SCHEMA = pa.schema(
    [("id", pa.int64()), ("card", pa.int64()), ("at", pa.timestamp("us", "UTC")), ("amount", pa.float64())]
)
COLUMNS: Mapping[str, Declared] = {
    "id": {"type": "int64", "nullable": False},
    "card": {"type": "int64"},
    "at": {"type": "timestamp"},
    "amount": {"type": "float64"},
}
WINDOWS_S = {"1m": (60, 5), "1h": (3600, 300), "24h": (86_400, 3600)}
Ints = npt.NDArray[np.int64]


def ledger_view(snapshots: str) -> Declared:
    """Windows over the ledger, each event once by its id."""
    last = {"amount_last": {"aggregation": "last", "column": "amount"}}
    snapshot = {"path": snapshots, "every": "1s"}
    return view_of({**windowed("amount"), **last}, event_id="id", lateness="1h", snapshot=snapshot)


def cards_of(ids: Ints) -> Ints:
    """Whose they are: scattered, some cards busier than others."""
    scattered = (ids * 2_654_435_761) % (1 << 32)
    cards: Ints = np.minimum(scattered % CARDS, (scattered >> 16) % CARDS)
    return cards


def times_of(ids: Ints) -> Ints:
    """When they happened: ascending but for one in eight, which comes three seconds late."""
    return START_US + ids * EVENT_US - np.where(ids % 8 == 5, 3 * SECOND_US, 0)


def amounts_of(ids: Ints) -> npt.NDArray[np.float64]:
    """Whole numbers, so that sums are exact whatever their order."""
    return ((ids * 7919) % 1000).astype(np.float64)


def batch_of(first: int, end: int) -> pa.RecordBatch:
    """Events `first` to `end` - 1."""
    ids = np.arange(first, end, dtype=np.int64)
    at = pa.array(times_of(ids)).cast(SCHEMA.field("at").type)
    return pa.record_batch([pa.array(ids), pa.array(cards_of(ids)), at, pa.array(amounts_of(ids))], schema=SCHEMA)


def as_of(events: int) -> int:
    """Just after everything among the first `events`."""
    return START_US + events * EVENT_US + 1


def expected(events: int) -> dict[str, npt.NDArray[np.float64]]:
    """What every card's counts, sums, least and greatest are after the first `events`; NaN where null."""
    ids = np.arange(events, dtype=np.int64)
    cards, times, amounts, now = cards_of(ids), times_of(ids), amounts_of(ids), as_of(events)
    found: dict[str, npt.NDArray[np.float64]] = {}
    for window, (length_s, tile_s) in WINDOWS_S.items():
        tile_us = tile_s * SECOND_US
        inside = times // tile_us >= (now - length_s * SECOND_US) // tile_us
        some, values = cards[inside], amounts[inside]
        least, greatest = np.full(CARDS, np.inf), np.full(CARDS, -np.inf)
        np.minimum.at(least, some, values)
        np.maximum.at(greatest, some, values)
        found[f"amount_count_{window}"] = np.bincount(some, minlength=CARDS).astype(np.float64)
        found[f"amount_sum_{window}"] = np.bincount(some, values, minlength=CARDS).astype(np.float64)
        found[f"amount_min_{window}"] = np.where(np.isinf(least), np.nan, least)
        found[f"amount_max_{window}"] = np.where(np.isinf(greatest), np.nan, greatest)
    return found


def mistakes(events: int, names: Sequence[str], values: npt.NDArray[np.float64]) -> list[str]:
    """Which features of which cards are not as expected; `values` has a row for each of the cards, in order.

    A card without events is null in everything.
    """
    known = np.bincount(cards_of(np.arange(events, dtype=np.int64)), minlength=CARDS) > 0
    wrong = []
    for name, column in expected(events).items():
        told = values[:, list(names).index(name)]
        same = (told == column) | (np.isnan(told) & np.isnan(column))
        same = np.where(known, same, np.isnan(told))
        wrong += [f"card {card}: {name} is {told[card]}, not {column[card]}" for card in np.flatnonzero(~same)]
    return wrong
