"""Points of vector collections over Arrow Flight: in bulk by DoPut, away by DoGet.

DoPut to the path [`collections`, NAME], or [`collections`, NAME, TENANT], upserts each batch and answers {"offset", "count"} once
it is durable. DoGet takes a ticket of JSON, {"collection", "filter", "tenant", "payload": [FIELD...], "vectors": [NAME...]},
all but the first left out at will, and streams the points of one state.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec
import orjson
import pyarrow as pa

from engine import Collection, InvalidArgument, VectorStore, parse_filter, points_schema
from serving.codec import check_name

ROOT: Final = "collections"
_APPEND_BYTES: Final = 16 << 20
"""A larger batch is appended in pieces: each is as safe as the last answer says."""


class _Ticket(msgspec.Struct, forbid_unknown_fields=True):
    collection: str
    filter: dict[str, Any] | None = None
    tenant: str | None = None
    payload: list[str] | None = None
    vectors: list[str] | None = None


def is_points(path: list[str]) -> bool:
    """Whether a descriptor's path is of a collection."""
    return len(path) > 1 and path[0] == ROOT


class FlightPoints:
    """Of one store. Blocking calls, from any thread."""

    def __init__(self, store: VectorStore) -> None:
        self._store = store

    def put(self, path: list[str], batches: Iterator[tuple[pa.RecordBatch, Any]]) -> Iterator[bytes]:
        """What is answered for each batch, once it is durable. Raises as `Collection.upsert` does: earlier batches are kept."""
        if len(path) > 3:
            raise InvalidArgument(
                f"descriptor: expected [{ROOT}, NAME] or [{ROOT}, NAME, TENANT], got {len(path)} parts"
            )
        tenant = path[2] if len(path) == 3 else None
        for batch, _ in batches:
            collection = self.collection(path)
            count, offset = 0, 0
            for begin, length in _pieces(batch):
                written = collection.upsert(batch.slice(begin, length), tenant=tenant)
                count, offset = count + written.count, written.offset
            yield orjson.dumps({"offset": offset, "count": count})

    def collection(self, path: list[str]) -> Collection:
        """Raises NotFound."""
        return self._store.collection(check_name("collection", path[1]))

    def schema(self, path: list[str]) -> pa.Schema:
        """Of the points of a collection."""
        return points_schema(self.collection(path).spec)

    def names(self) -> tuple[str, ...]:
        """Of collections that are served."""
        failed = {each.removeprefix("collection ") for each in self._store.problems()}
        return tuple(each for each in self._store.names() if each not in failed)

    def get(self, ticket: bytes) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """The points a ticket is about. Raises InvalidArgument, NotFound."""
        try:
            asked = msgspec.json.decode(ticket, type=_Ticket)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidArgument(f"ticket: {error}") from error
        collection = self._store.collection(check_name("collection", asked.collection))
        filter_ = None if asked.filter is None else parse_filter(asked.filter, collection.spec)
        return collection.export(filter_=filter_, tenant=asked.tenant, payload=asked.payload, vectors=asked.vectors)


def _pieces(batch: pa.RecordBatch) -> Iterator[tuple[int, int]]:
    pieces = max(1, -(-batch.nbytes // _APPEND_BYTES))
    step = -(-batch.num_rows // pieces)
    for begin in range(0, batch.num_rows, step):
        yield begin, min(step, batch.num_rows - begin)
