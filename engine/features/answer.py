"""What a lookup gives, and how the features that are expressions are made of those that the state keeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from engine.errors import InvalidArgument, nearest, quoted
from engine.features.view import Feature, FeatureKind, View
from engine.limits import LAYOUTS_MAX

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.features.expression import Expression

PRESENT, MISSING, STALE, LOST = 0, 1, 2, 3
"""Status of a row; LOST: the shard that has the entity did not answer in time."""

Numbers = npt.NDArray[np.float64]
Texts = dict[str, list[str | None]]
Given = Mapping[str, Any]
"""Request inputs by name: Arrow arrays, or numpy's (float64, or objects that are text, bytes or None)."""


@dataclass(slots=True)  # not frozen: that costs four times as much to make
class FeatureRows:
    """The features of the entities asked for, a row each, in the order asked.

    `values`: float64 [rows, len(names)], NaN where null and in the columns of text features, whose values are in `texts` by
    name. `event_time_us`: int64 [rows], of the entity's newest event, 0 where it is missing. `status`: uint8 [rows], 0 present,
    1 missing, 2 stale, 3 lost: its shard did not answer in time.
    """

    names: tuple[str, ...]
    values: Numbers
    texts: Mapping[str, list[str | None]]
    event_time_us: npt.NDArray[np.int64]
    status: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A choice of features, resolved. `kept`: what to ask the state for, by index, None for all; `columns`: which of these are
    answered, None for all."""

    names: tuple[str, ...]
    kept: tuple[int, ...] | None
    features: tuple[Feature, ...]
    columns: tuple[int, ...] | None
    computed: tuple[tuple[int, Feature], ...]


class Answers:
    """Makes answers of a view. Any thread."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._index = {feature.name: at for at, feature in enumerate(view.features)}
        self._request = {each.name: each.text for each in view.request}
        self._wanted: dict[tuple[str, ...], Wanted] = {}
        self._all = self._resolve(tuple(self._index))

    def wanted(self, names: Sequence[str] | None) -> Wanted:
        """The choice of these names, in this order. Raises InvalidArgument for one that the view has not."""
        if names is None:
            return self._all
        asked = tuple(names)
        found = self._wanted.get(asked)
        if found is None:
            found = self._resolve(asked)
            if len(self._wanted) >= LAYOUTS_MAX:
                self._wanted.clear()
            self._wanted[asked] = found
        return found

    def _resolve(self, names: tuple[str, ...]) -> Wanted:
        for name in names:
            if name not in self._index:
                raise no_feature(self._view.name, name, self._index)
        needed = set(names)
        for feature in reversed(self._view.features):  # an expression reads what is declared before it
            if feature.name in needed and feature.expression is not None:
                needed |= feature.expression.names & self._index.keys()
        kept = tuple(sorted(self._index[name] for name in needed))
        features = tuple(self._view.features[index] for index in kept)
        at = {feature.name: column for column, feature in enumerate(features)}
        columns = tuple(at[name] for name in names)
        computed = tuple((at[each.name], each) for each in features if each.kind is FeatureKind.EXPRESSION)
        return Wanted(
            names,
            None if len(kept) == len(self._view.features) else kept,
            features,
            None if columns == tuple(range(len(features))) else columns,
            computed,
        )

    def compute(self, wanted: Wanted, values: Numbers, texts: Texts, request: Given) -> None:
        """Fills the expressions' columns of `values`, and of `texts`. A request input that is not given is null.

        Raises InvalidArgument for request inputs that are unknown, of another type, or of another number of rows.
        """
        rows = len(values)
        self._check_request(request, rows)
        for column, feature in wanted.computed:
            assert feature.expression is not None
            if feature.expression.numeric:
                numbers = {name: self._numbers(name, wanted, values, request) for name in feature.expression.names}
                values[:, column] = feature.expression.numbers(numbers, rows)
            else:
                self._evaluate(column, feature, feature.expression, wanted, values, texts, request)

    def _check_request(self, request: Given, rows: int) -> None:
        for name, given in request.items():
            if name not in self._request:
                raise no_request_input(self._view.name, name, self._request)
            if len(given) != rows:
                raise InvalidArgument(
                    f"feature view {quoted(self._view.name)}, request input {quoted(name)}: {len(given)} rows, expected {rows}"
                )

    def _numbers(self, name: str, wanted: Wanted, values: Numbers, request: Given) -> Numbers:
        if name not in self._request:
            return values[:, _column_named(wanted, name)]
        given = request.get(name)
        if given is None:
            return np.full(len(values), np.nan)
        if isinstance(given, np.ndarray) and given.dtype == np.float64:
            return given
        return self._number_array(name, given)

    def _number_array(self, name: str, given: Any) -> Numbers:  # noqa: ANN401
        import pyarrow as pa

        try:
            array = given if isinstance(given, pa.Array) else pa.array(given)
            found: Numbers = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
        except (pa.ArrowException, ValueError, TypeError) as error:
            raise self._mistyped(name, "numbers", error) from error
        return found

    def _mistyped(self, name: str, expected: str, error: Exception) -> InvalidArgument:
        return InvalidArgument(
            f"feature view {quoted(self._view.name)}, request input {quoted(name)}: expected {expected}: {error}"
        )

    def _evaluate(
        self,
        column: int,
        feature: Feature,
        expression: Expression,
        wanted: Wanted,
        values: Numbers,
        texts: Texts,
        request: Given,
    ) -> None:
        """With texts in it, an expression goes over Arrow arrays."""
        import pyarrow as pa

        arrays: dict[str, Any] = {}
        for name in expression.names:
            if self._request.get(name):
                arrays[name] = self._text_array(name, request.get(name), len(values))
            elif name in texts:
                arrays[name] = pa.array(texts[name], pa.string())
            else:
                arrays[name] = pa.array(self._numbers(name, wanted, values, request), pa.float64(), from_pandas=True)
        found = expression.evaluate(arrays, len(values))
        if feature.text:
            texts[feature.name] = found.to_pylist()
        else:
            values[:, column] = found.cast(pa.float64()).to_numpy(zero_copy_only=False)

    def _text_array(self, name: str, given: Any, rows: int) -> pa.Array:  # noqa: ANN401
        import pyarrow as pa

        if given is None:
            return pa.nulls(rows, pa.string())
        try:
            return given.cast(pa.string()) if isinstance(given, pa.Array) else pa.array(given, pa.string())
        except (pa.ArrowException, ValueError, TypeError) as error:
            raise self._mistyped(name, "texts", error) from error


def no_feature(view: str, name: str, known: Iterable[str]) -> InvalidArgument:
    """The error where feature view `view` has not the feature `name` but these."""
    return InvalidArgument(f"feature view {quoted(view)} has no feature {quoted(name)}{nearest(name, known)}")


def no_request_input(view: str, name: str, known: Iterable[str]) -> InvalidArgument:
    """The error where feature view `view` has not the request input `name` but these."""
    return InvalidArgument(f"feature view {quoted(view)} has no request input {quoted(name)}{nearest(name, known)}")


def _column_named(wanted: Wanted, name: str) -> int:
    return next(at for at, feature in enumerate(wanted.features) if feature.name == name)
