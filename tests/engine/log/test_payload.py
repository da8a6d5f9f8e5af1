"""Payloads: what goes out comes back, one bad one fails alone, and damage never ends the process."""

from __future__ import annotations

import json
import random
import struct
from datetime import UTC, date, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine import InvalidArgument
from engine.errors import SpecError, TooLarge
from engine.log.declaration import ColumnSpec
from engine.log.payload import Decoded, Payload, epoch_us
from engine.log.payload_arrow import ArrowPayload
from engine.log.payload_avro import AvroPayload
from engine.log.payload_json import JsonPayload
from engine.log.schema import arrow_schema

ALL = arrow_schema(
    {
        "id": ColumnSpec("int64", nullable=False),
        **{name: name for name in ("bool", "int8", "int16", "int32", "uint8", "uint16", "uint32", "uint64")},
        **{name: name for name in ("float32", "float64", "string", "binary", "timestamp", "date")},
        "a b.c": "string",
    }
)
AVRO_TYPES: dict[str, Any] = {
    "id": "long", "bool": "boolean", "float32": "float", "float64": "double", "string": "string", "binary": "bytes",
    "timestamp": {"type": "long", "logicalType": "timestamp-micros"}, "date": {"type": "int", "logicalType": "date"},
    "uint64": "long", "uint32": "long",
}  # fmt: skip
SIZE = 1 << 20


def avro_schema(schema: pa.Schema) -> str:
    """Its columns as a record; names that Avro can't spell are left out."""
    fields = [
        {"name": each.name, "type": kind if not each.nullable else ["null", kind]}
        for each in schema
        if each.name.isidentifier() and (kind := AVRO_TYPES.get(each.name, "int"))
    ]
    return json.dumps({"type": "record", "name": "event", "fields": fields})


def random_rows(seed: int, count: int, schema: pa.Schema = ALL) -> pa.RecordBatch:
    """Values of every column's whole range, a tenth null where that is allowed."""
    rng = random.Random(seed)
    columns = []
    for field in schema:
        values = [_value(rng, field.type) for _ in range(count)]
        if field.nullable:
            values = [None if rng.random() < 0.1 else each for each in values]
        columns.append(pa.array(values, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _value(rng: random.Random, kind: pa.DataType) -> object:
    if pa.types.is_integer(kind):
        signed = pa.types.is_signed_integer(kind)
        low = -(1 << kind.bit_width - 1) if signed else 0
        high = (1 << min(63, kind.bit_width - signed)) - 1
        return rng.choice([low, high, 0, rng.randint(low, high)])
    if pa.types.is_floating(kind):
        value = rng.choice([0.0, -0.0, 1e-30, rng.gauss(0, 1e6), 3.4e38])
        return float(np.float32(value)) if pa.types.is_float32(kind) else value
    if pa.types.is_string(kind):
        return rng.choice(["", "x", 'ü\n"\\/\u2028😀\0', "null", "{}", "e" * rng.randrange(40)])
    if pa.types.is_date(kind):
        return date(1, 1, 1) + timedelta(days=rng.randrange(3_652_059))
    if not pa.types.is_timestamp(kind):
        return rng.random() < 0.5 if pa.types.is_boolean(kind) else rng.randbytes(rng.randrange(5))
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=rng.randint(-(10**15), 10**17))


def payload_of(kind: str, schema: pa.Schema) -> Payload:
    """One of the three."""
    if kind == "avro":
        return AvroPayload(schema, avro_schema(schema))
    return JsonPayload(schema) if kind == "json" else ArrowPayload(schema)


@pytest.mark.parametrize("kind", ["json", "avro", "arrow"])
def test_every_type_goes_out_and_comes_back_the_same(kind: str) -> None:
    for seed in range(20):
        batch = random_rows(seed, 50)
        if kind == "avro":
            batch = batch.set_column(
                batch.schema.get_field_index("a b.c"), ALL.field("a b.c"), pa.nulls(50, pa.string())
            )
        payload = payload_of(kind, ALL)
        sent = payload.encode(batch, SIZE)
        got = payload.decode(sent)
        assert got.batch.equals(batch), f"seed {seed}"
        assert len(sent) == (1 if kind == "arrow" else 50)
        assert got.source.tolist() == ([0] * 50 if kind == "arrow" else list(range(50)))
        assert not got.bad


def one(text: str | bytes, schema: pa.Schema = ALL) -> Decoded:
    """One JSON payload's rows."""
    return JsonPayload(schema).decode([text.encode() if isinstance(text, str) else text])


@pytest.mark.parametrize(
    ("text", "column", "expected"),
    [
        ('{"id":1,"timestamp":"2026-11-26T10:00:00Z"}', "timestamp", 1795687200_000000),
        ('{"id":1,"timestamp":"2026-11-26 11:00:00.5+01:00"}', "timestamp", 1795687200_500000),
        ('{"id":1,"timestamp":"2026-11-26T10:00:00"}', "timestamp", 1795687200_000000),
        ('{"id":1,"timestamp":"2026-11-26T10:00:00.1234567Z"}', "timestamp", 1795687200_123457),
        ('{"id":1,"timestamp":"2026-11-26T10:00:00.123456789Z"}', "timestamp", 1795687200_123457),
        ('{"id":1,"timestamp":1795687200}', "timestamp", 1795687200_000000),
        ('{"id":1,"timestamp":1795687200123}', "timestamp", 1795687200_123000),
        ('{"id":1,"timestamp":1795687200123456}', "timestamp", 1795687200_123456),
        ('{"id":1,"timestamp":1795687200123456789}', "timestamp", 1795687200_123456),
        ('{"id":1,"timestamp":-5}', "timestamp", -5_000000),
        ('{"id":1,"date":"2026-11-26"}', "date", 20783),
        ('{"id":1,"date":20783}', "date", 20783),
        ('{"id":1,"float64":3}', "float64", 3.0),
        ('{"id":1,"uint64":18446744073709551615}', "uint64", (1 << 64) - 1),
        ('{"id":1,"string":"a","string":"b"}', "string", "b"),
        (' {"id" : 1 ,\n "a b.c" : "\\ud83d\\ude00" } \n', "a b.c", "😀"),
        ('{"id":1,"binary":"AP8="}', "binary", b"\0\xff"),
        ('{"id":1,"other":{"deep":[null,{"x":1e999}]},"bool":true}', "bool", True),
    ],
)
def test_json_is_taken_as_other_producers_write_it(text: str, column: str, expected: object) -> None:
    got = one(text)
    assert not got.bad
    values = got.batch.column(column)
    if column in ("timestamp", "date"):
        values = values.cast(pa.int64() if column == "timestamp" else pa.int32())
    assert values.to_pylist() == [expected]


BAD_JSON: list[tuple[bytes | None, str]] = [
    (None, "no value"),
    (b"", "not JSON"),
    (b"null", "not one JSON object.*null"),
    (b"[1]", "not one JSON object.*array"),
    (b'{"id":1}{"id":2}', "not JSON"),
    (b'{"id":1}\n{"id":2}', "not JSON"),
    (b'{"id":1}null{"id":2}', "not JSON"),
    (b'{"id":1', "not JSON"),
    (b"{'id':1}", "not JSON"),
    (b"{}", "'id'.*missing"),
    (b'{"id":null}', "'id'.*int64.*null"),
    (b'{"id":"1"}', "'id'.*int64.*str"),
    (b'{"id":1.5}', "'id'.*int64.*float"),
    (b'{"id":9223372036854775808}', "'id'.*int64"),
    (b'{"id":1,"int8":128}', "'int8'.*int8"),
    (b'{"id":1,"uint8":-1}', "'uint8'.*uint8"),
    (b'{"id":1,"uint64":18446744073709551616}', "'uint64'.*uint64"),
    (b'{"id":1,"float64":NaN}', "not JSON"),
    (b'{"id":1,"float64":-Infinity}', "not JSON"),
    (b'{"id":1,"float64":"1.5"}', "'float64'.*double.*str"),
    (b'{"id":1,"float64":1e999}', "float64"),
    (b'{"id":1,"float32":3.5e38}', "'float32'.*float"),
    (b'{"id":1,"bool":1}', "'bool'.*bool.*int"),
    (b'{"id":1,"string":5}', "'string'.*string.*int"),
    (b'{"id":1,"string":{"a":1}}', "'string'.*string.*object"),
    (b'{"id":1,"string":"\xff"}', "utf-8"),
    (b'{"id":1,"string":"a\\ud83d"}', "not JSON"),
    (b'{"id":1,"timestamp":"yesterday"}', "'timestamp'.*timestamp.*yesterday"),
    (b'{"id":1,"timestamp":1.5}', "'timestamp'.*timestamp.*float"),
    (b'{"id":1,"timestamp":true}', "'timestamp'.*timestamp.*bool"),
    (b'{"id":1,"timestamp":99999999999999999999}', "'timestamp'"),
    (b'{"id":1,"date":"2026-13-01"}', "'date'.*date32"),
    (b'{"id":1,"binary":"?"}', "'binary'.*binary"),
    (b'{"id":1,"a b.c":7}', "'a b.c'.*string.*int"),
    (b'{"id":1,"other":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deep"),
]


@pytest.mark.parametrize(("value", "reason"), BAD_JSON, ids=lambda value: repr(value)[:40])
def test_a_bad_json_payload_is_told_by_column_and_expected_type(value: bytes | None, reason: str) -> None:
    got = JsonPayload(ALL).decode([value])
    assert got.batch.num_rows == 0
    assert got.batch.schema.equals(ALL)
    with pytest.raises(AssertionError, match=f"(?i){reason}"):
        raise AssertionError(got.bad[0])


def test_bad_payloads_fail_alone_wherever_they_are() -> None:
    for seed in range(30):
        rng = random.Random(seed)
        payload = JsonPayload(ALL)
        batch = random_rows(seed, 40)
        values: list[bytes | None] = list(payload.encode(batch, SIZE))
        spoilt = sorted(rng.sample(range(40), rng.randrange(1, 20)))
        for each in spoilt:
            values[each] = rng.choice(BAD_JSON)[0]
        got = payload.decode(values)
        kept = [each for each in range(40) if each not in spoilt]
        assert sorted(got.bad) == spoilt, f"seed {seed}"
        assert got.source.tolist() == kept, f"seed {seed}"
        assert got.batch.equals(batch.take(kept)), f"seed {seed}"


def test_whether_a_payload_is_good_does_not_depend_on_its_neighbours() -> None:
    texts = [
        "2026-11-26T10:00:00Z",
        "2026-11-26T10:00:00",
        "2026-11-26",
        "2026-11-26T10:00Z",
        "2026-11-26T10:00:00.1234567Z",
    ]
    values = [b'{"id":1,"timestamp":"%s"}' % each.encode() for each in texts] + [b'{"id":1,"timestamp":1795687200}']
    alone = [JsonPayload(ALL).decode([each]) for each in values]
    together = JsonPayload(ALL).decode(values)
    assert sorted(together.bad) == [place for place, each in enumerate(alone) if each.bad]
    assert together.batch.equals(pa.Table.from_batches([each.batch for each in alone]).combine_chunks().to_batches()[0])


def test_epoch_numbers_are_told_apart_by_size() -> None:
    numbers = pa.array([10**11 - 1, 10**11, 10**14 - 1, 10**14, 10**17 - 1, 10**17, None, -(10**11)])
    got = epoch_us(numbers, pa.timestamp("us", "UTC")).cast(pa.int64()).to_pylist()
    assert got == [(10**11 - 1) * 10**6, 10**14, (10**14 - 1) * 1000, 10**14, 10**17 - 1, 10**14, None, -(10**14)]


@pytest.mark.parametrize("kind", ["json", "arrow", "avro"])
def test_no_payloads_are_no_rows(kind: str) -> None:
    got = payload_of(kind, ALL).decode([])
    assert got.batch.num_rows == 0
    assert got.batch.schema.equals(ALL)


def test_unknown_columns_are_ignored_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    payload = JsonPayload(ALL)
    for _ in range(3):
        assert payload.decode([b'{"id":1,"flaot64":2,"x":{}}']).batch.column("id").to_pylist() == [1]
    assert payload.strangers.names == {"flaot64", "x"}
    assert caplog.text.count("'flaot64' of messages is ignored; nearest: 'float64'") == 1
    arrow = ArrowPayload(ALL)
    got = arrow.decode([stream(pa.record_batch({"id": [1, 2], "y": ["a", "b"]}))])
    assert got.batch.column("id").to_pylist() == [1, 2]
    assert arrow.strangers.names == {"y"}


def stream(batch: pa.RecordBatch) -> bytes:
    """An Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (("float64", pa.array([1.0, float("nan")])), "'float64'.*1 of 2.*NaN"),
        (("float64", pa.array([float("inf"), None])), "'float64'.*infinite"),
        (("timestamp", pa.array([0, 1 << 62], pa.timestamp("us", "UTC"))), "'timestamp'.*9999"),
    ],
    ids=["nan", "infinity", "a time past 9999"],
)
def test_what_json_cannot_carry_is_refused_by_column(column: tuple[str, pa.Array], message: str) -> None:
    name, values = column
    batch = random_rows(1, 2)
    batch = batch.set_column(ALL.get_field_index(name), ALL.field(name), values)
    with pytest.raises(InvalidArgument, match=message):
        JsonPayload(ALL).encode(batch, SIZE)


@pytest.mark.parametrize("kind", ["json", "arrow", "avro"])
def test_a_row_larger_than_a_message_is_refused_and_arrow_batches_are_split(kind: str) -> None:
    schema = arrow_schema({"id": ColumnSpec("int64", nullable=False), "string": "string"})
    payload = payload_of(kind, schema)
    rows = pa.record_batch([pa.array(range(100)), pa.array(["x" * 1000] * 100)], schema=schema)
    sent = payload.encode(rows, 20_000)
    assert all(len(each) <= 20_000 for each in sent)
    assert payload.decode(sent).batch.equals(rows)
    with pytest.raises(TooLarge, match="10000"):
        payload.encode(rows.slice(0, 1).set_column(1, schema.field(1), pa.array(["x" * 10_000])), 10_000)


def test_damaged_arrow_streams_are_bad_alone_and_never_end_the_process() -> None:
    batch = random_rows(7, 20)
    good = stream(batch)
    payload = ArrowPayload(ALL)
    for seed in range(400):
        rng = random.Random(seed)
        spoilt = bytearray(good)
        for _ in range(rng.randrange(1, 6)):
            spoilt[rng.randrange(len(spoilt))] = rng.randrange(256)
        if rng.random() < 0.3:
            del spoilt[rng.randrange(len(spoilt)) :]
        got = payload.decode([good, bytes(spoilt), good])
        got.batch.validate(full=True)
        assert set(got.bad) <= {1}
        assert got.batch.slice(0, 20).equals(batch)
        assert got.batch.slice(got.batch.num_rows - 20).equals(batch)


def test_arrow_rows_that_do_not_fit_are_bad_by_column() -> None:
    payload = ArrowPayload(ALL)
    wrong = stream(pa.record_batch({"id": ["1"]}))
    absent = stream(pa.record_batch({"int8": pa.array([1], pa.int8())}))
    null = stream(pa.record_batch({"id": pa.array([1, None])}))
    got = payload.decode([wrong, absent, null, None, b"", stream(pa.record_batch({"id": [5]}))])
    assert got.batch.column("id").to_pylist() == [5]
    assert got.source.tolist() == [5]
    for position, words in enumerate(("int64, got string", "'id'.*missing", "1 of 2", "no value", "Arrow IPC")):
        with pytest.raises(AssertionError, match=words):
            raise AssertionError(got.bad[position])


def test_damaged_avro_and_json_are_bad_alone() -> None:
    for kind in ("avro", "json"):
        schema = arrow_schema({"id": ColumnSpec("int64", nullable=False), "string": "string", "float64": "float64"})
        payload = payload_of(kind, schema)
        batch = random_rows(3, 1, schema)
        (good,) = payload.encode(batch, SIZE)
        for seed in range(500):
            rng = random.Random(seed)
            spoilt = bytearray(good)
            for _ in range(rng.randrange(1, 4)):
                spoilt[rng.randrange(len(spoilt))] = rng.randrange(256)
            got = payload.decode([good, bytes(spoilt[: rng.randrange(len(spoilt) + 1)]), good])
            assert set(got.bad) <= {1}, f"{kind}, seed {seed}"
            assert got.batch.slice(0, 1).equals(batch)
            assert got.batch.slice(got.batch.num_rows - 1).equals(batch)


def test_confluents_header_is_written_and_wanted_where_its_schema_id_is_declared() -> None:
    schema = arrow_schema({"id": ColumnSpec("int64", nullable=False), "string": "string"})
    bare, framed = AvroPayload(schema, avro_schema(schema)), AvroPayload(schema, avro_schema(schema), 7)
    batch = random_rows(5, 30, schema)
    values, with_header = bare.encode(batch, SIZE), framed.encode(batch, SIZE)
    assert with_header == [struct.pack(">bI", 0, 7) + each for each in values]
    assert framed.decode(with_header).batch.equals(batch)
    other = struct.pack(">bI", 0, 8) + values[0]
    assert framed.decode([other, b"\0", with_header[0]]).bad.keys() == {0, 1}
    assert "expected schema id 7, got 8" in framed.decode([other]).bad[0]
    assert "header of schema id 8: declare avro_schema_id" in bare.decode([other]).bad[0]


def test_avro_logical_types_of_other_producers_become_the_columns_types(tmp_path: Path) -> None:
    import uuid
    from decimal import Decimal

    import fastavro

    fields = [
        {"name": "id", "type": "long"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "plain", "type": "long"},
        {"name": "amount", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}]},
        {"name": "who", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "kind", "type": {"type": "enum", "name": "kind", "symbols": ["A", "B"]}},
        {"name": "stranger", "type": "int"},
    ]
    record = {"type": "record", "name": "event", "fields": fields}
    file = tmp_path / "event.avsc"
    file.write_text(json.dumps(record))
    required: dict[str, ColumnSpec | str] = {"id": ColumnSpec("int64", nullable=False), "at": "timestamp"}
    texts = {"who": "string", "kind": "string", "missing": "string"}
    schema = arrow_schema({**required, "plain": "timestamp", "amount": "float64", **texts})
    payload = AvroPayload(schema, str(file))
    who = uuid.uuid4()
    at = datetime(2026, 11, 26, 10, tzinfo=UTC)
    row = {
        "id": 1,
        "at": at,
        "plain": 1795687200123,
        "amount": Decimal("12.34"),
        "who": who,
        "kind": "B",
        "stranger": 5,
    }
    out = BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(record), row)
    got = payload.decode([out.getvalue()])
    assert not got.bad
    assert got.batch.to_pylist() == [
        {
            "id": 1, "at": at, "plain": datetime(2026, 11, 26, 10, 0, 0, 123000, tzinfo=UTC),
            "amount": 12.34, "who": str(who), "kind": "B", "missing": None,
        }
    ]  # fmt: skip
    assert payload.strangers.names == {"stranger"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "needs the schema"),
        ("/nowhere/event.avsc", "No such file"),
        ("{", "neither JSON"),
        ('"string"', "neither JSON|No such file"),
        ('{"type":"enum","name":"x","symbols":[]}', "record"),
        ('{"type":"record","name":"x","fields":[{"name":"id","type":"lnog"}]}', "lnog"),
        ('{"type":"record","name":"x","fields":[{"name":"ids","type":"long"}]}', "'id'.*nearest: 'ids'"),
    ],
)
def test_a_wrong_avro_schema_is_refused_when_the_log_is_opened(given: str | None, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        AvroPayload(ALL, given)
