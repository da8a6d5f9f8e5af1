"""What a search of the spec filters by: conditions whose values are written there or come with each request. Loads no Arrow.

A value `$name` is the input `name` of the search, of the field's datatype: one value a query ([-1]) for `match` and bounds, any
number of them ([-1, -1]) for `any`, `none` and `ids`. `$$` at the beginning is a plain `$`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from engine.declaration import TensorDeclaration, Value
from engine.errors import InvalidArgument, quoted
from engine.limits import LAYOUTS_MAX
from engine.vectors.declaration import CollectionSpec, ConditionSpec, FieldType, SearchFilterSpec
from engine.vectors.filter import AnyOf, Condition, Filter, Group, HasId, Match, NoneOf, Range, ordered

Problem = tuple[str, str]
"""The key it is at, below the filter, and what is wrong."""
Row = Mapping[str, Any]
"""The parameters of one query: a value each, or a list of them, as Python has them."""

_DATATYPES: Final[Mapping[FieldType, str]] = {
    "keyword": "BYTES", "integer": "INT64", "datetime": "INT64", "float": "FP64", "bool": "BOOL",
}  # fmt: skip
_SAMPLES: Final[Mapping[str, Value]] = {"BYTES": "a", "INT64": 1, "UINT64": 1, "FP64": 1.0, "BOOL": True}
_CLAUSES: Final = ("must", "should", "must_not")
_BOUNDS: Final = ("gt", "gte", "lt", "lte")
_Element = TypeVar("_Element")


def parameter_of(value: object) -> str | None:
    """The name of the parameter that a value of the spec is; None where it is itself."""
    if isinstance(value, str) and value.startswith("$") and not value.startswith("$$"):
        return value[1:]
    return None


def parameters_of(spec: SearchFilterSpec, collection: CollectionSpec) -> dict[str, TensorDeclaration]:
    """The inputs of a search that its filter makes; there are no problems."""
    return {name: each for _, name, each in _parameters(spec, collection)}


def parameter_names(spec: SearchFilterSpec) -> list[str]:
    """The same where the collection is not known: names alone."""
    every = (value for _, each in _conditions(spec) for _, value in _values(each))
    return [name for value in every if (name := parameter_of(value)) is not None]


def filter_problems(spec: SearchFilterSpec, collection: CollectionSpec, taken: Sequence[str]) -> Iterator[Problem]:
    """Why a collection can't be filtered so. `taken`: inputs that the search has already."""
    for key, each in _conditions(spec):
        problem = _shape_problem(each)
        if problem is not None:
            yield key, problem
            return
    found: dict[str, TensorDeclaration] = {}
    try:
        for key, name, declared in _parameters(spec, collection):
            if not name or name in taken:
                yield (
                    key,
                    f"{quoted(f'${name}')}: the search has an input of that name already"
                    if name
                    else "'$' has no name",
                )
            if found.setdefault(name, declared) != declared:
                yield key, f"{quoted(f'${name}')} is {_told(found[name])} elsewhere, and {_told(declared)} here"
        samples = {name: _sample(each) for name, each in found.items()}
        FilterOf(spec, collection).row(samples)
    except InvalidArgument as error:
        key, _, what = error.message.partition(": ")
        yield key.removeprefix("filter."), what


def _told(declared: TensorDeclaration) -> str:
    return f"{declared.datatype} {list(declared.shape)}"


def _sample(declared: TensorDeclaration) -> Any:  # noqa: ANN401
    one = _SAMPLES[declared.datatype]
    return [one] if len(declared.shape) == 2 else one


def _conditions(spec: SearchFilterSpec) -> Iterator[tuple[str, ConditionSpec]]:
    for clause in _CLAUSES:
        for at, each in enumerate(getattr(spec, clause)):
            yield f"{clause}[{at}]", each


def _values(spec: ConditionSpec) -> Iterator[tuple[str, Any]]:
    """What is asked, by key."""
    for key in ("match", "any", "none", "ids", *_BOUNDS):
        value = getattr(spec, key)
        if value is not None:
            yield key, value


def _shape_problem(spec: ConditionSpec) -> str | None:
    asked = [key for key, _ in _values(spec)]
    if (spec.field is None) != (asked == ["ids"]):
        return "expected 'ids' alone, or a 'field'"
    if len(asked) != 1 and not (asked and set(asked) <= set(_BOUNDS)):
        return "expected one of 'match', 'any', 'none', or bounds ('gt', 'gte', 'lt', 'lte')"
    return None


def _parameters(spec: SearchFilterSpec, collection: CollectionSpec) -> Iterator[tuple[str, str, TensorDeclaration]]:
    """The key, the name and the tensor of each. Raises InvalidArgument for a field that takes none."""
    for key, each in _conditions(spec):
        for what, value in _values(each):
            name = parameter_of(value)
            if name is None:
                continue
            shape = (-1,) if what in ("match", *_BOUNDS) else (-1, -1)
            if each.field is None:
                yield key, name, TensorDeclaration("UINT64" if collection.id == "integer" else "BYTES", shape)
                continue
            field = collection.fields.get(each.field)
            datatype = None if field is None else _DATATYPES.get(field.type)
            if field is not None and datatype is None:
                raise InvalidArgument(
                    f"{key}.{what}: field {quoted(each.field)} is {field.type}, which takes no parameter"
                )
            yield key, name, TensorDeclaration(datatype or "BYTES", shape)


class FilterOf:
    """Filters of queries, of a template that has no problems. Any thread.

    What was checked before is not checked again, but for ids that must not be found: those come with a query, such as what its
    user has seen, and the rest is of few kinds.
    """

    def __init__(self, spec: SearchFilterSpec, collection: CollectionSpec) -> None:
        self._collection = collection
        self._spec = spec
        self.parameters = tuple(dict.fromkeys(parameter_names(spec)))
        self._apart = tuple(each for each in spec.must_not if parameter_of(each.ids) is not None)
        self._rest = replace(spec, must_not=tuple(each for each in spec.must_not if each not in self._apart))
        self._told = tuple(dict.fromkeys(parameter_names(self._rest)))
        self._known: dict[tuple[Any, ...], Filter] = {}
        """Of the rest, by the parameters of that."""

    def row(self, given: Row) -> Filter:
        """The filter of one query. Raises InvalidArgument where a value is none of its field's."""
        told = tuple([given[name] for name in self._told])
        try:
            known = self._known.get(told) or self._learn(told, given)
            if not self._apart:
                return known
            apart = Filter.of(Group(must_not=tuple([_made(each, given) for each in self._apart])), self._collection)
        except (
            TypeError,
            InvalidArgument,
        ):  # lists have no hash; and what is wrong is told with its place in all of it
            return self._made(self._spec, given)
        root = known.root
        must_not = ordered((*root.must_not, *apart.root.must_not))
        return Filter(Group(root.must, root.should, must_not, root.min_should), self._collection)

    def _learn(self, told: tuple[Any, ...], given: Row) -> Filter:
        if len(self._known) >= LAYOUTS_MAX:
            self._known.clear()
        found = self._known[told] = self._made(self._rest, given)
        return found

    def _made(self, spec: SearchFilterSpec, given: Row) -> Filter:
        must, should, must_not = (tuple(_made(each, given) for each in getattr(spec, clause)) for clause in _CLAUSES)
        return Filter.of(Group(must, should, must_not), self._collection)


def _made(spec: ConditionSpec, given: Row) -> Condition:
    if spec.ids is not None:
        return HasId(tuple(_value(spec.ids, given)))
    assert spec.field is not None
    if spec.match is not None:
        return Match(spec.field, _value(spec.match, given))
    if spec.any is not None:
        return AnyOf(spec.field, tuple(_value(spec.any, given)))
    if spec.none is not None:
        return NoneOf(spec.field, tuple(_value(spec.none, given)))
    return Range(spec.field, *(_value(getattr(spec, each), given) for each in _BOUNDS))


def _value(value: Any, given: Row) -> Any:  # noqa: ANN401
    name = parameter_of(value)
    if name is not None:
        return given[name]
    if isinstance(value, tuple):
        return tuple(map(_unescaped, value))
    return _unescaped(value)


def _unescaped(value: _Element) -> _Element | str:
    return value[1:] if isinstance(value, str) and value.startswith("$$") else value
