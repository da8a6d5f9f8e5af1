"""A declared feature view checked against its log's schema and resolved into a `View`. Pure: of Arrow only the types are used.

docs/reference/features.md is what the words mean. Each fault is a SpecError that names the view, the feature and the key,
what was expected and what came.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from engine.duration import UNITS_US, duration_text
from engine.errors import SpecError, quoted
from engine.features.compilation_aggregates import Aggregates
from engine.features.compilation_columns import ViewColumns
from engine.features.compilation_windows import HALF_LIVES, duration_at
from engine.features.declaration import FeatureSpec, FeatureViewSpec
from engine.features.expression import Expression, ExpressionType, parse
from engine.features.expression_syntax import NAME, WORDS
from engine.features.view import Aggregate, AggregateKind, Feature, FeatureKind, RequestInput, View
from engine.features.window import WindowKind
from engine.limits import FEATURES_MAX, NAME_CHARS_MAX

if TYPE_CHECKING:
    import pyarrow as pa

Place = Callable[[str], str]
"""Where a key of the view, such as "features.sum_1h.column", is written."""

RESERVED: Final = frozenset({"status", "event_time", "as_of"})
"""What a lookup's answer calls its own columns."""

UNWINDOWED_TTL_US: Final = 90 * UNITS_US["d"]
"""How long an entity is kept, where nothing else is said, for what looks at all of its events."""

ENTITIES_MAX: Final = 1 << 31
FORMAT: Final = 1
"""Of the fingerprint: another number refuses every older snapshot."""


def compile_view(name: str, spec: FeatureViewSpec, schema: pa.Schema, place: Place | None = None) -> View:
    """The view `name`, checked and resolved over a log of `schema`; `place` says where its keys are written.

    Equal aggregates are kept once, whatever features they serve. Raises SpecError.
    """
    return _Compiler(name, spec, schema, place or (lambda key: f"feature view {quoted(name)}: {key}")).view()


class _Compiler:
    """One view on its way. `features` grows in the order of the spec; expressions see those before them."""

    def __init__(self, name: str, spec: FeatureViewSpec, schema: pa.Schema, place: Place) -> None:
        self._name = name
        self._spec = spec
        self._place = place
        self._columns = ViewColumns(spec, schema, place)
        self._aggregates = Aggregates(self._columns, place)
        self._features: dict[str, Feature] = {}
        self._types: dict[str, ExpressionType] = {}

    def view(self) -> View:
        """The whole of it."""
        spec = self._spec
        request = self._request()
        for feature, declared in spec.features.items():
            self._add(feature, declared)
        self._count()
        aggregates, features = self._aggregates.sorted(tuple(self._features.values()))
        max_age_us, ttl_us = self._ages(aggregates)
        unsigned = View(
            name=self._name,
            source=spec.source,
            entity=spec.entity,
            event_time=spec.event_time,
            event_id=spec.event_id,
            lateness_us=duration_at(self._place, "lateness", spec.lateness, 0, UNWINDOWED_TTL_US),
            future_us=duration_at(self._place, "future", spec.future, 0, UNWINDOWED_TTL_US),
            max_age_us=max_age_us,
            ttl_us=ttl_us,
            where=self._columns.condition("where", spec.where),
            columns=self._aggregates.columns,
            masks=self._aggregates.masks,
            aggregates=aggregates,
            features=features,
            request=request,
            entities_max=spec.entities_max,
        )
        return _signed(unsigned, self._columns.types())

    def _request(self) -> tuple[RequestInput, ...]:
        for name, kind in self._spec.request.items():
            self._check_name(f"request.{name}", name)
            if name in self._spec.features:
                raise self._fault(f"request.{name}", "a feature has this name too")
            self._types[name] = ExpressionType(kind)
        return tuple(RequestInput(name, kind == "text") for name, kind in self._spec.request.items())

    def _count(self) -> None:
        if not self._features:
            raise self._fault("features", "a view has at least one feature")
        if len(self._features) > FEATURES_MAX:
            raise self._fault("features", f"a view has at most {FEATURES_MAX} features, got {len(self._features)}")
        if not 1 <= self._spec.entities_max <= ENTITIES_MAX:
            raise self._fault("entities_max", f"must be from 1 to {ENTITIES_MAX}, got {self._spec.entities_max}")

    def _add(self, name: str, declared: FeatureSpec) -> None:
        key = f"features.{name}"
        self._check_name(key, name)
        if (declared.aggregation is None) == (declared.expression is None):
            raise self._fault(key, "give either 'aggregation' or 'expression'")
        if declared.expression is not None:
            made = [self._expression(name, declared, declared.expression)]
        else:
            made = self._aggregates.features(name, declared)
        for feature in made:
            self._check_name(key, feature.name)
            if feature.name in self._types or (feature.name != name and feature.name in self._spec.features):
                raise self._fault(key, f"two features or request inputs have the name {quoted(feature.name)}")
            self._features[feature.name] = feature
            kind = feature.expression.type if feature.expression else ExpressionType.NUMBER
            self._types[feature.name] = ExpressionType.TEXT if feature.text else kind

    def _expression(self, name: str, declared: FeatureSpec, text: str) -> Feature:
        key = f"features.{name}"
        if declared != FeatureSpec(expression=text):
            extra = _keys_beside(declared, FeatureSpec(expression=text))
            raise self._fault(f"{key}.{extra[0]}", f"an expression takes no {quoted(extra[0])}")
        try:
            expression = parse(text, self._types)
        except SpecError as error:
            later = [each for each in self._spec.features if each not in self._types and each in error.message]
            hint = f" ({', '.join(map(quoted, later))} is declared later or is this one)" if later else ""
            raise self._fault(f"{key}.expression", f"{error.message}{hint}") from error
        if expression.type not in (ExpressionType.NUMBER, ExpressionType.BOOL, ExpressionType.TEXT):
            raise self._fault(f"{key}.expression", f"a feature is a number, bool or text, got {expression.type}")
        return Feature(name, FeatureKind.EXPRESSION, expression=expression, text=expression.type is ExpressionType.TEXT)

    def _check_name(self, key: str, name: str) -> None:
        if len(name) > NAME_CHARS_MAX or NAME.fullmatch(name) is None:
            rule = f"a name has letters, digits and '_', no digit first, at most {NAME_CHARS_MAX}"
            raise self._fault(key, f"{rule}; got {quoted(name)}")
        if name in WORDS or name in RESERVED or name == self._spec.entity:
            raise self._fault(key, f"the name {quoted(name)} is taken by the language or by the answer's own columns")

    def _ages(self, aggregates: tuple[Aggregate, ...]) -> tuple[int | None, int]:
        """`max_age` and `ttl`, by default long enough for whatever an aggregate looks at."""
        spec, longest = self._spec, UNITS_US["d"] * 3650
        max_age = None if spec.max_age is None else duration_at(self._place, "max_age", spec.max_age, 1, longest)
        if spec.ttl is None:
            return max_age, min(max([max_age or 0, *map(_reach_us, aggregates)]), longest)
        ttl = duration_at(self._place, "ttl", spec.ttl, 1, longest)
        window = max((each.window.length_us for each in aggregates if each.window), default=0)
        if ttl < window:
            raise self._fault("ttl", f"must be at least the longest window, {duration_text(window)}, got {spec.ttl}")
        if max_age is not None and ttl < max_age:
            raise self._fault("ttl", f"must be at least max_age, {spec.max_age}, got {spec.ttl}")
        return max_age, ttl

    def _fault(self, key: str, problem: str) -> SpecError:
        return SpecError(f"{self._place(key)}: {problem}")


def _keys_beside(declared: FeatureSpec, plain: FeatureSpec) -> list[str]:
    return [each for each in FeatureSpec.__slots__ if getattr(declared, each) != getattr(plain, each)]


def _reach_us(aggregate: Aggregate) -> int:
    """How old an event may be and still count, or as good as count."""
    window = aggregate.window
    if window is not None:
        return window.length_us + (0 if window.kind is WindowKind.TUMBLING else window.tile_us)
    if aggregate.kind is AggregateKind.DECAYED:
        return aggregate.half_life_us * HALF_LIVES
    return UNWINDOWED_TTL_US


def _signed(view: View, types: dict[str, str]) -> View:
    """With the fingerprint of all that a stored state depends on; names and expressions of features are no part of it."""
    columns = [[each.kind, each.text, each.value.canonical] for each in view.columns]
    aggregates = [
        [each.kind, each.column, each.mask, _window_key(each), each.half_life_us, each.slots, each.k]
        for each in view.aggregates
    ]
    expressions: list[Expression] = [each.value for each in view.columns] + list(view.masks)
    expressions += [view.where] if view.where else []
    read = {view.entity, view.event_time, *([view.event_id] if view.event_id else [])}
    read |= {name for each in expressions for name in each.names}
    meaning = [
        FORMAT, view.source, view.entity, view.event_time, view.event_id, view.lateness_us, view.future_us,
        view.ttl_us, view.where.canonical if view.where else None, columns, [each.canonical for each in view.masks], aggregates,
        {name: types[name] for name in sorted(read)},
    ]  # fmt: skip
    return replace(view, fingerprint=hashlib.sha256(json.dumps(meaning).encode()).hexdigest())


def _window_key(aggregate: Aggregate) -> list[object] | None:
    window = aggregate.window
    return None if window is None else [window.kind, window.length_us, window.tile_us]
