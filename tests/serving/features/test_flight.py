"""Events, lookups and scoring over Arrow Flight, by pyarrow's client."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import flight

from engine import Appended
from tests.fakes import PATIENCE_S
from tests.serving.calls import together
from tests.serving.features.events import CARD_FEATURES, payments
from tests.serving.servers import ServerHere, eventually

PAYMENTS = payments((1, "a", 1.0, 1)).schema


def path(*parts: str) -> flight.FlightDescriptor:
    """A descriptor."""
    return flight.FlightDescriptor.for_path(*parts)


def put(client: flight.FlightClient, *batches: pa.RecordBatch, log: str = "payments") -> list[dict[str, int]]:
    """Appends batches; the acknowledgement of each."""
    writer, reader = client.do_put(path(log), batches[0].schema)
    acknowledged = []
    with writer:
        for each in batches:
            writer.write_batch(each)
            acknowledged += json.loads(reader.read().to_pybytes())["spans"]
        writer.done_writing()
    return acknowledged


def exchange(client: flight.FlightClient, descriptor: flight.FlightDescriptor, *batches: pa.RecordBatch) -> list[Any]:
    """What each batch is answered with."""
    writer, reader = client.do_exchange(descriptor)
    with writer:
        writer.begin(batches[0].schema)
        answers = []
        for each in batches:
            writer.write_batch(each)
            answers.append(reader.read_chunk().data)
        writer.done_writing()
    return answers


def shown(running: ServerHere, acknowledged: dict[str, int], view: str = "card") -> None:
    """Waits until a view shows what was acknowledged."""
    where = Appended(acknowledged["partition"], acknowledged["first"], acknowledged["next"])
    assert running.engine.features.view(view).wait(where, PATIENCE_S)


def test_every_batch_is_acknowledged_once_it_is_durable(
    flights: flight.FlightClient, running: ServerHere, card: int, now_us: int
) -> None:
    acknowledged = put(flights, *(payments(*[(card, "a", 1.0, now_us)] * rows) for rows in (1, 2, 3)))
    assert [each["next"] - each["first"] for each in acknowledged] == [1, 2, 3]
    shown(running, acknowledged[-1])
    (answer,) = exchange(flights, path("card", "payments_1h"), pa.record_batch({"card": [card]}))
    assert answer.column("payments_1h").to_pylist() == [6]


def test_acknowledgements_that_nobody_reads_stop_nothing(
    flights: flight.FlightClient, running: ServerHere, card: int, now_us: int
) -> None:
    writer, _ = flights.do_put(path("payments"), PAYMENTS)
    with writer:
        for _ in range(2000):
            writer.write_batch(payments((card, "a", 1.0, now_us)))
    eventually(lambda: count(flights, card) == 2000, "all payments")


def count(client: flight.FlightClient, card: int) -> float:
    """How many payments a card has."""
    (answer,) = exchange(client, path("card", "payments_1h"), pa.record_batch({"card": [card]}))
    return float(answer.column(0)[0].as_py() or 0)


def test_lookups_stream_in_order_with_their_metadata(
    flights: flight.FlightClient, running: ServerHere, card: int, now_us: int
) -> None:
    keys = [card * 1000 + index for index in range(50)]
    (where,) = put(flights, payments(*((key, f"m{key}", float(key), now_us) for key in keys)))
    shown(running, where)
    writer, reader = flights.do_exchange(path("card"))
    with writer:
        writer.begin(
            pa.schema([("card", pa.int64()), ("as_of", pa.timestamp("us", "UTC")), ("amount_now", pa.float64())])
        )
        for key in keys:
            batch = pa.record_batch(
                [pa.array([key, -key]), pa.array([now_us + 1] * 2), pa.array([key + 0.5, None])], writer_schema()
            )
            writer.write_with_metadata(batch, str(key).encode())
        writer.done_writing()
        assert reader.schema.names == [*CARD_FEATURES, "event_time", "status"]
        for key in keys:
            chunk = reader.read_chunk()
            assert chunk.app_metadata.to_pybytes() == str(key).encode()
            row, missing = chunk.data.to_pylist()
            assert (row["amount_1h"], row["last_merchant"], row["excess"], row["status"]) == (
                key,
                f"m{key}",
                0.5,
                "present",
            )
            assert (missing["last_merchant"], missing["event_time"], missing["status"]) == (None, None, "missing")


def writer_schema() -> pa.Schema:
    """Of lookups with everything that may come with them."""
    return pa.schema([("card", pa.int64()), ("as_of", pa.timestamp("us", "UTC")), ("amount_now", pa.float64())])


def test_a_model_scores_columns(flights: flight.FlightClient) -> None:
    rng = np.random.default_rng(7)
    given = rng.random((100, 3), np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(given.ravel()), 3)
    for descriptor in (path("fraud"), path("fraud", "1")):
        first, second = exchange(
            flights,
            descriptor,
            pa.record_batch({"features": column}),
            pa.record_batch({"features": column.slice(10, 5)}),
        )
        np.testing.assert_allclose(first.column("score").to_numpy(), given.mean(axis=1), rtol=1e-5)
        np.testing.assert_allclose(second.column("score").to_numpy(), given[10:15].mean(axis=1), rtol=1e-5)


def test_float64_columns_are_taken_by_a_model_of_float32(flights: flight.FlightClient) -> None:
    column = pa.array([[1.0, 2.0, 3.0]], pa.list_(pa.float64(), 3))
    (answer,) = exchange(flights, path("fraud"), pa.record_batch({"features": column}))
    assert answer.column("score").to_pylist() == [2.0]


def test_catalogues_name_logs_and_views(flights: flight.FlightClient) -> None:
    listed = {each.descriptor.path[0].decode(): each.schema for each in flights.list_flights()}
    assert set(listed) == {"payments", "everything", "card", "merchant"}
    assert listed["payments"].names == ["card", "merchant", "amount", "at"]
    assert listed["card"].names == [*CARD_FEATURES, "event_time", "status"]
    assert flights.get_flight_info(path("payments")).schema == listed["payments"]
    assert flights.get_schema(path("card")).schema == listed["card"]
    views = flights.do_get(flight.Ticket(b"views")).read_all().to_pylist()
    assert [(each["view"], each["ready"], each["source"]) for each in views] == [
        ("card", True, "payments"),
        ("merchant", True, "payments"),
    ]
    logs = flights.do_get(flight.Ticket(b"logs")).read_all().to_pylist()
    assert logs[0] == {"log": "payments", "columns": ["card", "merchant", "amount", "at"]}


def record(**columns: object) -> pa.RecordBatch:
    """A batch of these columns."""
    return pa.record_batch(columns)


WRONG_EXCHANGES: list[tuple[tuple[str, ...], pa.RecordBatch, str, tuple[str, ...]]] = [
    (("nobody",), record(card=[1]), "NOT_FOUND", ("nobody",)),
    (("card", "paymets_1h"), record(card=[1]), "INVALID_ARGUMENT", ("'paymets_1h'", "nearest: 'payments_1h'")),
    (("card",), record(cart=[1]), "INVALID_ARGUMENT", ("'cart'", "nearest: 'card'")),
    (("card",), record(card=["1"]), "INVALID_ARGUMENT", ("'card'", "int64", "string")),
    (("card",), record(card=[1, None]), "INVALID_ARGUMENT", ("row 1", "'card'", "null")),
    (("card",), record(card=[1] * 100_001), "RESOURCE_EXHAUSTED", ("100001", "100000")),
    (("fraud", "9"), record(features=[1.0]), "NOT_FOUND", ("9",)),
    (("fraud", "one"), record(features=[1.0]), "INVALID_ARGUMENT", ("'one'",)),
    (("fraud", "1", "x"), record(features=[1.0]), "INVALID_ARGUMENT", ("3 parts",)),
    (("fraud",), record(feature=[1.0]), "INVALID_ARGUMENT", ("'feature'", "nearest: 'features'")),
    (("fraud",), record(features=[1.0]), "INVALID_ARGUMENT", ("features",)),
    (("fraud",), record(features=["x"]), "INVALID_ARGUMENT", ("'features'", "FP32", "string")),
    (("fraud",), record(features=pa.array([[1, 2, 3], None], pa.list_(pa.int64(), 3))), "INVALID_ARGUMENT", ("row 1",)),
    (("fraud",), record(features=pa.array([[1, 2, None]], pa.list_(pa.int64(), 3))), "INVALID_ARGUMENT", ("row 0",)),
]


@pytest.mark.parametrize(("parts", "batch", "code", "words"), WRONG_EXCHANGES, ids=range(len(WRONG_EXCHANGES)))
def test_what_is_wrong_is_told_and_the_next_call_works(
    flights: flight.FlightClient, parts: tuple[str, ...], batch: pa.RecordBatch, code: str, words: tuple[str, ...]
) -> None:
    with pytest.raises(flight.FlightError) as caught:
        exchange(flights, path(*parts), batch)
    check(caught.value, code, words)
    assert exchange(flights, path("card"), record(card=[1]))


def check(error: flight.FlightError, code: str, words: tuple[str, ...]) -> None:
    """The code is told for programs, what is wrong for people, and nothing of our insides."""
    assert json.loads(error.extra_info)["code"] == code
    for word in words:
        assert word in str(error)
    assert "Traceback" not in str(error)


WRONG_PUTS: list[tuple[str, pa.RecordBatch, str, tuple[str, ...]]] = [
    ("payment", record(card=[1]), "NOT_FOUND", ("nearest: 'payments'",)),
    ("payments", record(card=["1"]), "INVALID_ARGUMENT", ("card", "int64", "string")),
    ("payments", record(card=[1, None]), "INVALID_ARGUMENT", ("card", "null")),
    ("payments", record(card=[1], colour=["red"]), "INVALID_ARGUMENT", ("colour",)),
]


@pytest.mark.parametrize(("log", "batch", "code", "words"), WRONG_PUTS, ids=range(len(WRONG_PUTS)))
def test_a_wrong_batch_is_refused_by_name(
    flights: flight.FlightClient, log: str, batch: pa.RecordBatch, code: str, words: tuple[str, ...]
) -> None:
    with pytest.raises(flight.FlightError) as caught:
        put(flights, batch, log=log)
    check(caught.value, code, words)


def test_what_was_acknowledged_before_a_wrong_batch_stays(
    flights: flight.FlightClient, running: ServerHere, card: int, now_us: int
) -> None:
    good = payments((card, "a", 1.0, now_us))
    acknowledged = put(flights, good)
    writer, reader = flights.do_put(path("payments"), PAYMENTS)
    writer.write_batch(good)
    acknowledged += json.loads(reader.read().to_pybytes())["spans"]
    invalid = pa.StringArray.from_buffers(1, pa.py_buffer(np.array([0, 2], np.int32)), pa.py_buffer(b"\xff\xfe"))
    writer.write_batch(pa.record_batch([pa.array([card]), invalid, good.column(2), good.column(3)], schema=PAYMENTS))
    with pytest.raises(flight.FlightError, match="INVALID_ARGUMENT: not a valid Arrow batch"):
        writer.close()
    shown(running, acknowledged[-1])
    assert count(flights, card) == 2


def test_a_command_in_place_of_a_path_is_refused(flights: flight.FlightClient) -> None:
    with pytest.raises(flight.FlightError, match="expected a path"):
        flights.get_flight_info(flight.FlightDescriptor.for_command(b"card"))
    with pytest.raises(flight.FlightError, match="NOT_FOUND"):
        flights.do_get(flight.Ticket(b"payments")).read_all()


def test_many_streams_at_once_are_each_answered(flights: flight.FlightClient, running: ServerHere) -> None:
    def ask(index: int) -> int:
        return sum(len(each) for each in exchange(flights, path("card"), *[record(card=[index] * 3)] * 20))

    assert together([partial(ask, index) for index in range(12)]) == [60] * 12


def test_a_client_that_vanishes_leaves_no_call_behind(running: ServerHere) -> None:
    server = running.host._fronts[-1]._server  # type: ignore[attr-defined]
    before = server._open
    for _ in range(3):
        client = flight.connect(f"grpc://127.0.0.1:{running.host.flight_port}")
        writer, reader = client.do_exchange(path("card"))
        writer.begin(pa.schema([("card", pa.int64())]))
        writer.write_batch(record(card=[1]))
        reader.read_chunk()
        reader.cancel()
        del writer, reader
        client.close()
    eventually(lambda: server._open == before, "the end of calls whose clients left")


def test_stopping_answers_streams_that_are_open(start: Callable[[str], ServerHere]) -> None:
    server = start("server: {grpc_port: null, http_port: null, flight_port: 0}\n")
    client = flight.connect(f"grpc://127.0.0.1:{server.host.flight_port}")
    writer, reader = client.do_exchange(path("nobody"))
    ended = threading.Event()

    def read() -> None:
        with pytest.raises(flight.FlightError):
            reader.read_chunk()
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    server.stop()
    assert ended.wait(PATIENCE_S)
    with pytest.raises(flight.FlightError):
        list(client.list_flights())
    del writer
