"""The file of served rows that a view keeps for the skew probe: Parquet, whole or not there, whatever happens.

A row each: `served.entity`, `served.as_of` and `served.read_at` (UTC), `served.status`, `served.event_time` (null where missing),
`served.features` (the names asked for), then the view's features and request inputs by name, null where not asked or given.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import DataLoss, FailedPrecondition, NotFound, quoted
from engine.features.skew import ServedRow
from engine.features.view import View
from engine.log.disk import disk_fault, put_in_place

FORMAT = 1
_METADATA = b"vireo.sample"
_INSTANT = pa.timestamp("us", "UTC")
_DRAFT = ".draft"


class SampleFile:
    """Where one view's sample lies. `digest`: of what the view declares; a sample of another declaration is refused.

    Not for several threads at once; two that write to one path replace each other's file as a whole.
    """

    def __init__(self, path: Path, view: View, digest: str) -> None:
        self.path, self.view = path, view
        self._digest = digest

    def write(self, rows: Sequence[ServedRow], offered: int) -> None:
        """Replaces the file by one with `rows`, a sample of `offered`. kill -9 at any moment leaves the old one or the new.

        Raises ResourceExhausted or Unavailable where it cannot be written; the old one is then still there.
        """
        table = _table(self.view, rows).replace_schema_metadata({
            _METADATA: json.dumps({
                "format": FORMAT, "view": self.view.name, "digest": self._digest, "offered": offered,
            }),
        })  # fmt: skip
        draft = self.path.with_name(f"{self.path.name}.{uuid4().hex}{_DRAFT}")
        try:
            self._clear_drafts()
            with draft.open("xb") as file:
                pq.write_table(table, file)
            put_in_place(draft, self.path)
        except OSError as error:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            raise disk_fault(error, self.path, "write the sample") from error

    def _clear_drafts(self) -> None:
        """Makes the folder, and deletes what killed processes have left in it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for each in self.path.parent.iterdir():
            if each.name.startswith(f"{self.path.name}.") and each.name.endswith(_DRAFT):
                each.unlink(missing_ok=True)

    def read(self) -> tuple[list[ServedRow], int]:
        """The rows, and of how many they are a sample.

        Raises NotFound where there is none yet, DataLoss where it is none, FailedPrecondition where another declaration of the
        view was served.
        """
        if not self.path.exists():
            raise NotFound(
                f"no sample at {quoted(str(self.path))}: it is written with each snapshot and when the view is closed, once "
                f"something was served"
            )
        try:
            table = pq.read_table(self.path)
            told = json.loads((table.schema.metadata or {}).get(_METADATA, b"null"))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DataLoss(f"{quoted(str(self.path))} cannot be read as a sample: {error}") from error
        if told is None or told["format"] != FORMAT:
            raise DataLoss(f"{quoted(str(self.path))} is no sample of served rows, or of another format")
        if (told["view"], told["digest"]) != (self.view.name, self._digest):
            raise FailedPrecondition(
                f"{quoted(str(self.path))} is a sample of feature view {quoted(told['view'])} as it was declared otherwise; "
                f"probe with the spec that was served, or wait for the next sample"
            )
        return _rows(self.view, table), told["offered"]


def _table(view: View, rows: Sequence[ServedRow]) -> pa.Table:
    columns = {
        "served.entity": pa.array([each.entity for each in rows]),
        "served.as_of": _instants([each.as_of_us for each in rows]),
        "served.read_at": _instants([each.read_us for each in rows]),
        "served.status": pa.array([each.status for each in rows], pa.uint8()),
        "served.event_time": _instants([each.event_time_us or None for each in rows]),
        "served.features": pa.array([list(each.features) for each in rows], pa.list_(pa.string())),
    }
    for feature in view.features:
        kind = pa.string() if feature.text else pa.float64()
        columns[feature.name] = pa.array([each.features.get(feature.name) for each in rows], kind, from_pandas=True)
    for given in view.request:
        kind = pa.string() if given.text else pa.float64()
        columns[given.name] = pa.array([each.request.get(given.name) for each in rows], kind)
    return pa.table(columns)


def _instants(times_us: Sequence[int | None]) -> pa.Array:
    return pa.array(times_us, pa.int64()).cast(_INSTANT)


def _rows(view: View, table: pa.Table) -> list[ServedRow]:
    """Instants as whole numbers: Python's end with the year 9999."""
    entities, status, asked = (table.column(f"served.{each}").to_pylist() for each in ("entity", "status", "features"))
    as_of, read, newest = (
        table.column(f"served.{each}").cast(pa.int64()).to_pylist() for each in ("as_of", "read_at", "event_time")
    )
    features = {each.name: table.column(each.name).to_pylist() for each in view.features}
    request = {each.name: table.column(each.name).to_pylist() for each in view.request}
    return [
        ServedRow(
            view.name, entities[at], as_of[at], read[at], status[at], newest[at] or 0,
            {name: features[name][at] for name in asked[at]}, {name: values[at] for name, values in request.items()},
        )
        for at in range(table.num_rows)
    ]  # fmt: skip
