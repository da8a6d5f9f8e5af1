"""The feature views that are measured, as they stand in a spec. Pure."""

from collections.abc import Mapping
from typing import Any

Declared = dict[str, Any]

LOG = "events"
COLUMNS: Mapping[str, Declared] = {
    "card": {"type": "int64"},
    "at": {"type": "timestamp"},
    "amount": {"type": "float64"},
    "other": {"type": "float64"},
    "merchant": {"type": "int64"},
}
TILES: Mapping[str, str] = {"1m": "5s", "1h": "5m", "24h": "1h"}
"""By window: 12, 12 and 24 tiles, as the prototype had whose figures are the bar."""

AGGREGATIONS = ("count", "sum", "mean", "min", "max", "variance")


def windowed(column: str, tiles: Mapping[str, str] = TILES) -> Declared:
    """Six aggregations of a column over each window."""
    return {
        f"{column}_{aggregation}_{window}": {
            "aggregation": aggregation,
            "column": column,
            "window": window,
            "tile": tile,
        }
        for window, tile in tiles.items()
        for aggregation in AGGREGATIONS
    }


DISTINCT: Declared = {
    "merchants_1h": {"aggregation": "approx_distinct", "column": "merchant", "window": "1h", "tile": "5m"}
}
LAST: Declared = {"amount_last": {"aggregation": "last", "column": "amount"}}
DECAYED: Declared = {"amount_decayed": {"aggregation": "decayed_sum", "column": "amount", "half_life": "1h"}}


def view_of(features: Declared, **settings: object) -> Declared:
    """A view over the log of card events."""
    return {"source": LOG, "entity": "card", "event_time": "at", **settings, "features": features}


def judged_view(**settings: object) -> Declared:
    """What ingest and memory are judged by: 3 windows x 6 aggregations, distinct, last, decayed; 21 features."""
    return view_of({**windowed("amount"), **DISTINCT, **LAST, **DECAYED}, **settings)


def narrow_view(**settings: object) -> Declared:
    """20 features: the judged ones but the decayed."""
    return view_of({**windowed("amount"), **DISTINCT, **LAST}, **settings)


def wide_view(**settings: object) -> Declared:
    """50 features: two columns over four windows, distinct and last."""
    tiles = {**TILES, "7d": "12h"}
    return view_of({**windowed("amount", tiles), **windowed("other", tiles), **DISTINCT, **LAST}, **settings)


def paired_view(**settings: object) -> Declared:
    """What a torn read would break: `amount` is 1 in every event, `other` always equals it."""
    return view_of({**windowed("amount"), **windowed("other"), **LAST}, **settings)


def spec_of(views: Mapping[str, Declared], log: Declared, **server: object) -> Declared:
    """An app with one log and these views; `log` says where it lives."""
    head = {"server": {"name": "bench", "host": "127.0.0.1", **server}} if server else {}
    return {**head, "logs": {LOG: {"schema": dict(COLUMNS), **log}}, "feature_views": dict(views)}


def local_log(path: str, durability: str = "fsync") -> Declared:
    """A log in a folder."""
    return {"local": {"path": path, "durability": durability}}


def kafka_log(address: str, topic: str, payload: str) -> Declared:
    """A Kafka topic, every partition read by one process."""
    return {"kafka": {"bootstrap_servers": address, "topic": topic, "format": payload, "key": "card"}}
