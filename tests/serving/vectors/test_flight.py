"""Points by an unmodified Arrow Flight client: in bulk, and away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.flight
import pytest

from tests.serving.servers import ServerHere


@pytest.fixture(scope="session")
def flights(running: ServerHere) -> Iterator[pyarrow.flight.FlightClient]:
    """A client of the Arrow Flight port."""
    with pyarrow.flight.connect(f"grpc://127.0.0.1:{running.host.flight_port}") as client:
        yield client


def points(first: int, count: int) -> pa.RecordBatch:
    """With a vector and some fields."""
    vectors = np.random.default_rng(first).standard_normal((count, 4)).astype(np.float32)
    return pa.RecordBatch.from_pydict(
        {
            "id": pa.array(range(first, first + count), pa.uint64()),
            "vector.v": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 4),
            "field.pages": pa.array(range(count), pa.int64()),
            "field.tags": pa.array([["x"]] * count),
        }
    )


def put(client: pyarrow.flight.FlightClient, path: tuple[str, ...], *batches: pa.RecordBatch) -> list[dict[str, Any]]:
    """What is answered for each batch."""
    writer, reader = client.do_put(pyarrow.flight.FlightDescriptor.for_path(*path), batches[0].schema)
    with writer:
        answers = []
        for each in batches:
            writer.write_batch(each)
            answers.append(json.loads(reader.read().to_pybytes()))
        writer.done_writing()
    return answers


def get(client: pyarrow.flight.FlightClient, **ticket: object) -> pa.Table:
    """All that the ticket is about."""
    return client.do_get(pyarrow.flight.Ticket(json.dumps(ticket).encode())).read_all()


def test_points_go_in_and_come_back(flights: pyarrow.flight.FlightClient, name: str) -> None:
    answers = put(flights, ("collections", name), points(100, 3_000), points(5_000, 10))
    assert [each["count"] for each in answers] == [3_000, 10]
    assert answers[1]["offset"] == answers[0]["offset"] + 10
    table = get(flights, collection=name)
    assert table.num_rows == 3_013
    assert {"id", "vector.v", "field.pages", "sparse.s.indices"} <= set(table.schema.names)
    kept = get(
        flights, collection=name, payload=["pages"], vectors=[],
        filter={"must": [{"key": "pages", "range": {"lt": 5}}, {"key": "tags", "match": {"value": "x"}}]},
    )  # fmt: skip
    assert kept.schema.names == ["id", "field.pages"]
    assert sorted(kept["field.pages"].to_pylist()) == sorted([*range(5), *range(5)])


def test_what_is_exported_can_be_put_elsewhere(
    flights: pyarrow.flight.FlightClient, http: httpx.Client, name: str
) -> None:
    table = get(flights, collection=name)
    spec = http.get(f"/v1/collections/{name}").json()["spec"]
    assert http.put(f"/v1/collections/{name}-copy", json=spec).status_code == 200
    put(flights, ("collections", f"{name}-copy"), *table.combine_chunks().to_batches())
    assert get(flights, collection=f"{name}-copy").sort_by("id").equals(table.sort_by("id"))
    http.delete(f"/v1/collections/{name}-copy")


def test_a_bad_batch_is_refused_and_earlier_ones_stay(flights: pyarrow.flight.FlightClient, name: str) -> None:
    good = points(100, 5)
    bad = good.set_column(1, "vector.v", pa.array([[0.0] * 4] * 5, pa.list_(pa.float32(), 4)))
    with pytest.raises(pa.ArrowException, match=r"points\[0\].*length"):
        put(flights, ("collections", name), good, bad.cast(good.schema))
    assert get(flights, collection=name).num_rows == 8


@pytest.mark.parametrize(
    ("ticket", "told"),
    [
        ({"collection": "nowhere"}, "no collection"),
        ({}, "collection"),
        ({"collection": "declared", "payload": ["x"]}, "'x'"),
        ({"collection": "declared", "vectors": ["w"]}, "'w'"),
        ({"collection": "declared", "tenant": "a"}, "tenant"),
        ({"collection": "declared", "filter": {"must": [{"key": "x", "match": {"value": 1}}]}}, "filter.must"),
    ],
)
def test_a_wrong_ticket_is_named(flights: pyarrow.flight.FlightClient, ticket: dict[str, object], told: str) -> None:
    with pytest.raises((pa.ArrowException, KeyError), match=told):
        get(flights, **ticket)


def test_collections_are_listed(flights: pyarrow.flight.FlightClient, name: str) -> None:
    listed = [tuple(part.decode() for part in each.descriptor.path) for each in flights.list_flights()]
    assert ("collections", name) in listed
    info = flights.get_flight_info(pyarrow.flight.FlightDescriptor.for_path("collections", name))
    assert "vector.v" in info.schema.names
