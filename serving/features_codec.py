"""Lookups and events between their wire forms (protobuf, Arrow, JSON values) and arrays. Pure; it knows no transport.

What a lookup answers is mostly memory of numpy arrays: doubles, fixed 64-bit integers, booleans and small enums are packed
in protobuf exactly as they lie there, so an answer is put together from those bytes and no value is touched.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from engine import InvalidArgument, TooLarge, limits, nearest, quoted
from protos.vireo.v1 import features_pb2 as pb
from serving.event_rows import column, rows_batch

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from engine import FeatureRows, FeatureView, ShardedView

STATUS_WORDS: Final = ("present", "missing", "stale", "lost")
_TIMELESS: Final = (1, 3)
"""Statuses of which no event's time is known."""
AS_OF: Final = "as_of"
_TIMESTAMP: Final = pa.timestamp("us", "UTC")
_VALUES, _NULLS, _EVENT_TIMES, _STATUSES, _TEXTS = 2, 3, 4, 5, 6
"""Fields of a GetResponse."""


@dataclass(slots=True)  # not frozen: that costs four times as much to make
class Lookup:
    """What to look up in a view, ready to be."""

    view: FeatureView | ShardedView
    keys: pa.Array | int
    as_of_us: int | npt.NDArray[np.int64] | None = None
    request: Mapping[str, pa.Array] | None = None
    features: tuple[str, ...] | None = None

    def __call__(self) -> FeatureRows:
        """Looks it up. Raises InvalidArgument."""
        return self.view.lookup(self.keys, as_of_us=self.as_of_us, request=self.request, features=self.features)


# Events.


def read_arrow(body: Buffer) -> pa.RecordBatch | None:
    """An Arrow IPC stream as one record batch; None where it has no rows. Raises InvalidArgument where it is damaged."""
    try:
        with pa.ipc.open_stream(pa.py_buffer(body)) as stream:
            table = stream.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InvalidArgument(f"not a valid Arrow IPC stream: {error}") from error
    return table_batch(table)


def table_batch(table: pa.Table) -> pa.RecordBatch | None:
    """All rows of a table as one batch; None where there are none."""
    if table.num_rows == 0:
        return None
    batches: list[pa.RecordBatch] = table.combine_chunks().to_batches()
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def pushed_batch(schema: pa.Schema, message: pb.PushRequest) -> pa.RecordBatch | None:
    """The events of a PushRequest as one batch; None where it has none. Raises InvalidArgument."""
    if message.rows:
        if message.arrow:
            raise InvalidArgument("push: both 'arrow' and 'rows' are given; send one")
        return rows_batch(schema, [_struct_row(each) for each in message.rows])
    return read_arrow(message.arrow) if message.arrow else None


def _struct_row(row: Any) -> dict[str, Any]:  # noqa: ANN401  a google.protobuf.Struct
    return {name: _struct_value(value) for name, value in row.fields.items()}


def _struct_value(value: Any) -> Any:  # noqa: ANN401
    kind = value.WhichOneof("kind")
    if kind in (None, "null_value"):
        return None
    found = getattr(value, kind)
    return {"list_value": [], "struct_value": {}}.get(
        kind, found
    )  # neither fits any column: what is in them does not matter


# Lookups.


def decode_get(view: FeatureView | ShardedView, message: pb.GetRequest) -> Lookup:
    """The lookup that a GetRequest asks of `view`. Raises InvalidArgument, TooLarge."""
    keys = _keys(view, message)
    rows = 1 if isinstance(keys, int) else len(keys)
    as_of, request, features = message.as_of_us[:], message.request, message.features
    return Lookup(
        view,
        keys,
        _instants(as_of, rows) if as_of else None,
        _request_columns(view, request, rows) if request else None,
        tuple(features) if features else None,
    )


def _keys(view: FeatureView | ShardedView, message: pb.GetRequest) -> pa.Array | int:
    kind = view.entity_type
    if kind == _INT64:  # the quick way to what is below
        values = message.int64_entities[:]
        if len(values) == 1 and not message.text_entities and not message.binary_entities:
            return values[0]
    field = _key_field(kind)
    for other in _KEY_FIELDS:
        if other != field and getattr(message, other):
            entity = f"view {quoted(view.name)}: entities {quoted(view.view.entity)}"
            raise InvalidArgument(f"{entity} are {kind} and travel in {field}, got {other}")
    texts = getattr(message, field)[:]
    check_rows(len(texts))
    return column(kind, texts, lambda index: f"{field}[{index}]")


_INT64: Final = pa.int64()
_KEY_FIELDS: Final = ("int64_entities", "text_entities", "binary_entities")


def _key_field(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind):
        return "int64_entities"
    return "binary_entities" if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) else "text_entities"


def check_rows(rows: int) -> None:
    """Raises TooLarge where a lookup asks for more entities than one may."""
    if rows > limits.LOOKUP_ROWS_MAX:
        raise TooLarge(f"{rows} entities, at most {limits.LOOKUP_ROWS_MAX} are allowed in one lookup")


def _instants(values: Sequence[int], rows: int) -> int | npt.NDArray[np.int64]:
    if len(values) == 1:
        return values[0]
    _check_length("as_of", len(values), rows)
    return np.array(values, np.int64)


def _check_length(name: str, got: int, rows: int) -> None:
    if got != rows:
        raise InvalidArgument(f"{name}: {got} values for {rows} entities; give one, or one for each")


def _request_columns(view: FeatureView | ShardedView, columns: Mapping[str, Any], rows: int) -> dict[str, pa.Array]:
    texts = {each.name: each.text for each in view.view.request}
    for name in columns:
        if name not in texts:
            raise _unknown_input(name, texts)
    return {name: _request_column(name, each, texts[name], rows) for name, each in columns.items()}


def _unknown_input(name: str, known: Iterable[str]) -> InvalidArgument:
    return InvalidArgument(f"request: unknown input {quoted(name)}{nearest(name, known)}")


def _request_column(name: str, given: Any, text: bool, rows: int) -> pa.Array:  # noqa: ANN401  a RequestColumn
    if given.numbers if text else given.texts:
        wanted, got = ("texts", "numbers") if text else ("numbers", "texts")
        raise InvalidArgument(f"request {quoted(name)}: expected {wanted}, got {got}")
    values, kind = (given.texts[:], pa.string()) if text else (given.numbers[:], pa.float64())
    return pa.array(_broadcast(f"request {quoted(name)}", values, rows), kind)


def _broadcast(name: str, values: Sequence[Any], rows: int) -> Sequence[Any]:
    if len(values) == 1 and rows != 1:
        return [values[0]] * rows
    _check_length(name, len(values), rows)
    return values


def lookup_of_values(
    view: FeatureView | ShardedView,
    entities: Sequence[Any],
    as_of: object,
    request: Mapping[str, Any],
    features: Sequence[str] | None,
) -> Lookup:
    """The lookup that values of JSON ask for. `as_of`: a time, one for each entity, or None; of `request` likewise each.

    Raises InvalidArgument with the place of what is wrong, TooLarge.
    """
    check_rows(len(entities))
    keys = column(view.entity_type, entities, lambda index: f"entities[{index}]", nullable=False)
    columns = {name: _value_column(view, name, each, len(entities)) for name, each in request.items()}
    wanted = None if features is None else tuple(features)
    return Lookup(view, keys, _value_instants(as_of, len(entities)), columns or None, wanted)


def _value_instants(as_of: object, rows: int) -> int | npt.NDArray[np.int64] | None:
    if as_of is None:
        return None
    values = as_of if isinstance(as_of, list) else [as_of]
    read = column(_TIMESTAMP, values, lambda index: f"as_of[{index}]" if values is as_of else "as_of", nullable=False)
    return _instants(read.cast(pa.int64()).to_pylist(), rows)


def _value_column(view: FeatureView | ShardedView, name: str, given: object, rows: int) -> pa.Array:
    declared = {each.name: each for each in view.view.request}
    if name not in declared:
        raise _unknown_input(name, declared)
    values = _broadcast(f"request.{name}", given if isinstance(given, list) else [given], rows)
    kind = pa.string() if declared[name].text else pa.float64()
    return column(kind, values, lambda index: f"request.{name}[{index}]")


def lookup_of_batch(
    view: FeatureView | ShardedView, batch: pa.RecordBatch, features: tuple[str, ...] | None = None
) -> Lookup:
    """The lookup that a batch asks for: the entity's column, perhaps `as_of`, and the request's inputs.

    Raises InvalidArgument naming the column and where it can the row, TooLarge.
    """
    check_rows(batch.num_rows)
    inputs = {each.name: pa.string() if each.text else pa.float64() for each in view.view.request}
    known = {view.view.entity: view.entity_type, AS_OF: _TIMESTAMP, **inputs}
    for name in batch.schema.names:
        if name not in known:
            raise InvalidArgument(f"unknown column {quoted(name)}{nearest(name, known)}")
    if len(set(batch.schema.names)) < batch.num_columns:
        raise InvalidArgument("a column is there more than once")
    given = {name: _cast_column(name, batch.column(name), known[name]) for name in batch.schema.names}
    if view.view.entity not in given:
        raise InvalidArgument(f"there is no column {quoted(view.view.entity)}, the entity of view {quoted(view.name)}")
    keys, as_of = given.pop(view.view.entity), given.pop(AS_OF, None)
    _check_no_nulls(view.view.entity, keys)
    if as_of is None:
        return Lookup(view, keys, None, given or None, features)
    _check_no_nulls(AS_OF, as_of)
    instants = as_of.cast(pa.int64()).to_numpy().copy()  # kernels are compiled for what may be written to
    return Lookup(view, keys, instants, given or None, features)


def _check_no_nulls(name: str, values: pa.Array) -> None:
    if values.null_count:
        index = pc.index(values.is_null(), True).as_py()
        raise InvalidArgument(f"row {index}: column {quoted(name)} is null")


def _cast_column(name: str, values: pa.Array, kind: pa.DataType) -> pa.Array:
    """`values` as `kind` where both are numbers, texts, binaries or times; a whole number is a time in microseconds."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if values.type == kind:
        return values
    if not _alike(values.type, kind):
        raise InvalidArgument(f"column {quoted(name)}: expected {kind}, got {values.type}")
    if pa.types.is_timestamp(kind) and pa.types.is_integer(values.type):
        values = values.cast(pa.int64())
    try:
        return values.cast(kind)
    except pa.ArrowException as error:
        raise InvalidArgument(f"column {quoted(name)}: expected {kind}, got {values.type}: {error}") from error


def _alike(given: pa.DataType, kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_timestamp(kind):
        return bool(types.is_integer(given) or (types.is_timestamp(given) and given.tz is not None))
    return any(is_one(kind) and (is_one(given) or types.is_null(given)) for is_one in _FAMILIES) or bool(
        types.is_floating(kind) and types.is_integer(given)
    )


_FAMILIES: Final[tuple[Callable[[pa.DataType], bool], ...]] = (
    pa.types.is_integer,
    pa.types.is_floating,
    lambda kind: kind in (pa.string(), pa.large_string(), pa.string_view()),
    lambda kind: kind in (pa.binary(), pa.large_binary(), pa.binary_view()),
)


# Answers.


def encode_get(rows: FeatureRows) -> bytes:
    """`rows` as a GetResponse."""
    names, values, texts = rows.names, rows.values, rows.texts
    before_values, before_nulls, before_times, before_statuses = _packed_heads(names, len(rows.status))
    parts = [
        before_values, values.tobytes(),
        before_nulls, (_nulls(rows) if texts else np.isnan(values)).tobytes(),
        before_times, rows.event_time_us.tobytes(),
        before_statuses, rows.status.tobytes(),
    ]  # fmt: skip
    for name, given in texts.items():
        message = pb.TextFeature(column=names.index(name), values=[each or "" for each in given])
        parts.append(as_field(_TEXTS, message.SerializeToString()))
    return b"".join(parts)


@lru_cache(maxsize=limits.LAYOUTS_MAX)
def _packed_heads(names: tuple[str, ...], rows: int) -> tuple[bytes, bytes, bytes, bytes]:
    """What comes before each of a response's packed fields; the names before the first."""
    count = rows * len(names)
    fields = ((_VALUES, 8 * count), (_NULLS, count), (_EVENT_TIMES, 8 * rows), (_STATUSES, rows))
    first, *others = (field_head(number, size) for number, size in fields)
    return pb.GetResponse(features=names).SerializeToString() + first, *others  # type: ignore[return-value]


assert sys.byteorder == "little", "protobuf's packed fields are the arrays' own memory on little-endian machines only"


def _nulls(rows: FeatureRows) -> npt.NDArray[np.bool_]:
    """Rows x features: which are null."""
    nulls: npt.NDArray[np.bool_] = np.isnan(rows.values)
    for name, texts in rows.texts.items():
        nulls[:, rows.names.index(name)] = [each is None for each in texts]
    return nulls


def as_field(number: int, content: bytes) -> bytes:
    """`content` as a length-delimited field of a message; `number` is below 16."""
    return field_head(number, len(content)) + content


def field_head(number: int, size: int) -> bytes:
    """Tag and length of a length-delimited field of `size` bytes; `number` is below 16."""
    return bytes((number << 3 | 2,)) + _varint(size)


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def json_rows(rows: FeatureRows) -> bytes:
    """`rows` as JSON: names, and for each entity its features (null where they are), its newest event's time and its status."""
    values: Any = np.ascontiguousarray(rows.values)
    if rows.texts:
        values = rows.values.astype(object)
        values[np.isnan(rows.values)] = None
        for name, texts in rows.texts.items():
            values[:, rows.names.index(name)] = texts
        values = values.tolist()
    times = rows.event_time_us.view("datetime64[us]").astype(object)
    told = {
        "features": rows.names,
        "rows": values,
        "event_time": [None if status in _TIMELESS else time for status, time in zip(rows.status, times, strict=True)],
        "status": [STATUS_WORDS[each] for each in rows.status],
    }
    return orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z)


def feature_schema(names: Sequence[str], texts: Sequence[str]) -> pa.Schema:
    """Of `feature_batch`: the features, then `event_time` and `status`."""
    kinds = [(name, pa.string() if name in texts else pa.float64()) for name in names]
    return pa.schema([*kinds, ("event_time", _TIMESTAMP), ("status", pa.string())])


def feature_batch(rows: FeatureRows) -> pa.RecordBatch:
    """`rows` as a record batch of `feature_schema`, nulls as nulls."""
    columns = np.ascontiguousarray(rows.values.T)
    arrays = [
        pa.array(rows.texts[name], pa.string()) if name in rows.texts else pa.array(values, from_pandas=True)
        for name, values in zip(rows.names, columns, strict=True)
    ]
    times = pa.array(rows.event_time_us, pa.int64(), mask=np.isin(rows.status, _TIMELESS)).cast(_TIMESTAMP)
    status = pa.array(STATUS_WORDS).take(pa.array(rows.status))
    return pa.RecordBatch.from_arrays([*arrays, times, status], schema=feature_schema(rows.names, list(rows.texts)))
