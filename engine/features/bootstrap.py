"""A view that begins with a table: its rows before an instant, then the log's from that instant on. No gap, no overlap.

A crash in the middle begins anew, because no snapshot is written before the table is read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine.errors import Unavailable, quoted
from engine.features.fold import ALL, Fold, TableRead
from engine.features.instant import instant_us
from engine.features.state import FeatureState
from engine.log.log import Chunk, DeadLetter, Offsets

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.features.declaration import BootstrapSpec
    from engine.features.view import View

log = logging.getLogger("vireo.features")

TABLE_PARTITION = 0
"""Rows of the table come as if from this one. Their watermark lies before `until`, so it judges no entry of the log."""


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """`path` of the table, the version asked for, and up to when its rows count. `schema` is the log's."""

    path: Path
    version: int | None
    until_us: int
    schema: pa.Schema

    def begin(
        self, view: View, earliest: Offsets, put: Callable[[list[DeadLetter]], None], stopped: Callable[[], bool]
    ) -> Fold:
        """A new fold with the table's rows, which goes on with the log from `earliest`.

        Raises Unavailable when `stopped` says so, and what reading the table raises.
        """
        from engine.features.tables import events_in_order

        events = events_in_order(self.path, self.version, self.schema, view.event_time, self.until_us)
        state, rows = FeatureState(view), 0
        for batch in events.batches:
            if stopped():
                raise Unavailable(f"feature view {quoted(view.name)} is being closed")
            arrival = np.full(batch.num_rows, self.until_us, np.int64)
            put(state.ingest(Chunk(TABLE_PARTITION, rows, rows + batch.num_rows, batch, arrival)))
            rows += batch.num_rows
        state.offsets[TABLE_PARTITION] = earliest.get(TABLE_PARTITION, 0)
        log.info("feature view %s began with %d rows of %s, version %s", view.name, rows, self.path, events.version)
        return Fold(view, ALL, state, until_us=self.until_us, began=TableRead(str(self.path), events.version, rows))


def bootstrap_of(spec: BootstrapSpec, path: Path, schema: pa.Schema) -> Bootstrap:
    """The declared one."""
    return Bootstrap(path, spec.version, instant_us(spec.until), schema)
