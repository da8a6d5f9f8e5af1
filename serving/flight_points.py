"""Points of vector collections over Arrow Flight: in bulk by DoPut, away by DoGet.

DoPut to the path [`collections`, NAME], or [`collections`, NAME, TENANT], upserts each batch and answers {"offset", "count"} once
it is durable. DoGet takes a ticket of JSON, {"collection", "filter", "tenant", "payload": [FIELD...], "vectors": [NAME...]},
all but the first left out at will, and streams the points of one state. GetFlightInfo of such a path has the ticket for all.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any, Final

import msgspec
import orjson
import pyarrow as pa

from engine import AnyCollection, InvalidArgument, VectorStore, parse_filter, points_schema
from serving.codec import check_name
from serving.json_body import decoded
from serving.vectors_values import named

ROOT: Final = "collections"


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
        """What is answered for each batch, once it is durable. Raises what `Collection.load` does, with the batch's position: of
        that one nothing is kept, unless it says so, and those before it are."""
        tenant = _tenant(path)
        self.collection(path)
        for at in count():
            with named(f"batches[{at}]"):
                if (given := next(batches, None)) is None:
                    return
                written = self.collection(path).load(given[0], tenant=tenant)
            yield orjson.dumps({"offset": written.offset, "count": written.count, "token": written.token})

    def collection(self, path: list[str]) -> AnyCollection:
        """Raises NotFound."""
        return self._store.collection(check_name("collection", path[1]))

    def schema(self, path: list[str]) -> pa.Schema:
        """Of the points of a collection."""
        return points_schema(self.collection(path).spec)

    def about(self, path: list[str]) -> tuple[pa.Schema, int, bytes | None]:
        """The schema, how many points there are, and the ticket that gets them; -1 and None where there are tenants and none is
        named. Raises NotFound, InvalidArgument."""
        collection, tenant = self.collection(path), _tenant(path)
        if collection.spec.tenant is not None and tenant is None:
            return points_schema(collection.spec), -1, None
        asked = {"collection": path[1]} | ({} if tenant is None else {"tenant": tenant})
        return points_schema(collection.spec), collection.count(tenant=tenant), orjson.dumps(asked)

    def paths(self) -> list[list[str]]:
        """Of all collections, those that could not be opened too."""
        return [[ROOT, each] for each in self._store.names()]

    def check_no_name(self, name: str) -> None:
        """Raises InvalidArgument where a path has the name of a collection alone; of a log of that name it is not asked."""
        if name in (ROOT, *self._store.names()):
            told = "NAME" if name == ROOT else name
            raise InvalidArgument(f"descriptor: points of collections have the path [{ROOT}, {told}], got [{name}]")

    def get(self, ticket: bytes) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """The points a ticket is about. Raises InvalidArgument, NotFound."""
        asked = decoded(ticket, _Ticket, "ticket")
        collection = self._store.collection(check_name("collection", asked.collection))
        filter_ = None if asked.filter is None else parse_filter(asked.filter, collection.spec)
        return collection.export(filter_=filter_, tenant=asked.tenant, payload=asked.payload, vectors=asked.vectors)


def _tenant(path: list[str]) -> str | None:
    if len(path) > 3:
        raise InvalidArgument(f"descriptor: expected [{ROOT}, NAME] or [{ROOT}, NAME, TENANT], got {len(path)} parts")
    return path[2] if len(path) == 3 else None
