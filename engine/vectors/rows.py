"""The Arrow schema of a collection's points: of its log, of what is upserted, of what segments keep.

| column | type |
|---|---|
| `id` | uint64 or string |
| `vector.NAME` | fixed_size_list<float32>[size]; of a multi-vector a list of those |
| `sparse.NAME.indices`, `.values` | list<uint32>, strictly ascending; list<float32> as long; null where there is none |
| `field.NAME` | keyword, text: string; integer: int64; float: float64; bool: bool; datetime: timestamp[us, UTC];
 geo: fixed_size_list<float64>[2], latitude and longitude in degrees; of an array a list of those |

The log has `op` before them, int8: UPSERT, or DELETE, of which only the id counts. Vectors whose metric is cosine have length
1 here already. All columns but `op` and `id` are nullable; a dense vector is null only where `op` is DELETE.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from engine.vectors.by_spec import by_spec
from engine.vectors.declaration import CollectionSpec, FieldSpec, VectorSpec

if TYPE_CHECKING:
    import pyarrow as pa

UPSERT: Final = 0
DELETE: Final = 1

OP: Final = "op"
ID: Final = "id"


def vector_column(name: str) -> str:
    """Of a dense vector or a multi-vector."""
    return f"vector.{name}"


def indices_column(name: str) -> str:
    """Of a sparse vector."""
    return f"sparse.{name}.indices"


def values_column(name: str) -> str:
    """Of a sparse vector."""
    return f"sparse.{name}.values"


def field_column(name: str) -> str:
    """Of a field of the payload."""
    return f"field.{name}"


def vector_type(spec: VectorSpec) -> pa.DataType:
    """Of `vector_column`."""
    import pyarrow as pa

    one = pa.list_(pa.float32(), spec.size)
    return pa.list_(one) if spec.multi else one


def field_type(spec: FieldSpec) -> pa.DataType:
    """Of `field_column`."""
    one = _types()[spec.type]
    import pyarrow as pa

    return pa.list_(one) if spec.array else one


@cache
def _types() -> dict[str, pa.DataType]:
    import pyarrow as pa

    return {
        "keyword": pa.string(),
        "text": pa.string(),
        "integer": pa.int64(),
        "float": pa.float64(),
        "bool": pa.bool_(),
        "datetime": pa.timestamp("us", "UTC"),
        "geo": pa.list_(pa.float64(), 2),
    }


@by_spec
def payload_schema(spec: CollectionSpec) -> pa.Schema:
    """The fields alone, by `field_column`, in declared order."""
    import pyarrow as pa

    return pa.schema([pa.field(field_column(name), field_type(each)) for name, each in spec.fields.items()])


@by_spec
def points_schema(spec: CollectionSpec) -> pa.Schema:
    """Of a batch of points."""
    import pyarrow as pa

    found = [pa.field(ID, pa.uint64() if spec.id == "integer" else pa.string(), nullable=False)]
    found += [pa.field(vector_column(name), vector_type(each)) for name, each in spec.vectors.items()]
    for name in spec.sparse:
        found.append(pa.field(indices_column(name), pa.list_(pa.uint32())))
        found.append(pa.field(values_column(name), pa.list_(pa.float32())))
    return pa.schema([*found, *payload_schema(spec)])


@by_spec
def log_schema(spec: CollectionSpec) -> pa.Schema:
    """Of the collection's log."""
    import pyarrow as pa

    return pa.schema([pa.field(OP, pa.int8(), nullable=False), *points_schema(spec)])
