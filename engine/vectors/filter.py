"""What points a search or a deletion is about: conditions on the payload, checked against a collection and made canonical. Pure.

A condition on a field never holds where the field is null, except `IsNull` and `IsEmpty`; on an array it holds where it does for
one of its values. Two filters that say the same in another order, with values repeated or in needless groups, are equal, and so
are their parts: bitsets are kept by them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import singledispatch
from typing import Final, TypeVar

from engine.errors import InvalidArgument, TooLarge, nearest, quoted
from engine.limits import FILTER_CONDITIONS_MAX, FILTER_DEPTH_MAX, FILTER_VALUES_MAX
from engine.vectors.declaration import CollectionSpec, FieldSpec, FieldType
from engine.vectors.values import (
    INTEGER_MAX,
    INTEGER_MIN,
    Plain,
    PointId,
    are_integer_ids,
    checked_id,
    echo,
    float_of,
    instant_us,
    integer,
    location,
    number,
    plain_value,
    text,
)
from engine.vectors.words import words_of

Place = tuple[float, float]
"""Latitude and longitude in degrees."""


@dataclass(frozen=True, slots=True)
class Match:
    """The field is `value`: keyword, integer, float, bool, datetime."""

    field: str
    value: Plain


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The field is one of `values`."""

    field: str
    values: tuple[Plain, ...]


@dataclass(frozen=True, slots=True)
class NoneOf:
    """The field is there and none of `values`; of an array one value is none of them."""

    field: str
    values: tuple[Plain, ...]


@dataclass(frozen=True, slots=True)
class HasWords:
    """A text has all words of `text`, in any order; a canonical one has each once, sorted. A text of no words has none to have:
    it holds nowhere."""

    field: str
    text: str


@dataclass(frozen=True, slots=True)
class Range:
    """The field is within bounds: integer, float, datetime. Of integers and datetimes a canonical one has `gte` and `lte`."""

    field: str
    gt: Plain | None = None
    gte: Plain | None = None
    lt: Plain | None = None
    lte: Plain | None = None


@dataclass(frozen=True, slots=True)
class IsNull:
    """The field was left out."""

    field: str


@dataclass(frozen=True, slots=True)
class IsEmpty:
    """The field was left out, or is an array of no values."""

    field: str


@dataclass(frozen=True, slots=True)
class HasId:
    """The point is one of `ids`."""

    ids: tuple[PointId, ...]


NEVER: Final = HasId(())
"""Holds nowhere: what is canonical of bounds with nothing between."""


@dataclass(frozen=True, slots=True)
class GeoRadius:
    """At most `metres` from `centre` along a sphere of 6,371,008.8 m (haversine)."""

    field: str
    centre: Place
    metres: float


@dataclass(frozen=True, slots=True)
class GeoBox:
    """Between two latitudes, and from `west` eastwards to `east`, past 180 degrees where `west` > `east`."""

    field: str
    north: float
    west: float
    south: float
    east: float


@dataclass(frozen=True, slots=True)
class GeoPolygon:
    """Within an odd number of `rings` (the outer one, holes) of points, whose sides are straight in degrees; a ring does not pass
    180 degrees."""

    field: str
    rings: tuple[tuple[Place, ...], ...]


@dataclass(frozen=True, slots=True)
class ValuesCount:
    """How many values an array has is within bounds; what is no array has one."""

    field: str
    gt: int | None = None
    gte: int | None = None
    lt: int | None = None
    lte: int | None = None


@dataclass(frozen=True, slots=True)
class MinShould:
    """At least `min_count` of `conditions` hold."""

    conditions: tuple[Condition, ...]
    min_count: int


@dataclass(frozen=True, slots=True)
class Group:
    """All of `must` hold, one of `should` at least if there are any, what `min_should` says, and none of `must_not`."""

    must: tuple[Condition, ...] = ()
    should: tuple[Condition, ...] = ()
    must_not: tuple[Condition, ...] = ()
    min_should: MinShould | None = None


Condition = (
    Match | AnyOf | NoneOf | HasWords | Range | IsNull | IsEmpty | HasId
    | GeoRadius | GeoBox | GeoPolygon | ValuesCount | Group
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Filter:
    """A canonical filter, from `Filter.of`. `spec`: of the collection it was checked against."""

    root: Group
    spec: CollectionSpec = field(compare=False, repr=False)

    @classmethod
    def of(cls, root: Condition, spec: CollectionSpec, path: str = "filter") -> Filter:
        """`root` checked against a collection. Raises InvalidArgument that names the place below `path` where it asks for a field
        that is not there, compares it with what it cannot be, or passes a bound of `engine.limits`."""
        check = _Check(spec)
        group = root if isinstance(root, Group) else Group(must=(root,))
        return cls(check.group(group, path, 1), spec)

    def read_as(self, spec: CollectionSpec) -> Filter:
        """The same for the collection as it was altered since. Raises as `of`."""
        return self if self.spec is spec else Filter.of(self.root, spec)


def for_tenant(filter_: Filter | None, spec: CollectionSpec, tenant: str | None) -> Filter | None:
    """`filter_` for one tenant's points alone, of a collection that has tenants; else as it is."""
    return filter_ if spec.tenant is None or tenant is None else of_value(filter_, spec, spec.tenant, tenant)


def of_value(filter_: Filter | None, spec: CollectionSpec, name: str, value: Plain) -> Filter:
    """`filter_` for those points alone whose field is `value`, as it is kept."""
    root = Group() if filter_ is None else filter_.root
    return Filter(replace(root, must=ordered((Match(name, value), *root.must))), spec)


_COMPARED: Final[tuple[FieldType, ...]] = ("keyword", "integer", "float", "bool", "datetime")
_ORDERED: Final[tuple[FieldType, ...]] = ("integer", "float", "datetime")
_Made = TypeVar("_Made")


class _Check:
    """Of one filter: counts what it has."""

    def __init__(self, spec: CollectionSpec) -> None:
        self.spec = spec
        self._conditions = 0
        self._values = 0

    def group(self, given: Group, path: str, depth: int) -> Group:
        if depth > FILTER_DEPTH_MAX:
            raise InvalidArgument(
                f"{path}: is nested too deep, at most {FILTER_DEPTH_MAX} groups may be in one another"
            )
        must = self._all(given.must, f"{path}.must", depth)
        should = self._all(given.should, f"{path}.should", depth)
        must_not = self._all(given.must_not, f"{path}.must_not", depth)
        least = given.min_should
        if least is not None:
            count = self._min_count(least, f"{path}.min_should")
            conditions = self._all(least.conditions, f"{path}.min_should.conditions", depth)
            if count == len(conditions):
                must, least = (*must, *conditions), None
            else:
                least = MinShould(_sorted(conditions), count)
        if len(should) == 1:
            must, should = (*must, *should), ()
        if least is not None and least.min_count == 1 and not should:
            should, least = least.conditions, None
        return Group(ordered(_inlined(must)), ordered(should), ordered(must_not), least)

    def _all(self, given: Sequence[Condition], path: str, depth: int) -> tuple[Condition, ...]:
        return tuple(self._one(each, f"{path}[{at}]", depth) for at, each in enumerate(given)) if given else ()

    def _one(self, given: Condition, path: str, depth: int) -> Condition:
        self._conditions += 1
        if self._conditions > FILTER_CONDITIONS_MAX:
            raise InvalidArgument(f"{path}: a filter has at most {FILTER_CONDITIONS_MAX} conditions")
        if isinstance(given, Group):
            return self.group(given, path, depth + 1)
        return _canonical(given, self, path)

    def _min_count(self, least: MinShould, path: str) -> int:
        count = placed(f"{path}.min_count", integer, least.min_count)
        if not 1 <= count <= len(least.conditions):
            raise InvalidArgument(
                f"{path}.min_count: expected from 1 to {len(least.conditions)}, the conditions there are, got {echo(count)}"
            )
        return count

    def field(self, name: str, path: str, kinds: Iterable[FieldType] = (), what: str = "") -> FieldSpec:
        """The field, which is of one of `kinds` if any are given."""
        found = self.spec.fields.get(name)
        if found is None:
            known = nearest(str(name), self.spec.fields)
            raise InvalidArgument(f"{path}.key: no field {quoted(str(name))}{known}")
        if kinds and found.type not in kinds:
            hint = "; its words are matched by 'text'" if found.type == "text" and "keyword" in kinds else ""
            raise InvalidArgument(
                f"{path}.{what}: field {quoted(name)} is {found.type}, expected {' or '.join(kinds)}{hint}"
            )
        return found

    def count(self, values: int, path: str) -> None:
        self._values += values
        if self._values > FILTER_VALUES_MAX:
            raise InvalidArgument(
                f"{path}: a filter compares with at most {FILTER_VALUES_MAX} values, got {self._values}"
            )

    def values(self, field: str, given: Sequence[Plain], path: str, what: str) -> tuple[Plain, ...]:
        """Sorted, each once."""
        kind = self.field(field, path, _COMPARED, what).type
        where = f"{path}.{what}"
        self.count(len(given), where)
        found = {placed(f"{where}[{at}]", plain_value, kind, each) for at, each in enumerate(given)}
        return tuple(sorted(found))


def placed(path: str, make: Callable[..., _Made], *given: object) -> _Made:
    """What `make` gives; its InvalidArgument or TooLarge begins with `path`."""
    try:
        return make(*given)
    except (InvalidArgument, TooLarge) as error:
        raise type(error)(f"{path}: {error.message}") from error


def _inlined(conditions: Iterable[Condition]) -> Iterable[Condition]:
    """Groups that only say what must be, as what they say: their insides are inlined already."""
    for each in conditions:
        if isinstance(each, Group) and not (each.should or each.must_not or each.min_should):
            yield from each.must
        else:
            yield each


def _sorted(conditions: Iterable[Condition]) -> tuple[Condition, ...]:
    return tuple(sorted(conditions, key=repr))


def ordered(conditions: Iterable[Condition]) -> tuple[Condition, ...]:
    """Sorted, each once."""
    found = dict.fromkeys(conditions)
    return tuple(found) if len(found) < 2 else _sorted(found)


@singledispatch
def _canonical(given: Condition, check: _Check, path: str) -> Condition:
    raise InvalidArgument(f"{path}: expected a condition, got {echo(given)}")


@_canonical.register
def _(given: Match, check: _Check, path: str) -> Condition:
    kind = check.field(given.field, path, _COMPARED, "match.value").type
    check.count(1, path)
    return Match(given.field, placed(f"{path}.match.value", plain_value, kind, given.value))


@_canonical.register
def _(given: AnyOf, check: _Check, path: str) -> Condition:
    values = check.values(given.field, given.values, path, "match.any")
    if len(values) < 2:
        return Match(given.field, values[0]) if values else NEVER
    return AnyOf(given.field, values)


@_canonical.register
def _(given: NoneOf, check: _Check, path: str) -> Condition:
    return NoneOf(given.field, check.values(given.field, given.values, path, "match.except"))


@_canonical.register
def _(given: HasWords, check: _Check, path: str) -> Condition:
    check.field(given.field, path, ("text",), "match.text")
    words = sorted(set(words_of(placed(f"{path}.match.text", text, given.text))))
    check.count(len(words), f"{path}.match.text")
    return HasWords(given.field, " ".join(words))


@_canonical.register
def _(given: Range, check: _Check, path: str) -> Condition:
    kind = check.field(given.field, path, _ORDERED, "range").type
    bounds = _bounds(given, f"{path}.range", instant_us if kind == "datetime" else number)
    check.count(len(bounds), path)
    if kind == "float":
        floats = {name: placed(f"{path}.range.{name}", float_of, each) for name, each in bounds.items()}
        return Range(given.field, **_tightest(floats))
    low = max(_least(bounds), INTEGER_MIN)
    high = min(_greatest(bounds), INTEGER_MAX)
    return Range(given.field, gte=low, lte=high) if low <= high else NEVER


@_canonical.register
def _(given: ValuesCount, check: _Check, path: str) -> Condition:
    check.field(given.field, path)
    bounds = _bounds(given, f"{path}.values_count", integer)
    check.count(len(bounds), path)
    low, high = max(_least(bounds), 0), min(_greatest(bounds), INTEGER_MAX)
    return ValuesCount(given.field, gte=low, lte=high) if low <= high else NEVER


def _bounds(given: Range | ValuesCount, path: str, make: Callable[[object], int | float]) -> dict[str, int | float]:
    named = {"gt": given.gt, "gte": given.gte, "lt": given.lt, "lte": given.lte}
    found = {name: placed(f"{path}.{name}", make, each) for name, each in named.items() if each is not None}
    if not found:
        raise InvalidArgument(f"{path}: expected one of 'gt', 'gte', 'lt', 'lte' at least")
    return found


def _least(bounds: dict[str, int | float]) -> int:
    """The least whole number within the lower bounds."""
    found = [math.floor(bounds["gt"]) + 1] if "gt" in bounds else []
    return max([*found, *([math.ceil(bounds["gte"])] if "gte" in bounds else [])], default=INTEGER_MIN)


def _greatest(bounds: dict[str, int | float]) -> int:
    found = [math.ceil(bounds["lt"]) - 1] if "lt" in bounds else []
    return min([*found, *([math.floor(bounds["lte"])] if "lte" in bounds else [])], default=INTEGER_MAX)


def _tightest(bounds: dict[str, float]) -> dict[str, float]:
    """Of two lower bounds and of two upper ones that which counts."""
    if "gt" in bounds and "gte" in bounds:
        del bounds["gte" if bounds["gt"] >= bounds["gte"] else "gt"]
    if "lt" in bounds and "lte" in bounds:
        del bounds["lte" if bounds["lt"] <= bounds["lte"] else "lt"]
    return bounds


@_canonical.register
def _(given: IsNull, check: _Check, path: str) -> Condition:
    check.field(given.field, f"{path}.is_null")
    return given


@_canonical.register
def _(given: IsEmpty, check: _Check, path: str) -> Condition:
    found = check.field(given.field, f"{path}.is_empty")
    return given if found.array else IsNull(given.field)


@_canonical.register
def _(given: HasId, check: _Check, path: str) -> Condition:
    check.count(len(given.ids), f"{path}.has_id")
    kind = check.spec.id
    if kind == "integer" and are_integer_ids(given.ids):
        return HasId(tuple(sorted(set(given.ids))))
    found = {placed(f"{path}.has_id[{at}]", checked_id, each, kind) for at, each in enumerate(given.ids)}
    return HasId(tuple(sorted(found)))


@_canonical.register
def _(given: GeoRadius, check: _Check, path: str) -> Condition:
    check.field(given.field, path, ("geo",), "geo_radius")
    check.count(1, path)
    metres = placed(f"{path}.geo_radius.radius", float_of, given.metres)
    if metres < 0:
        raise InvalidArgument(f"{path}.geo_radius.radius: expected metres, 0 or more, got {metres}")
    return GeoRadius(given.field, placed(f"{path}.geo_radius.center", location, given.centre), metres)


@_canonical.register
def _(given: GeoBox, check: _Check, path: str) -> Condition:
    check.field(given.field, path, ("geo",), "geo_bounding_box")
    check.count(2, path)
    where = f"{path}.geo_bounding_box"
    north, west = placed(f"{where}.top_left", location, (given.north, given.west))
    south, east = placed(f"{where}.bottom_right", location, (given.south, given.east))
    if south > north:
        raise InvalidArgument(f"{where}: its top, latitude {north}, is below its bottom, latitude {south}")
    return GeoBox(given.field, north, west, south, east)


@_canonical.register
def _(given: GeoPolygon, check: _Check, path: str) -> Condition:
    check.field(given.field, path, ("geo",), "geo_polygon")
    check.count(sum(map(len, given.rings)), f"{path}.geo_polygon")
    if not given.rings or min(map(len, given.rings)) < 3:
        raise InvalidArgument(f"{path}.geo_polygon: expected rings of 3 points or more")
    rings = tuple(tuple(placed(f"{path}.geo_polygon", location, each) for each in ring) for ring in given.rings)
    return GeoPolygon(given.field, rings)
