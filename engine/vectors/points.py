"""What may come into a collection: a batch of points as a client gave it, made into what is kept, or refused as a whole.

Every column is checked at once, without a Python object for a value. What is wrong is told of the first bad point, by its
position in the batch and its id.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import InvalidArgument, TooLarge, VireoError, nearest, quoted
from engine.limits import PAYLOAD_BYTES_MAX
from engine.vectors.by_spec import by_spec
from engine.vectors.checks import check_tenant
from engine.vectors.column_casts import BadValue, damaged_row, exact, first_null, sound_if_empty, string_bytes, strings
from engine.vectors.declaration import CollectionSpec, FieldSpec, VectorSpec
from engine.vectors.plain_points import payload_patch, points_of
from engine.vectors.point_fields import is_plain, payload_bytes, payload_column
from engine.vectors.point_vectors import dense, multi, plain_dense, sparse
from engine.vectors.rows import ID, field_column, indices_column, points_schema, values_column, vector_column
from engine.vectors.values import TEXT_ID_BYTES_MAX, echo

__all__ = ["checked_points", "payload_patch", "points_of"]

ONLY_VECTOR: Final = "vector"
"""What the column of a collection's only dense vector may be called."""


def checked_points(spec: CollectionSpec, batch: pa.RecordBatch, *, tenant: str | None = None) -> pa.RecordBatch:
    """`batch` of exactly `rows.points_schema`: cosine of length 1, a multi-vector never null, nothing left under a null.

    Columns that may be null may be missing. Types that say the same are taken: strings of any sort and their dictionaries, lists
    of any sort, integers and floats of any width whose values fit, instants of any unit and zone, latitude and longitude as a
    struct. A collection with tenants needs `tenant`, which its field becomes. Any thread.

    Raises InvalidArgument, TooLarge; nothing of the batch is to be used then.
    """
    check_tenant(spec, tenant)
    quick = _plan_of(spec).checked(batch)
    return _checked_closely(spec, batch, tenant) if quick is None else quick


class _Plan:
    """Of a collection whose points are one id, dense vectors and fields: how a batch goes that needs no cast and has nothing
    wrong with it. Of any other it knows nothing, and `_checked_closely` says what there is to say."""

    def __init__(self, spec: CollectionSpec) -> None:
        self._spec = spec
        self._schema = points_schema(spec)
        self._other: pa.Schema | None = None
        """What a client sent last whose names and types are those, though it says otherwise what may be null."""
        self._able = not spec.sparse and spec.tenant is None and not any(each.multi for each in spec.vectors.values())
        at = self._schema.get_field_index
        self._vectors = [(at(vector_column(name)), each) for name, each in spec.vectors.items()]
        self._fields = [(at(field_column(name)), each) for name, each in spec.fields.items()]

    def checked(self, batch: pa.RecordBatch) -> pa.RecordBatch | None:
        """`checked_points`, None where it has to look closely. Raises InvalidArgument."""
        if not self._able or not batch.num_rows or not self._fits(batch.schema):
            return None
        try:
            batch.validate(full=True)
            arrays = batch.columns
            arrays[0] = _ids(self._spec, arrays[0])
            for at, vector in self._vectors:
                arrays[at] = plain_dense(arrays[at], vector)
            for at, field in self._fields:
                if arrays[at].null_count or not is_plain(field):
                    arrays[at] = payload_column(arrays[at], field)
        except (pa.ArrowException, BadValue):
            return None
        if batch.get_total_buffer_size() > PAYLOAD_BYTES_MAX and self._payload_bytes(arrays) > PAYLOAD_BYTES_MAX:
            return None
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _payload_bytes(self, arrays: list[pa.Array]) -> int:
        return sum(arrays[at].nbytes for at, _ in self._fields)

    def _fits(self, schema: pa.Schema) -> bool:
        if schema.equals(self._schema) or (self._other is not None and schema.equals(self._other)):
            return True
        try:
            fits = bool(schema.names == self._schema.names and schema.types == self._schema.types)
        except UnicodeDecodeError:
            return False
        if fits:
            self._other = schema.remove_metadata()
        return fits


_plan_of = by_spec(_Plan)


def _checked_closely(spec: CollectionSpec, batch: pa.RecordBatch, tenant: str | None) -> pa.RecordBatch:
    schema = points_schema(spec)
    columns = _columns(spec, batch, schema)
    ids = _ids(spec, columns.pop(ID))
    check = _Check(ids)
    made: dict[str, pa.Array | None] = {ID: ids}
    for name, vector in spec.vectors.items():
        made[vector_column(name)] = check.vector(name, vector, columns.get(vector_column(name)))
    for name in spec.sparse:
        pair = check.sparse(name, *(columns.get(each(name)) for each in (indices_column, values_column)))
        made[indices_column(name)], made[values_column(name)] = pair
    for name, field in spec.fields.items():
        given = columns.get(field_column(name))
        of_tenant = name == spec.tenant
        made[field_column(name)] = (
            check.tenant(name, str(tenant), given) if of_tenant else check.field(name, field, given)
        )
    check.payload(spec, made)
    check.finish()
    rows = len(ids)
    arrays = [pa.nulls(rows, each.type) if made[each.name] is None else made[each.name] for each in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


class _Check:
    """Of one batch, column by column: keeps what is wrong with the earliest point."""

    def __init__(self, ids: pa.Array) -> None:
        self._ids = ids
        self._worst: tuple[int, VireoError] | None = None

    def made(self, what: str, make: Callable[[], pa.Array | None]) -> pa.Array | None:
        """What `make` gives; None if a value was bad, which `finish` will tell."""
        try:
            return make()
        except BadValue as error:
            self._bad(error.row, f"{what}: {error.problem}", error.kind)
        except VireoError as error:
            raise type(error)(f"points: {what}: {error.message}") from error
        return None

    def vector(self, name: str, spec: VectorSpec, given: pa.Array | None) -> pa.Array | None:
        if given is None:
            if not spec.multi:
                raise InvalidArgument(f"points: vector {quoted(name)} is missing")
            given = pa.nulls(len(self._ids))
        return self.made(f"vector {quoted(name)}", lambda: (multi if spec.multi else dense)(given, spec))

    def sparse(
        self, name: str, indices: pa.Array | None, values: pa.Array | None
    ) -> tuple[pa.Array | None, pa.Array | None]:
        if indices is None and values is None:
            return None, None
        if indices is None or values is None:
            missing = indices_column(name) if indices is None else values_column(name)
            raise InvalidArgument(f"points: sparse vector {quoted(name)}: column {quoted(missing)} is missing")
        pair: list[pa.Array | None] = [None, None]

        def make() -> None:
            pair[:] = sparse(indices, values)

        self.made(f"sparse vector {quoted(name)}", make)
        return pair[0], pair[1]

    def field(self, name: str, spec: FieldSpec, given: pa.Array | None) -> pa.Array | None:
        if given is None:
            return None
        return self.made(f"field {quoted(name)}", lambda: payload_column(given, spec))

    def tenant(self, name: str, tenant: str, given: pa.Array | None) -> pa.Array:
        """The field filled with the tenant, which rows may say too."""
        if given is not None and given.null_count < len(given):
            said = self.made(f"field {quoted(name)}", lambda: strings(given))
            if said is None:
                raise InvalidArgument(f"points: field {quoted(name)}: expected keyword values, got {given.type}")
            other = pc.not_equal(said, tenant).fill_null(False).to_numpy(zero_copy_only=False)
            if other.any():
                at = int(np.argmax(other))
                self._bad(
                    at, f"field {quoted(name)}: belongs to tenant {quoted(said[at].as_py())}, not to {quoted(tenant)}"
                )
        return pa.repeat(tenant, len(self._ids))

    def payload(self, spec: CollectionSpec, made: dict[str, pa.Array | None]) -> None:
        """No point's payload is too large."""
        fields = [(made[field_column(name)], each) for name, each in spec.fields.items()]
        if sum(column.nbytes for column, _ in fields if column is not None) <= PAYLOAD_BYTES_MAX:
            return
        sizes = np.zeros(len(self._ids), np.int64)
        for column, each in fields:
            if column is not None:
                sizes += payload_bytes(column, each)
        large = np.flatnonzero(sizes > PAYLOAD_BYTES_MAX)
        if len(large):
            at = int(large[0])
            self._bad(at, f"payload: {sizes[at]} bytes, at most {PAYLOAD_BYTES_MAX} are allowed", TooLarge)

    def finish(self) -> None:
        """Raises what is wrong."""
        if self._worst is not None:
            raise self._worst[1]

    def _bad(self, row: int, problem: str, kind: type[VireoError] = InvalidArgument) -> None:
        if self._worst is None or row < self._worst[0]:
            self._worst = row, kind(f"points[{row}] (id {echo(self._ids[row].as_py())}): {problem}")


def _columns(spec: CollectionSpec, batch: pa.RecordBatch, schema: pa.Schema) -> dict[str, pa.Array]:
    """By the names of the schema. Raises InvalidArgument for one that is not there, or twice, or damaged."""
    columns: dict[str, pa.Array] = {}
    known = {*schema.names}
    only = [name for name, each in spec.vectors.items() if not each.multi]
    try:
        names = batch.schema.names
    except UnicodeDecodeError as error:
        raise InvalidArgument("points: a column's name is no valid Unicode (UTF-8)") from error
    for at, given in enumerate(names):
        name = vector_column(only[0]) if given == ONLY_VECTOR and len(only) == 1 else given
        if name not in known:
            raise InvalidArgument(f"points: unknown column {quoted(given)}{nearest(given, known)}")
        if name in columns:
            raise InvalidArgument(f"points: column {quoted(name)} is there twice")
        column = batch.column(at)
        _check_sound(name, column)
        columns[name] = sound_if_empty(column.storage if isinstance(column, pa.ExtensionArray) else column)
    if ID not in columns:
        raise InvalidArgument(f"points: column {quoted(ID)} is missing")
    return columns


def _check_sound(name: str, column: pa.Array) -> None:
    """What comes over the wire may say anything: offsets past the end, indices past a dictionary, text that is none."""
    try:
        column.validate(full=True)
    except pa.ArrowException as error:
        row = damaged_row(column) if "UTF8" in str(error) else None
        if row is None:
            raise InvalidArgument(f"points: column {quoted(name)}: is damaged: {str(error)[:200]}") from error
        raise InvalidArgument(
            f"points[{row}]: column {quoted(name)}: expected text of valid Unicode (UTF-8)"
        ) from error


def _ids(spec: CollectionSpec, given: pa.Array) -> pa.Array:
    """Each valid and all different. Raises InvalidArgument."""
    missing = first_null(given)
    if missing is not None:
        raise InvalidArgument(f"points[{missing}]: expected an id, got null")
    try:
        ids = _integer_ids(given) if spec.id == "integer" else _text_ids(given)
    except BadValue as error:
        raise error.kind(f"points[{error.row}]: id: {error.problem}") from None
    except TooLarge as error:
        raise TooLarge(f"points: ids: {error.message}") from error
    if ids is None:
        expected = "unsigned integers of 64 bits" if spec.id == "integer" else "text"
        raise InvalidArgument(f"points: ids: expected {expected}, got {given.type}")
    _check_different(ids)
    return ids


def _integer_ids(given: pa.Array) -> pa.Array | None:
    return exact(given, pa.uint64(), "64 bits, unsigned") if pa.types.is_integer(given.type) else None


def _text_ids(given: pa.Array) -> pa.Array | None:
    ids = strings(given)
    if ids is not None:
        sizes = string_bytes(ids)
        wrong = (sizes < 1) | (sizes > TEXT_ID_BYTES_MAX)
        if wrong.any():
            at = int(np.argmax(wrong))
            raise BadValue(at, f"expected 1 to {TEXT_ID_BYTES_MAX} bytes, got {sizes[at]}")
    return ids


def _check_different(ids: pa.Array) -> None:
    if len(ids) < 2:
        return
    if pa.types.is_uint64(ids.type):
        ordered = np.sort(ids.to_numpy())
        different = bool((ordered[1:] != ordered[:-1]).all())
    else:
        different = len(ids.unique()) == len(ids)
    if different:
        return
    seen: dict[object, int] = {}
    for at, each in enumerate(ids.to_pylist()):
        first = seen.setdefault(each, at)
        if first != at:
            raise InvalidArgument(f"points[{at}] (id {echo(each)}): points[{first}] has the same id")
