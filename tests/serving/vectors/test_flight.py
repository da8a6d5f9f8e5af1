"""Points by an unmodified Arrow Flight client: in bulk, and away."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.flight
import pytest

from engine import CollectionSpec, FieldSpec, VectorSpec, points_of, points_schema
from tests.engine.vectors.random_points import random_collection, random_point
from tests.serving.calls import together
from tests.serving.servers import ServerHere, eventually

OWNED = CollectionSpec(
    vectors={"v": VectorSpec(4)}, fields={"pages": FieldSpec("integer"), "owner": FieldSpec("keyword")}, tenant="owner"
)


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


def test_what_is_not_offered_is_refused_in_words(flights: pyarrow.flight.FlightClient, name: str) -> None:
    assert not list(flights.list_actions())
    with pytest.raises(pa.ArrowException, match="UNIMPLEMENTED: action 'drop'"):
        list(flights.do_action(pyarrow.flight.Action("drop", b"")))
    writer, reader = flights.do_exchange(pyarrow.flight.FlightDescriptor.for_path("collections", name))
    with pytest.raises(pa.ArrowException, match="UNIMPLEMENTED: points of collections come and go by DoPut and DoGet"):
        reader.read_chunk()
    with pytest.raises(pa.ArrowException, match="UNIMPLEMENTED"):
        writer.close()


def test_a_collections_name_alone_is_no_path(flights: pyarrow.flight.FlightClient, name: str) -> None:
    for path, told in ((name, name), ("collections", "NAME")):
        with pytest.raises(pa.ArrowException, match=rf"INVALID_ARGUMENT.*have the path \[collections, {told}\], got"):
            put(flights, (path,), points(1, 2))
        with pytest.raises(pa.ArrowException, match=rf"INVALID_ARGUMENT.*have the path \[collections, {told}\], got"):
            flights.get_flight_info(pyarrow.flight.FlightDescriptor.for_path(path))


def test_collections_are_listed_with_their_schema_and_a_ticket(
    flights: pyarrow.flight.FlightClient, name: str, make: Callable[[CollectionSpec], str]
) -> None:
    owned = make(OWNED)
    put(flights, ("collections", owned, "ann"), points(1, 2).select(["id", "vector.v", "field.pages"]))
    listed = {tuple(part.decode() for part in each.descriptor.path): each for each in flights.list_flights()}
    assert listed["collections", name].total_records == 3
    assert (listed["collections", owned].total_records, listed["collections", owned].endpoints) == (-1, [])
    assert listed["collections", owned].schema.equals(points_schema(OWNED))
    for path, count in ((("collections", name), 3), (("collections", owned, "ann"), 2)):
        descriptor = pyarrow.flight.FlightDescriptor.for_path(*path)
        info = flights.get_flight_info(descriptor)
        assert info.total_records == count
        assert info.schema.equals(flights.get_schema(descriptor).schema)
        (endpoint,) = info.endpoints
        found = flights.do_get(endpoint.ticket).read_all()
        assert (found.num_rows, found.schema) == (count, info.schema)
    wrong = [["collections", "nowhere"], ["collections", name, "ann"], ["collections", owned, "ann", "x"], ["x", "y"]]
    for each in wrong:
        with pytest.raises(pyarrow.flight.FlightError, match=r"NOT_FOUND|INVALID_ARGUMENT"):
            flights.get_flight_info(pyarrow.flight.FlightDescriptor.for_path(*each))


@pytest.fixture
def make(running: ServerHere) -> Iterator[Callable[[CollectionSpec], str]]:
    """Makes collections, which are dropped afterwards."""
    store, made = running.engine.vectors, list[str]()

    def one(spec: CollectionSpec) -> str:
        made.append(f"made-{len(store.names())}")
        store.create(made[-1], spec)
        return made[-1]

    yield one
    for each in made:
        store.drop(each)


@pytest.mark.parametrize("seed", range(4))
def test_columns_of_every_type_come_back_as_they_went(
    flights: pyarrow.flight.FlightClient, running: ServerHere, make: Callable[[CollectionSpec], str], seed: int
) -> None:
    source, numbers = random.Random(seed), np.random.default_rng(seed)
    spec = replace(random_collection(source, growing_rows=8_192), tenant=None)
    ids = [each if spec.id == "integer" else f"id {each}" for each in range(40)]
    rows = [random_point(spec, each, source, numbers) for each in ids]
    one, other = make(spec), make(spec)
    store = running.engine.vectors
    store.collection(one).upsert(points_of(spec, rows))
    batch = points_of(spec, rows)
    put(flights, ("collections", other), *(batch.slice(at, 7) for at in range(0, 40, 7)))
    table = get(flights, collection=other)
    assert table.schema.equals(points_schema(spec))
    assert table.equals(get(flights, collection=one))
    fields, vectors = list(spec.fields), list(spec.vectors)
    kept = [store.collection(each).get(ids, payload=fields, vectors=vectors) for each in (one, other)]
    assert [each.payload for each in kept[0]] == [each.payload for each in kept[1]]


def test_types_that_say_the_same_are_taken(flights: pyarrow.flight.FlightClient, name: str) -> None:
    given = pa.RecordBatch.from_pydict(
        {
            "id": pa.array([7, 8], pa.int16()),
            "vector.v": pa.array([[1.0, 0, 0, 0], [0, 2.0, 0, 0]], pa.large_list(pa.float64())),
            "sparse.s.indices": pa.array([[1, 2], None], pa.list_(pa.int64())),
            "sparse.s.values": pa.array([[1, 2], None], pa.list_(pa.float64())),
            "field.author": pa.array(["x", "x"]).dictionary_encode(),
            "field.title": pa.array(["a", "b"], pa.large_string()),
            "field.pages": pa.array([1, None], pa.uint8()),
            "field.at": pa.array([1, 2], pa.timestamp("s", "Europe/Berlin")),
            "field.where": pa.array([{"lat": 1.0, "lon": 2.0}, None]),
        }
    )
    assert put(flights, ("collections", name), given.slice(0, 0), given, given)[0]["count"] == 0
    seven, eight = get(flights, collection=name, filter={"must": {"has_id": [7, 8]}}).sort_by("id").to_pylist()
    assert (seven["vector.v"], eight["vector.v"]) == ([1, 0, 0, 0], [0, 1, 0, 0])
    assert (seven["sparse.s.indices"], eight["sparse.s.indices"]) == ([1, 2], None)
    assert (seven["field.author"], seven["field.title"], seven["field.pages"]) == ("x", "a", 1)
    assert (seven["field.where"], eight["field.where"]) == ([1, 2], None)
    assert seven["field.at"].timestamp() == 1


def changed(**columns: Any) -> pa.RecordBatch:  # noqa: ANN401
    """Three points with other columns; None leaves one out."""
    table = dict(zip(points(200, 3).schema.names, points(200, 3).columns, strict=True))
    table |= {each.replace("__", "."): column for each, column in columns.items()}
    return pa.RecordBatch.from_pydict({each: column for each, column in table.items() if column is not None})


WRONG_BATCHES: list[tuple[pa.RecordBatch, str, tuple[str, ...]]] = [
    (changed(vector__v=None), "INVALID_ARGUMENT", ("vector 'v' is missing",)),
    (changed(id=None), "INVALID_ARGUMENT", ("column 'id' is missing",)),
    (changed(id=pa.array([1, 2, 1])), "INVALID_ARGUMENT", ("points[2]", "points[0] has the same id")),
    (changed(id=pa.array([1, -2, 1])), "INVALID_ARGUMENT", ("points[1]",)),
    (changed(field__colour=pa.array([1, 2, 3])), "INVALID_ARGUMENT", ("'field.colour'",)),
    (changed(field__pages=pa.array(["x", "y", "z"])), "INVALID_ARGUMENT", ("'pages'", "string")),
    (changed(vector__v=pa.array([[1.0, 2, 3]] * 3)), "INVALID_ARGUMENT", ("points[0]", "4")),
    (changed(vector__v=pa.array([[1.0, 2, 3, 4], [1, 2, 3, float("nan")], [0.0] * 4])), "INVALID_ARGUMENT", ("points[1]",)),
    (changed(field__title=pa.array(["a", "b", "x" * 1_100_000])), "RESOURCE_EXHAUSTED", ("points[2]", "1048576")),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "code", "words"), WRONG_BATCHES, ids=range(len(WRONG_BATCHES)))
def test_a_wrong_batch_is_named_by_its_position_and_nothing_of_it_is_kept(
    flights: pyarrow.flight.FlightClient, name: str, wrong: pa.RecordBatch, code: str, words: tuple[str, ...]
) -> None:
    good = [points(first, 2) for first in (1_000, 2_000)]
    descriptor = pyarrow.flight.FlightDescriptor.for_path("collections", name)
    with pytest.raises(pyarrow.flight.FlightError) as caught:
        put_of_any_schema(flights, descriptor, [good[0], wrong, good[1]])
    assert json.loads(caught.value.extra_info)["code"] == code
    assert "batches[0]" in str(caught.value)
    for each in words:
        assert each in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert sorted(get(flights, collection=name)["id"].to_pylist()) == [1, 2, 3, 1_000, 1_001]


def put_of_any_schema(client: Any, descriptor: Any, batches: list[pa.RecordBatch]) -> None:  # noqa: ANN401
    """A stream has one schema: each batch has its own."""
    for each in batches:
        writer, reader = client.do_put(descriptor, each.schema)
        with writer:
            writer.write_batch(each)
            reader.read()
            writer.done_writing()


def test_a_batch_amid_others_is_named_and_those_after_it_are_not_taken(
    flights: pyarrow.flight.FlightClient, name: str
) -> None:
    batches = [points(first, 2) for first in (1_000, 2_000, 3_000, 4_000)]
    nothing = pa.FixedSizeListArray.from_arrays(pa.array([1, 0, 0, 0, 0, 0, 0, 0], pa.float32()), 4)
    batches[2] = batches[2].set_column(1, batches[0].schema.field(1), nothing)
    writer, reader = flights.do_put(pyarrow.flight.FlightDescriptor.for_path("collections", name), batches[0].schema)
    for each in batches:
        writer.write_batch(each)
    answers = [json.loads(reader.read().to_pybytes())["count"] for _ in range(2)]
    assert answers == [2, 2]
    with pytest.raises(pyarrow.flight.FlightError, match=r"batches\[2\]: points\[1\] \(id 3001\).*length"):
        writer.close()
    assert sorted(get(flights, collection=name)["id"].to_pylist()) == [1, 2, 3, 1_000, 1_001, 2_000, 2_001]


BAD_TEXT = pa.StringArray.from_buffers(2, pa.py_buffer(np.array([0, 2, 2], np.int32)), pa.py_buffer(b"\xff\xfe"))
BAD_PLACE = pa.DictionaryArray.from_arrays(pa.array([0, 7], pa.int8()), pa.array(["a"]), safe=False)
BAD_LISTS = pa.ListArray.from_buffers(
    pa.list_(pa.int64()), 2, [None, pa.py_buffer(np.array([0, 3, 2], np.int32))], children=[pa.array([1, 2, 3])]
)


@pytest.mark.parametrize(
    ("column", "damaged"),
    [("field.title", BAD_TEXT), ("field.author", BAD_PLACE), ("sparse.s.indices", BAD_LISTS)],
    ids=["text", "dictionary", "list"],
)
def test_a_batch_that_is_damaged_is_named_and_the_server_lives_on(
    flights: pyarrow.flight.FlightClient, name: str, column: str, damaged: pa.Array
) -> None:
    batch = pa.RecordBatch.from_pydict(
        {"id": pa.array([50, 51]), "vector.v": pa.array([[1.0, 0, 0, 0]] * 2), column: damaged}
    )
    with pytest.raises(pyarrow.flight.FlightError, match=r"INVALID_ARGUMENT: batches\[0\]: not a valid Arrow batch"):
        put(flights, ("collections", name), batch)
    assert get(flights, collection=name).num_rows == 3


def test_each_tenant_puts_and_gets_its_own_points_alone(
    flights: pyarrow.flight.FlightClient, make: Callable[[CollectionSpec], str]
) -> None:
    name = make(OWNED)
    batch = points(1, 3).select(["id", "vector.v", "field.pages"])
    more = points(1, 2).select(["id", "vector.v", "field.pages"])
    put(flights, ("collections", name, "ann"), batch)
    put(flights, ("collections", name, "bob"), more)
    for tenant, count in (("ann", 3), ("bob", 2), ("eve", 0)):
        found = get(flights, collection=name, tenant=tenant)
        assert found.num_rows == count
        assert set(found["field.owner"].to_pylist()) <= {tenant}
    of_bob = {"should": [{"key": "owner", "match": {"value": "bob"}}]}
    assert get(flights, collection=name, tenant="ann", filter=of_bob).num_rows == 0
    with pytest.raises(pyarrow.flight.FlightError, match="tenant: must be given"):
        get(flights, collection=name)
    with pytest.raises(pyarrow.flight.FlightError, match=r"batches\[0\]: tenant: must be given"):
        put(flights, ("collections", name), batch)
    with pytest.raises(pyarrow.flight.FlightError, match=r"points\[0\].*belongs to tenant 'bob', not to 'ann'"):
        put(flights, ("collections", name, "ann"), batch.append_column("field.owner", pa.array(["bob"] * 3)))
    for path in (("collections", name, ""), ("collections", name, "ann", "x")):
        with pytest.raises(pyarrow.flight.FlightError, match="INVALID_ARGUMENT"):
            put(flights, path, batch)


def test_a_collection_without_tenants_takes_none(flights: pyarrow.flight.FlightClient, name: str) -> None:
    with pytest.raises(pyarrow.flight.FlightError, match="has no tenants"):
        put(flights, ("collections", name, "ann"), points(1, 1))
    with pytest.raises(pyarrow.flight.FlightError, match="nearest"):
        put(flights, ("collections", f"{name}x"), points(1, 1))


WIDE = CollectionSpec(vectors={"v": VectorSpec(256, metric="dot")})


def wide(first: int, count: int) -> pa.RecordBatch:
    """Of 1 KiB each."""
    vectors = np.random.default_rng(first).standard_normal((count, 256)).astype(np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 256)
    return pa.RecordBatch.from_pydict({"id": pa.array(range(first, first + count), pa.uint64()), "vector.v": column})


def test_clients_that_go_away_amid_a_stream_leave_no_call_behind(
    running: ServerHere, make: Callable[[CollectionSpec], str]
) -> None:
    server, name = running.host._fronts[-1]._server, make(WIDE)  # type: ignore[attr-defined]
    before = server._open
    for round_ in range(3):
        client = pyarrow.flight.connect(f"grpc://127.0.0.1:{running.host.flight_port}")
        batch = wide(round_ * 10_000, 10_000)
        writer, acknowledged = client.do_put(
            pyarrow.flight.FlightDescriptor.for_path("collections", name), batch.schema
        )
        writer.write_batch(batch)
        acknowledged.read()
        writer.write_batch(batch)
        reader = client.do_get(pyarrow.flight.Ticket(json.dumps({"collection": name}).encode()))
        assert reader.read_chunk().data.num_rows
        assert server._open > before
        reader.cancel()
        del reader, writer, acknowledged
        client.close()
        eventually(lambda: server._open <= before, "the end of calls whose clients left")
    assert running.engine.vectors.collection(name).count() == 30_000


def test_exports_beside_loads_see_each_batch_whole_or_not_at_all(
    flights: pyarrow.flight.FlightClient, make: Callable[[CollectionSpec], str]
) -> None:
    name = make(replace(OWNED, tenant=None, growing_rows=700))
    loading = [partial(load, flights, name, nth) for nth in range(3)]
    sizes: list[int] = []

    def exported() -> bool:
        table = get(flights, collection=name, vectors=[])
        counts = Counter(table["field.owner"].to_pylist())
        assert all(count % 100 == 0 for count in counts.values()), counts
        assert len(set(table["id"].to_pylist())) == table.num_rows
        sizes.append(table.num_rows)
        return sizes[-1] == 3 * 10 * 100

    together([*loading, partial(eventually, exported, "all points")])
    assert sizes == sorted(sizes)


def load(client: pyarrow.flight.FlightClient, name: str, nth: int) -> None:
    """Ten batches of 100 points, none waiting for the one before to be answered."""
    descriptor = pyarrow.flight.FlightDescriptor.for_path("collections", name)
    batches = [points((10 * nth + at) * 100, 100).select(["id", "vector.v"]) for at in range(10)]
    batches = [each.append_column("field.owner", pa.array([f"{nth}"] * 100)) for each in batches]
    writer, reader = client.do_put(descriptor, batches[0].schema)
    for each in batches:
        writer.write_batch(each)
    writer.done_writing()
    answers = [json.loads(reader.read().to_pybytes()) for _ in batches]
    writer.close()
    assert [each["count"] for each in answers] == [100] * 10
    assert [each["offset"] for each in answers] == sorted(each["offset"] for each in answers)


def test_stopping_ends_an_export_that_nobody_reads_on(start: Callable[[str], ServerHere], tmp_path: Path) -> None:
    server = start(f"server: {{grpc_port: null, http_port: null, flight_port: 0}}\nvectors: {{path: {tmp_path}/c}}\n")
    flights = server.host._fronts[-1]._server  # type: ignore[attr-defined]
    server.engine.vectors.create("wide", WIDE).upsert(wide(0, 50_000))
    client = pyarrow.flight.connect(f"grpc://127.0.0.1:{server.host.flight_port}")
    reader = client.do_get(pyarrow.flight.Ticket(b'{"collection": "wide"}'))
    reader.read_chunk()
    server.stop()
    assert flights._open == 0
    client.close()
