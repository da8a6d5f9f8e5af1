"""Filters from JSON, in the form that users of Qdrant know. Pure: takes what a JSON reader gave.

{"must": [CONDITION...], "should": [...], "must_not": [...], "min_should": {"conditions": [...], "min_count": 2}}, where one
condition may stand for a list of one, and a condition is such a filter again, or one of

| condition | |
|---|---|
| {"key": F, "match": {"value": V}} | also {"any": [V...]}, {"except": [V...]}, {"text": "words"} |
| {"key": F, "range": {"gt": V, "gte": V, "lt": V, "lte": V}} | instants as RFC 3339 writes them, or in microseconds since 1970 |
| {"key": F, "geo_radius": {"center": {"lat": Y, "lon": X}, "radius": METRES}} | |
| {"key": F, "geo_bounding_box": {"top_left": POINT, "bottom_right": POINT}} | |
| {"key": F, "geo_polygon": {"exterior": {"points": [POINT...]}, "interiors": [{"points": [POINT...]}...]}} | |
| {"key": F, "values_count": {"gte": N}} | |
| {"is_null": {"key": F}}, {"is_empty": {"key": F}} | |
| {"has_id": [ID...]} | |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from engine.errors import InvalidArgument, nearest, quoted
from engine.limits import FILTER_DEPTH_MAX, FILTER_VALUES_MAX
from engine.vectors.declaration import CollectionSpec
from engine.vectors.filter import (
    AnyOf,
    Condition,
    Filter,
    GeoBox,
    GeoPolygon,
    GeoRadius,
    Group,
    HasId,
    HasWords,
    IsEmpty,
    IsNull,
    Match,
    MinShould,
    NoneOf,
    Range,
    ValuesCount,
    placed,
)
from engine.vectors.values import echo, location

_CLAUSES: Final = ("must", "should", "must_not", "min_should")
_BOUNDS: Final = ("gt", "gte", "lt", "lte")


def parse_filter(given: object, spec: CollectionSpec, path: str = "filter") -> Filter:
    """A filter of a collection. Raises InvalidArgument that names the place: "filter.must[1].range.gte: expected a number, got
    'x'"."""
    return Filter.of(_group(given, path, 1), spec, path)


def _group(given: object, path: str, depth: int) -> Group:
    if depth > FILTER_DEPTH_MAX:
        raise InvalidArgument(f"{path}: is nested too deep, at most {FILTER_DEPTH_MAX} groups may be in one another")
    found = _object(given, path, _CLAUSES)
    least = found.get("min_should")
    return Group(
        must=_conditions(found.get("must"), f"{path}.must", depth),
        should=_conditions(found.get("should"), f"{path}.should", depth),
        must_not=_conditions(found.get("must_not"), f"{path}.must_not", depth),
        min_should=None if least is None else _min_should(least, f"{path}.min_should", depth),
    )


def _min_should(given: object, path: str, depth: int) -> MinShould:
    found = _object(given, path, ("conditions", "min_count"), required=("conditions", "min_count"))
    return MinShould(_conditions(found["conditions"], f"{path}.conditions", depth), found["min_count"])


def _conditions(given: object, path: str, depth: int) -> tuple[Condition, ...]:
    if given is None:
        return ()
    if isinstance(given, Mapping):  # one alone; what is wrong with it is told as of a list
        given = [given]
    return tuple(_condition(each, f"{path}[{at}]", depth) for at, each in enumerate(_array(given, path)))


def _condition(given: object, path: str, depth: int) -> Condition:
    if not isinstance(given, Mapping):
        raise InvalidArgument(f"{path}: expected a condition, got {echo(given)}")
    if not given or any(each in given for each in _CLAUSES):
        return _group(given, path, depth + 1)
    if "key" in given:
        return _of_field(given, path)
    found = _object(given, path, tuple(_ALONE))
    if len(found) != 1:
        raise InvalidArgument(f"{path}: expected one condition, got {' and '.join(map(quoted, found))}")
    (name, value), *_ = found.items()
    return _ALONE[name](value, f"{path}.{name}")


def _of_field(given: Mapping[str, Any], path: str) -> Condition:
    found = _object(given, path, ("key", *_OF_FIELDS))
    key = _name(found["key"], f"{path}.key")
    asked = [each for each in found if each != "key" and found[each] is not None]
    if len(asked) != 1:
        raise InvalidArgument(
            f"{path}: expected one of {', '.join(map(quoted, _OF_FIELDS))} of field {quoted(key)}, got "
            f"{' and '.join(map(quoted, asked)) or 'none'}"
        )
    return _OF_FIELDS[asked[0]](key, found[asked[0]], f"{path}.{asked[0]}")


def _match(key: str, given: object, path: str) -> Condition:
    found = _object(given, path, tuple(_MATCHES))
    if len(found) != 1:
        raise InvalidArgument(f"{path}: expected one of {', '.join(map(quoted, _MATCHES))}")
    (name, value), *_ = found.items()
    return _MATCHES[name](key, value, f"{path}.{name}")


def _any(key: str, given: object, path: str) -> Condition:
    return AnyOf(key, tuple(_array(given, path)))


def _except(key: str, given: object, path: str) -> Condition:
    return NoneOf(key, tuple(_array(given, path)))


def _text(key: str, given: Any, path: str) -> Condition:  # noqa: ANN401
    return HasWords(key, given)


def _value(key: str, given: Any, path: str) -> Condition:  # noqa: ANN401
    return Match(key, given)


def _range(key: str, given: object, path: str) -> Condition:
    return Range(key, **_object(given, path, _BOUNDS))


def _values_count(key: str, given: object, path: str) -> Condition:
    return ValuesCount(key, **_object(given, path, _BOUNDS))


def _geo_radius(key: str, given: object, path: str) -> Condition:
    found = _object(given, path, ("center", "radius"), required=("center", "radius"))
    return GeoRadius(key, placed(f"{path}.center", location, found["center"]), found["radius"])


def _geo_box(key: str, given: object, path: str) -> Condition:
    corners = ("top_left", "bottom_right")
    found = _object(given, path, corners, required=corners)
    (north, west), (south, east) = (placed(f"{path}.{each}", location, found[each]) for each in corners)
    return GeoBox(key, north, west, south, east)


def _geo_polygon(key: str, given: object, path: str) -> Condition:
    found = _object(given, path, ("exterior", "interiors"), required=("exterior",))
    inner = _array([] if found.get("interiors") is None else found["interiors"], f"{path}.interiors")
    outer = _ring(found["exterior"], f"{path}.exterior")
    return GeoPolygon(key, (outer, *(_ring(each, f"{path}.interiors[{at}]") for at, each in enumerate(inner))))


def _ring(given: object, path: str) -> tuple[tuple[float, float], ...]:
    points = _array(_object(given, path, ("points",), required=("points",))["points"], f"{path}.points")
    return tuple(placed(f"{path}.points[{at}]", location, each) for at, each in enumerate(points))


def _is_null(given: object, path: str) -> Condition:
    return IsNull(_name(_object(given, path, ("key",), required=("key",))["key"], f"{path}.key"))


def _is_empty(given: object, path: str) -> Condition:
    return IsEmpty(_name(_object(given, path, ("key",), required=("key",))["key"], f"{path}.key"))


def _has_id(given: object, path: str) -> Condition:
    return HasId(tuple(_array(given, path)))


_MATCHES: Final[dict[str, Callable[[str, Any, str], Condition]]] = {
    "value": _value,
    "any": _any,
    "except": _except,
    "text": _text,
}
_OF_FIELDS: Final[dict[str, Callable[[str, object, str], Condition]]] = {
    "match": _match,
    "range": _range,
    "geo_radius": _geo_radius,
    "geo_bounding_box": _geo_box,
    "geo_polygon": _geo_polygon,
    "values_count": _values_count,
}
_ALONE: Final[dict[str, Callable[[object, str], Condition]]] = {
    "is_null": _is_null,
    "is_empty": _is_empty,
    "has_id": _has_id,
}


def _name(given: object, path: str) -> str:
    if not isinstance(given, str):
        raise InvalidArgument(f"{path}: expected a field's name, got {echo(given)}")
    return given


def _array(given: object, path: str) -> Sequence[Any]:
    if not isinstance(given, list | tuple):
        raise InvalidArgument(f"{path}: expected a list, got {echo(given)}")
    if len(given) > FILTER_VALUES_MAX:
        raise InvalidArgument(f"{path}: at most {FILTER_VALUES_MAX} values, got {len(given)}")
    return given


def _object(given: object, path: str, known: Sequence[str], *, required: Sequence[str] = ()) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise InvalidArgument(f"{path}: expected an object, got {echo(given)}")
    for each in given:
        if each not in known:
            raise InvalidArgument(f"{path}: unknown key {quoted(str(each))}{nearest(str(each), known)}")
    for each in required:
        if each not in given:
            raise InvalidArgument(f"{path}: has no {quoted(each)}")
    return given
