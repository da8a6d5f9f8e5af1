"""How a feature view is declared in the spec. Durations are texts such as "10s", "5m", "1h", "7d"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from engine.limits import FEATURE_ENTITIES_MAX

Aggregation = Literal[
    "count", "sum", "mean", "min", "max", "variance", "stddev", "first", "last", "approx_distinct", "most_frequent",
    "time_since_last", "decayed_count", "decayed_sum", "ratio", "z_score",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """One feature: an aggregation, or an `expression` over the view's other features and request inputs.

    `column` is a column of the source or a derived one; `where` counts only events for which it is true. `window` with
    `kind` and `tile` (default: some twelfth of the window) says which events count; without a window, all the entity's.
    `half_life` belongs to the decayed ones, `slots` to approx_distinct (a power of two) and most_frequent, `k` to
    most_frequent, `against` (the longer window) and `statistic` to ratio and z_score.
    """

    aggregation: Aggregation | None = None
    expression: str | None = None
    column: str | None = None
    where: str | None = None
    window: str | None = None
    kind: Literal["sawtooth", "sliding", "tumbling"] = "sawtooth"
    tile: str | None = None
    half_life: str | None = None
    slots: int | None = None
    k: int = 1
    against: str | None = None
    statistic: Literal["count", "sum", "mean"] = "mean"


@dataclass(frozen=True, slots=True)
class BootstrapSpec:
    """A table that a view starts from: its rows with event time before `until` (ISO 8601), then the log from there on.

    `table` is a Parquet file or folder, or a Delta table (`version` pins it; the newest where null, recorded either way).
    """

    table: str
    until: str
    version: int | None = None


@dataclass(frozen=True, slots=True)
class SnapshotSpec:
    """Where the state is kept and how often it is written; a restart replays the log from the newest one. `store`: the URL of an
    object store (fsspec) where it is published too, for processes elsewhere that come to fold the same."""

    path: str
    every: str = "5m"
    keep: int = 2
    store: str | None = None


@dataclass(frozen=True, slots=True)
class SampleSpec:
    """The Parquet file with a sample of the rows that were served, for `vireo skew`: written with each snapshot (without one,
    every 5 minutes) and at the end, each time anew."""

    path: str
    rows: int = 1000


@dataclass(frozen=True, slots=True)
class FeatureViewSpec:
    """Features of one kind of entity, folded from one log.

    `lateness`: events older than the newest seen by more than this are dead letters. `future`: how far an event's time may
    lie after its arrival. `max_age`: a read is stale where the entity's newest event is older (null: never). `ttl`: an entity
    without events for so long is forgotten (default: as long as any feature looks back, see docs/reference/features.md).
    `request` declares inputs that come with a read, for expressions (`name: number` or `text`).
    """

    source: str
    entity: str
    event_time: str
    features: Mapping[str, FeatureSpec]
    event_id: str | None = None
    lateness: str = "10m"
    future: str = "1m"
    max_age: str | None = None
    ttl: str | None = None
    where: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    request: Mapping[str, Literal["number", "text"]] = field(default_factory=dict)
    entities_max: int = FEATURE_ENTITIES_MAX
    snapshot: SnapshotSpec | None = None
    bootstrap: BootstrapSpec | None = None
    dead_letters: str | None = None
    sample: SampleSpec | None = None
    timeout_ms: float | None = None
