"""Ids, vectors, values and filters of `vireo.v1.Vectors` as the engine has them. Pure.

What is wrong is named by its path: "filter.must[1].field.range: ...".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct

from engine import (
    AnyOf,
    CollectionSpec,
    Condition,
    Filter,
    GeoBox,
    GeoPolygon,
    GeoRadius,
    Group,
    HasId,
    HasWords,
    InvalidArgument,
    IsEmpty,
    IsNull,
    Match,
    MinShould,
    NoneOf,
    PointId,
    Range,
    ValuesCount,
    VireoError,
    limits,
)
from protos.vireo.v1 import vectors_pb2 as pb

Singles = npt.NDArray[np.float32]


@contextmanager
def named(place: str) -> Iterator[None]:
    """Puts a place before the message of what is raised."""
    try:
        yield
    except VireoError as error:
        error.message = f"{place}: {error.message}"
        raise


def struct_values(given: Struct) -> dict[str, Any]:
    """A Struct as JSON has it: whole numbers are whole."""
    found: dict[str, Any] = _whole(json_format.MessageToDict(given))
    return found


def _whole(value: Any) -> Any:  # noqa: ANN401  of JSON
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _whole(each) for key, each in value.items()}
    return [_whole(each) for each in value] if isinstance(value, list) else value


def point_id(given: pb.PointId, path: str) -> PointId:
    """Raises InvalidArgument where there is none."""
    kind = given.WhichOneof("id")
    if kind is None:
        raise InvalidArgument(f"{path}: has neither 'integer' nor 'text'")
    found: PointId = getattr(given, kind)
    return found


def point_ids(given: Sequence[pb.PointId], path: str = "ids") -> list[PointId]:
    """Raises InvalidArgument that names the first which is none."""
    return [point_id(each, f"{path}[{at}]") for at, each in enumerate(given)]


def numbers(given: pb.Vector, path: str) -> Singles:
    """float32 [n]. Raises InvalidArgument."""
    if given.packed:
        if given.values:
            raise InvalidArgument(f"{path}: has both 'packed' and 'values'")
        if len(given.packed) % 4:
            raise InvalidArgument(f"{path}.packed: expected float32 of 4 bytes each, got {len(given.packed)} bytes")
        return np.frombuffer(given.packed, "<f4")
    return np.array(given.values, np.float32)


def vector_of(given: pb.Vector, path: str) -> Any:  # noqa: ANN401  what points_of takes
    """A dense, a sparse or a multi-vector. Raises InvalidArgument."""
    found = numbers(given, path)
    if given.indices:
        return {"indices": np.array(given.indices, np.uint32), "values": found}
    return rows_of(given, found, path) if given.rows else found


def rows_of(given: pb.Vector, found: Singles, path: str) -> Singles:
    """float32 [t, d]. Raises InvalidArgument."""
    if len(found) % given.rows:
        raise InvalidArgument(f"{path}: {len(found)} numbers are not {given.rows} rows")
    return found.reshape(given.rows, -1)


def plain_point(given: pb.Point, path: str) -> dict[str, Any]:
    """As `points_of` takes it."""
    found: dict[str, Any] = {"id": point_id(given.id, f"{path}.id"), "payload": plain_payload(given.payload, path)}
    if given.HasField("vector"):
        if given.vectors:
            raise InvalidArgument(f"{path}: has both 'vector' and 'vectors'")
        found["vector"] = vector_of(given.vector, f"{path}.vector")
    else:
        found["vector"] = {name: vector_of(each, f"{path}.vectors.{name}") for name, each in given.vectors.items()}
    return found


def plain_payload(given: Mapping[str, pb.Value], path: str) -> dict[str, Any]:
    """Field to value."""
    return {name: _value(each, f"{path}.payload.{name}") for name, each in given.items()}


def _value(given: pb.Value, path: str) -> Any:  # noqa: ANN401  of JSON
    kind = given.WhichOneof("kind")
    if kind is None:
        return None
    if kind == "geo":
        return _place(given.geo)
    if kind == "list":
        if any(each.WhichOneof("kind") == "list" for each in given.list.values):
            raise InvalidArgument(f"{path}: a list of lists")
        return [_value(each, f"{path}[{at}]") for at, each in enumerate(given.list.values)]
    return getattr(given, kind)


def _place(given: pb.GeoPoint) -> tuple[float, float]:
    return given.lat, given.lon


def filter_of(given: pb.Filter, spec: CollectionSpec) -> Filter:
    """Raises InvalidArgument that names the place."""
    return Filter.of(_group(given, "filter", 1), spec)


def _group(given: pb.Filter, path: str, depth: int) -> Group:
    if depth > limits.FILTER_DEPTH_MAX:
        raise InvalidArgument(
            f"{path}: is nested too deep, at most {limits.FILTER_DEPTH_MAX} groups may be in one another"
        )
    least = None
    if given.HasField("min_should"):
        conditions = _conditions(given.min_should.conditions, f"{path}.min_should.conditions", depth)
        least = MinShould(conditions, given.min_should.min_count)
    return Group(
        _conditions(given.must, f"{path}.must", depth),
        _conditions(given.should, f"{path}.should", depth),
        _conditions(given.must_not, f"{path}.must_not", depth),
        least,
    )


def _conditions(given: Sequence[pb.Condition], path: str, depth: int) -> tuple[Condition, ...]:
    return tuple(_condition(each, f"{path}[{at}]", depth) for at, each in enumerate(given))


def _condition(given: pb.Condition, path: str, depth: int) -> Condition:
    kind = given.WhichOneof("kind")
    if kind == "field":
        return _field_condition(given.field, f"{path}.field")
    if kind == "filter":
        return _group(given.filter, f"{path}.filter", depth + 1)
    if kind == "has_id":
        return HasId(tuple(point_ids(given.has_id.ids, f"{path}.has_id.ids")))
    if kind is None:
        raise InvalidArgument(f"{path}: says nothing")
    return IsNull(given.is_null) if kind == "is_null" else IsEmpty(given.is_empty)


def _field_condition(given: pb.FieldCondition, path: str) -> Condition:
    kind = given.WhichOneof("test")
    if kind is None:
        raise InvalidArgument(f"{path}: has no test")
    test = getattr(given, kind)
    if kind == "words":
        return HasWords(given.key, test)
    if kind.startswith("geo_"):
        return _geo_condition(given, kind)
    return _compared(given.key, kind, test, f"{path}.{kind}")


def _compared(key: str, kind: str, test: Any, path: str) -> Condition:  # noqa: ANN401  a message
    if kind == "match":
        return Match(key, _value(test, path))
    if kind in ("any", "except"):
        values = tuple(_value(each, f"{path}[{at}]") for at, each in enumerate(test.values))
        return AnyOf(key, values) if kind == "any" else NoneOf(key, values)
    return Range(key, **_bounds(test, path)) if kind == "range" else ValuesCount(key, **_bounds(test, path))


def _geo_condition(given: pb.FieldCondition, kind: str) -> Condition:
    if kind == "geo_radius":
        return GeoRadius(given.key, _place(given.geo_radius.center), given.geo_radius.metres)
    if kind == "geo_box":
        box = given.geo_box
        return GeoBox(given.key, box.top_left.lat, box.top_left.lon, box.bottom_right.lat, box.bottom_right.lon)
    rings = (given.geo_polygon.exterior, *given.geo_polygon.interiors)
    return GeoPolygon(given.key, tuple(tuple(_place(each) for each in ring.points) for ring in rings))


def _bounds(given: pb.Range, path: str) -> dict[str, Any]:
    return {
        name: _value(getattr(given, name), f"{path}.{name}")
        for name in ("gt", "gte", "lt", "lte") if given.HasField(name)
    }  # fmt: skip
