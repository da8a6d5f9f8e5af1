"""Filters asked of one point at a time, in plain Python: what evaluation must agree with; and random ones to ask."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from typing import Any

from engine.vectors.declaration import CollectionSpec, FieldSpec, FieldType, VectorSpec
from engine.vectors.filter import (
    AnyOf,
    Condition,
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
)
from engine.vectors.words import words_of

Row = Mapping[str, Any]
"""Fields by name; those that are null are left out."""


def matches(condition: Condition, row: Row, id_: int | str) -> bool:  # noqa: PLR0911
    """Whether a point with this payload is one a condition, not necessarily a canonical one, is about."""
    if isinstance(condition, Group):
        return _group_matches(condition, row, id_)
    if isinstance(condition, HasId):
        return id_ in condition.ids
    value = row.get(condition.field)
    if isinstance(condition, IsNull):
        return value is None
    if isinstance(condition, IsEmpty):
        return value is None or value == []
    if value is None:
        return False
    values = value if isinstance(value, list) else [value]
    if isinstance(condition, ValuesCount):
        return _within(len(values), condition)
    return any(_value_matches(condition, each) for each in values)


def _group_matches(group: Group, row: Row, id_: int | str) -> bool:
    def count(conditions: tuple[Condition, ...]) -> int:
        return sum(matches(each, row, id_) for each in conditions)

    least = group.min_should
    return (
        count(group.must) == len(group.must)
        and (not group.should or count(group.should) > 0)
        and count(group.must_not) == 0
        and (least is None or count(least.conditions) >= least.min_count)
    )


def _within(value: float, bounds: Range | ValuesCount) -> bool:
    return (
        (bounds.gt is None or value > bounds.gt)  # type: ignore[operator]
        and (bounds.gte is None or value >= bounds.gte)  # type: ignore[operator]
        and (bounds.lt is None or value < bounds.lt)  # type: ignore[operator]
        and (bounds.lte is None or value <= bounds.lte)  # type: ignore[operator]
    )


def _value_matches(condition: Condition, value: Any) -> bool:  # noqa: ANN401, PLR0911
    match condition:
        case Match(_, wanted):
            return bool(value == wanted)
        case AnyOf(_, wanted):
            return value in wanted
        case NoneOf(_, wanted):
            return value not in wanted
        case HasWords(_, text):
            words = set(words_of(text))
            return bool(words) and words <= set(words_of(value))
        case Range():
            return bool(_within(value, condition))
        case GeoRadius(_, centre, metres):
            return _metres(centre, value) <= metres
        case GeoBox(_, north, west, south, east):
            inside = west <= value[1] <= east if west <= east else value[1] >= west or value[1] <= east
            return bool(south <= value[0] <= north and inside)
        case GeoPolygon(_, rings):
            return sum(_crossings(ring, value) for ring in rings) % 2 == 1
    raise AssertionError(condition)


def _metres(one: tuple[float, float], other: tuple[float, float]) -> float:
    """By the angle between two vectors, not by the haversine."""
    (a, b), (c, d) = ((math.radians(x), math.radians(y)) for x, y in (one, other))
    x = (math.cos(a) * math.cos(b), math.cos(a) * math.sin(b), math.sin(a))
    y = (math.cos(c) * math.cos(d), math.cos(c) * math.sin(d), math.sin(c))
    cross = (x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0])
    return 6_371_008.8 * math.atan2(math.hypot(*cross), sum(p * q for p, q in zip(x, y, strict=True)))


def _crossings(ring: tuple[tuple[float, float], ...], value: tuple[float, float]) -> int:
    found = 0
    for (y0, x0), (y1, x1) in zip(ring, (*ring[1:], ring[0]), strict=True):
        if min(y0, y1) <= value[0] < max(y0, y1):
            found += value[1] < x0 + (value[0] - y0) / (y1 - y0) * (x1 - x0)
    return found


WORDS = ("red", "Blue", "straße", "漢字", "x1", "7", "the", "of")
_TYPES: tuple[FieldType, ...] = ("keyword", "integer", "float", "bool", "datetime", "text", "geo")


def random_spec(source: random.Random) -> CollectionSpec:
    """Every type of field alone and as an array, in any order, and either kind of id."""
    fields = [(f"{kind}_{array}", FieldSpec(kind, array=array)) for kind in _TYPES for array in (False, True)]
    source.shuffle(fields)
    kind: Any = source.choice(["integer", "text"])
    return CollectionSpec(vectors={"v": VectorSpec(2)}, id=kind, fields=dict(fields))


def random_value(kind: FieldType, source: random.Random) -> Any:  # noqa: ANN401
    """Of few, so that conditions often hold; now and then of many."""
    wide = source.random() < 0.1
    made: dict[FieldType, Callable[[], Any]] = {
        "keyword": lambda: f"word{source.randrange(1000)}" if wide else source.choice(["", "a", "b", "é", "zz"]),
        "integer": lambda: source.randrange(-(1 << 63), 1 << 63) if wide else source.randrange(-3, 4),
        "float": lambda: source.uniform(-1e300, 1e300) if wide else source.choice([-1.5, -0.0, 0.0, 0.25, 2.0]),
        "bool": lambda: source.random() < 0.3,
        "datetime": lambda: source.randrange(-(10**15), 10**15) if wide else source.randrange(3),
        "text": lambda: " ".join(source.choices(WORDS, k=source.randrange(6))),
        "geo": lambda: (source.uniform(-90, 90), source.uniform(-180, 180)),
    }
    return made[kind]()


def random_row(spec: CollectionSpec, source: random.Random) -> dict[str, Any]:
    """Some fields of it."""
    found: dict[str, Any] = {}
    for name, field in spec.fields.items():
        if source.random() < 0.8:
            count = source.choice([0, 1, 1, 2, 5])
            values = [random_value(field.type, source) for _ in range(count if field.array else 1)]
            found[name] = values if field.array else values[0]
    return found


def random_id(spec: CollectionSpec, source: random.Random) -> int | str:
    """Of few."""
    number = source.randrange(200)
    return (number << 55) + number if spec.id == "integer" else f"id-{number}"


def random_group(spec: CollectionSpec, source: random.Random, depth: int = 3) -> Group:
    """Any of what a group may say."""

    def some(most: int) -> tuple[Condition, ...]:
        return tuple(random_condition(spec, source, depth) for _ in range(source.randrange(most)))

    least = some(5)
    return Group(
        must=some(3),
        should=some(3),
        must_not=some(2),
        min_should=MinShould(least, source.randrange(1, len(least) + 1)) if least and source.random() < 0.5 else None,
    )


def random_condition(spec: CollectionSpec, source: random.Random, depth: int = 3) -> Condition:  # noqa: PLR0911
    """A condition that the spec allows, or a group."""
    if depth and source.random() < 0.2:
        return random_group(spec, source, depth - 1)
    if source.random() < 0.1:
        return HasId(tuple(random_id(spec, source) for _ in range(source.randrange(40))))
    name = source.choice(list(spec.fields))
    kind = spec.fields[name].type
    chosen = source.random()
    if chosen < 0.15:
        others: list[Condition] = [IsNull(name), IsEmpty(name), ValuesCount(name, gt=source.randrange(3), lte=3)]
        return source.choice(others)
    if kind == "text":
        return HasWords(name, random_value("text", source))
    if kind == "geo":
        return _random_area(name, source)
    if kind in ("integer", "float", "datetime") and chosen < 0.6:
        return _random_range(name, kind, source)
    values = tuple(random_value(kind, source) for _ in range(source.choice([0, 1, 2, 3, 20, 60])))
    found: list[Condition] = [Match(name, random_value(kind, source)), AnyOf(name, values), NoneOf(name, values)]
    return source.choice(found)


def _random_range(name: str, kind: FieldType, source: random.Random) -> Range:
    bounds = {each: random_value(kind, source) for each in ("gt", "gte", "lt", "lte") if source.random() < 0.4}
    if kind == "integer":
        bounds = {each: value + source.choice([0, 0.5]) if abs(value) < 9 else value for each, value in bounds.items()}
    return Range(name, **(bounds or {"gte": random_value(kind, source)}))


def _random_area(name: str, source: random.Random) -> Condition:
    place = random_value("geo", source)
    south, north = sorted(source.uniform(-90, 90) for _ in range(2))
    ring = tuple(random_value("geo", source) for _ in range(source.randrange(3, 8)))
    hole = tuple(random_value("geo", source) for _ in range(3))
    areas: list[Condition] = [
        GeoRadius(name, place, source.choice([0.0, 1e5, 5e6, 1.5e7])),
        GeoBox(name, north, source.uniform(-180, 180), south, source.uniform(-180, 180)),
        GeoPolygon(name, (ring,) if source.random() < 0.5 else (ring, hole)),
    ]
    return source.choice(areas)
