"""What a search may ask of a collection, and what is said where it may not. Pure.

A query that is fine comes back as it is: checking one of a single dense vector is on every search's way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from operator import is_
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.errors import InvalidArgument, TooLarge, nearest, quoted
from engine.limits import (
    SEARCH_CANDIDATES_MAX,
    SEARCH_EFFORT_MAX,
    SEARCH_EFFORT_MIN,
    SEARCH_EXAMPLES_MAX,
    SEARCH_K_MAX,
    SEARCH_LEGS_MAX,
    SEARCH_TEXT_BYTES_MAX,
    SPARSE_VALUES_MAX,
    VECTORS_OF_POINT_MAX,
)
from engine.vectors.declaration import CollectionSpec, VectorSpec
from engine.vectors.filter import Filter, for_tenant, placed
from engine.vectors.plain_numbers import flat_indices, flat_numbers, matrix
from engine.vectors.query import (
    DenseLeg,
    Diversity,
    GroupBy,
    Leg,
    MaxSim,
    PointId,
    Query,
    RankFusion,
    RecommendLeg,
    SparseLeg,
    TextLeg,
    Vector,
)
from engine.vectors.values import TEXT_ID_BYTES_MAX, checked_id, echo, float_of, text
from kernels.directions import squared_length

_UNIT: Final = 2e-6
"""How far a squared length may be from 1 to be taken for it: a score is off by half as much, within what float32 sums are."""
_LEAST: Final = float(np.finfo(np.float32).tiny)
_SINGLE: Final = np.dtype(np.float32)
_USUAL: Final = Query((), 1).fusion


def checked_query(spec: CollectionSpec, query: Query) -> Query:
    """`query` if all it says can be asked of the collection: its vectors float32, contiguous and aligned, of length 1 where the
    metric is cosine. 3 µs for one dense leg.

    Raises InvalidArgument, TooLarge.
    """
    check_tenant(spec, query.tenant)
    _check_counts(query)
    legs: tuple[Leg, ...]
    if len(query.legs) == 1:
        leg = _checked_leg(spec, query.legs, 0)
        legs = query.legs if leg is query.legs[0] else (leg,)
    else:
        legs = tuple([_checked_leg(spec, query.legs, at) for at in range(len(query.legs))])
    if query.fusion is not _USUAL:
        _check_fusion(query)
    if query.params.candidates is not None:
        _check_most("candidates", query.params.candidates, SEARCH_CANDIDATES_MAX)
    if query.params.effort != 1.0:
        _check_effort(query.params.effort)
    if query.payload or query.vectors:
        check_names(spec, payload=query.payload, vectors=query.vectors)
    if query.group_by is not None:
        _check_group(spec, query.group_by, query)
    if query.diversity is not None:
        _check_diversity(spec, query.diversity)
    rerank = None if query.rerank is None else _checked_rerank(spec, query.rerank)
    filter_ = None if query.filter is None else query.filter.read_as(spec)
    same = legs is query.legs or all(map(is_, legs, query.legs))
    if same and rerank is query.rerank and filter_ is query.filter:
        return query
    return replace(query, legs=legs, filter=filter_, rerank=rerank)


def check_tenant(spec: CollectionSpec, tenant: str | None) -> None:
    """Raises InvalidArgument where a call names no tenant, though the collection has some, or one where it has none."""
    if spec.tenant is None:
        if tenant is not None:
            raise InvalidArgument(f"tenant: the collection has no tenants, got {echo(tenant)}")
        return
    if tenant is None:
        raise InvalidArgument(
            f"tenant: must be given: the collection's points belong to tenants (field {quoted(spec.tenant)})"
        )
    try:
        size = len(tenant.encode())
    except (UnicodeEncodeError, AttributeError) as error:
        raise InvalidArgument(f"tenant: expected text of valid Unicode, got {echo(tenant)}") from error
    if not 1 <= size <= TEXT_ID_BYTES_MAX:
        raise InvalidArgument(f"tenant: expected 1 to {TEXT_ID_BYTES_MAX} bytes, got {size}")


def checked_filter(spec: CollectionSpec, filter_: Filter | None, tenant: str | None) -> Filter | None:
    """A canonical filter for the tenant's points alone. Raises InvalidArgument."""
    check_tenant(spec, tenant)
    return for_tenant(None if filter_ is None else filter_.read_as(spec), spec, tenant)


def check_names(spec: CollectionSpec, *, payload: Iterable[str] = (), vectors: Iterable[str] = ()) -> None:
    """Raises InvalidArgument where hits are to carry a field, or a dense vector or multi-vector, that there is not."""
    check_fields(spec, payload, "payload")
    for name in vectors:
        if name not in spec.vectors:
            raise InvalidArgument(f"vectors: {_unknown_vector(spec, name)}")


def check_fields(spec: CollectionSpec, names: Iterable[str], path: str) -> None:
    """Raises InvalidArgument, "path: ...", for a field that there is not."""
    for name in names:
        if name not in spec.fields:
            raise InvalidArgument(f"{path}: no field {quoted(str(name))}{nearest(str(name), spec.fields)}")


def checked_ids(spec: CollectionSpec, ids: Sequence[object]) -> list[PointId]:
    """Ids as they are kept. Raises InvalidArgument, "ids[3]: expected ..., got ..."."""
    found: list[PointId] = []
    for at, each in enumerate(ids):
        try:
            found.append(checked_id(each, spec.id))
        except InvalidArgument as error:
            raise InvalidArgument(f"ids[{at}]: {error.message}") from error
    return found


def direction(spec: VectorSpec, given: object) -> Vector:
    """A vector to search by: float32 [d], contiguous, finite, of length 1 where the metric is cosine. Raises InvalidArgument."""
    found: Vector
    if (
        type(given) is np.ndarray
        and given.dtype == _SINGLE
        and given.ndim == 1
        and given.flags.c_contiguous
        and given.flags.aligned
    ):
        found = given
    else:
        found = np.require(flat_numbers(given), np.float32, ["C", "A"])
    if len(found) != spec.size:
        raise InvalidArgument(f"expected {spec.size} dimensions, got {len(found)}")
    square = squared_length(found)
    if spec.metric == "cosine":
        return found if abs(square - 1) <= _UNIT else _of_length_one(found)
    if not square < math.inf:
        _check_finite(found)
    return found


def _of_length_one(vector: Vector) -> Vector:
    _check_finite(vector)
    wide = vector.astype(np.float64)
    length = math.sqrt(float(wide.dot(wide)))
    if length < _LEAST:
        raise InvalidArgument("its length is 0, and cosine needs a direction")
    return np.asarray(wide / length, np.float32)


def _check_finite(vector: Vector) -> None:
    finite = np.isfinite(vector)
    if not finite.all():
        at = int(np.argmin(finite))
        raise InvalidArgument(f"expected finite numbers of 32 bits, got {vector[at]} at dimension {at}")


def _checked_leg(spec: CollectionSpec, legs: Sequence[Leg], at: int) -> Leg:
    leg = legs[at]
    check = _LEGS.get(type(leg))
    if check is None:
        raise InvalidArgument(f"legs[{at}]: expected a leg, got {echo(leg)}")
    try:
        return check(spec, leg)
    except (InvalidArgument, TooLarge) as error:
        if len(legs) == 1:
            raise
        raise type(error)(f"legs[{at}]: {error.message}") from error


def _dense_leg(spec: CollectionSpec, leg: DenseLeg) -> DenseLeg:
    found = _direction_of(leg.vector, _searched(spec, leg.vector), leg.query)
    return leg if found is leg.query else replace(leg, query=found)


def _direction_of(name: str, spec: VectorSpec, given: object) -> Vector:
    try:
        return direction(spec, given)
    except InvalidArgument as error:
        raise InvalidArgument(f"vector {quoted(name)}: {error.message}") from error


def _searched(spec: CollectionSpec, name: str) -> VectorSpec:
    """A dense vector. Raises InvalidArgument for a multi-vector too."""
    found = spec.vectors.get(name)
    if found is None:
        raise InvalidArgument(_unknown_vector(spec, name))
    if found.multi:
        raise InvalidArgument(
            f"vector {quoted(name)} is a multi-vector: it scores candidates again, and is not searched"
        )
    return found


def _unknown_vector(spec: CollectionSpec, name: object) -> str:
    if name in spec.sparse:
        return f"vector {quoted(str(name))} is sparse, expected a dense one"
    return f"no vector {quoted(str(name))}{nearest(str(name), spec.vectors)}"


def _sparse_leg(spec: CollectionSpec, leg: SparseLeg) -> SparseLeg:
    if leg.name not in spec.sparse:
        raise InvalidArgument(f"no sparse vector {quoted(str(leg.name))}{nearest(str(leg.name), spec.sparse)}")
    try:
        indices, values = flat_indices(leg.indices), flat_numbers(leg.values)
        _check_sparse(indices, values)
    except (InvalidArgument, TooLarge) as error:
        raise type(error)(f"sparse vector {quoted(leg.name)}: {error.message}") from error
    return replace(leg, indices=np.require(indices, None, ["C", "A"]), values=np.require(values, None, ["C", "A"]))


def _check_sparse(indices: npt.NDArray[np.uint32], values: Vector) -> None:
    if len(indices) != len(values):
        raise InvalidArgument(f"{len(indices)} indices for {len(values)} values")
    if len(indices) > SPARSE_VALUES_MAX:
        raise TooLarge(f"{len(indices)} values, at most {SPARSE_VALUES_MAX} are allowed")
    wrong = indices[1:] <= indices[:-1]
    if wrong.any():
        at = int(np.argmax(wrong))
        raise InvalidArgument(f"indices: expected to ascend strictly, got {indices[at + 1]} after {indices[at]}")
    _check_finite(values)


def _text_leg(spec: CollectionSpec, leg: TextLeg) -> TextLeg:
    found = spec.fields.get(leg.field)
    if found is None:
        raise InvalidArgument(f"no field {quoted(str(leg.field))}{nearest(str(leg.field), spec.fields)}")
    if found.type != "text":
        raise InvalidArgument(f"field {quoted(leg.field)} is {found.type}, expected text to be searched by words")
    size = len(placed(f"field {quoted(leg.field)}", text, leg.text).encode())
    if size > SEARCH_TEXT_BYTES_MAX:
        raise TooLarge(f"field {quoted(leg.field)}: {size} bytes of text, at most {SEARCH_TEXT_BYTES_MAX} are allowed")
    return leg


def _recommend_leg(spec: CollectionSpec, leg: RecommendLeg) -> RecommendLeg:
    vector = _searched(spec, leg.vector)
    if not leg.positive:
        raise InvalidArgument("positive: expected one example at least")
    if len(leg.positive) + len(leg.negative) > SEARCH_EXAMPLES_MAX:
        count = len(leg.positive) + len(leg.negative)
        raise TooLarge(f"{count} examples, at most {SEARCH_EXAMPLES_MAX} are allowed")
    return replace(
        leg,
        positive=_examples(spec, leg.vector, vector, leg.positive, "positive"),
        negative=_examples(spec, leg.vector, vector, leg.negative, "negative"),
    )


def _examples(
    spec: CollectionSpec, name: str, vector: VectorSpec, given: Sequence[PointId | Vector], path: str
) -> tuple[PointId | Vector, ...]:
    found: list[PointId | Vector] = []
    for at, each in enumerate(given):
        if isinstance(each, int | str):
            found.append(placed(f"{path}[{at}]", checked_id, each, spec.id))
        else:
            found.append(placed(f"{path}[{at}]", _direction_of, name, vector, each))
    return tuple(found)


def _check_counts(query: Query) -> None:
    k, offset, legs = query.k, query.offset, len(query.legs)
    if type(k) is not int or k < 1:
        raise InvalidArgument(f"k: expected from 1 to {SEARCH_K_MAX}, got {echo(k)}")
    if type(offset) is not int or offset < 0:
        raise InvalidArgument(f"offset: expected 0 or more, got {echo(offset)}")
    if k + offset > SEARCH_K_MAX:
        what = f"k: expected at most {SEARCH_K_MAX}, the offset among them, got {echo(k + offset)}"
        raise InvalidArgument(what if offset else f"k: expected from 1 to {SEARCH_K_MAX}, got {echo(k)}")
    if not 1 <= legs <= SEARCH_LEGS_MAX:
        raise InvalidArgument(f"legs: expected from 1 to {SEARCH_LEGS_MAX}, got {legs}")
    if query.score_threshold is not None:
        placed("score_threshold", float_of, query.score_threshold)
    if query.filter is not None and not isinstance(query.filter, Filter):
        raise InvalidArgument(f"filter: expected a filter, got {echo(query.filter)}")


def _check_fusion(query: Query) -> None:
    fusion = query.fusion
    if fusion.weights:
        _check_weights(fusion.weights, len(query.legs))
    if fusion.depth is not None:
        _check_most("fusion.depth", fusion.depth, SEARCH_K_MAX)
    if isinstance(fusion, RankFusion) and not placed("fusion.k", float_of, fusion.k) >= 0:
        raise InvalidArgument(f"fusion.k: expected 0 or more, got {fusion.k}")


def _check_weights(weights: Sequence[float], legs: int) -> None:
    if len(weights) != legs:
        raise InvalidArgument(f"fusion.weights: expected one for each of {legs} legs, got {len(weights)}")
    for at, each in enumerate(weights):
        if placed(f"fusion.weights[{at}]", float_of, each) < 0:
            raise InvalidArgument(f"fusion.weights[{at}]: expected 0 or more, got {each}")
    if not any(weights):
        raise InvalidArgument("fusion.weights: expected one above 0 at least")


def _check_most(path: str, value: int, most: int) -> None:
    if type(value) is not int or not 1 <= value <= most:
        raise InvalidArgument(f"{path}: expected from 1 to {most}, got {echo(value)}")


def _check_effort(value: object) -> None:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not SEARCH_EFFORT_MIN <= value <= SEARCH_EFFORT_MAX
    ):  # NaN is nowhere
        raise InvalidArgument(
            f"effort: expected from {SEARCH_EFFORT_MIN:g} to {SEARCH_EFFORT_MAX:g}, got {echo(value)}"
        )


def _check_group(spec: CollectionSpec, group: GroupBy, query: Query) -> None:
    found = spec.fields.get(group.field)
    if found is None:
        raise InvalidArgument(f"group_by: no field {quoted(str(group.field))}{nearest(str(group.field), spec.fields)}")
    if found.type not in ("keyword", "integer") or found.array:
        kind = f"an array of {found.type}" if found.array else found.type
        raise InvalidArgument(f"group_by: field {quoted(group.field)} is {kind}, expected keyword or integer")
    _check_most("group_by.size", group.size, SEARCH_K_MAX)
    if (query.k + query.offset) * group.size > SEARCH_K_MAX:
        hits = f"{query.k + query.offset} groups of {group.size}"
        raise InvalidArgument(f"group_by: expected at most {SEARCH_K_MAX} hits of all groups, got {hits}")


def _check_diversity(spec: CollectionSpec, diversity: Diversity) -> None:
    placed("diversity", _searched, spec, diversity.vector)
    if not 0 <= placed("diversity.weight", float_of, diversity.weight) <= 1:
        raise InvalidArgument(f"diversity.weight: expected from 0 to 1, got {diversity.weight}")
    if diversity.candidates is not None:
        _check_most("diversity.candidates", diversity.candidates, SEARCH_K_MAX)


def _checked_rerank(spec: CollectionSpec, rerank: MaxSim) -> MaxSim:
    found = spec.vectors.get(rerank.vector)
    if found is None:
        raise InvalidArgument(f"rerank: {_unknown_vector(spec, rerank.vector)}")
    if not found.multi:
        raise InvalidArgument(f"rerank: vector {quoted(rerank.vector)} is no multi-vector")
    if rerank.candidates is not None:
        _check_most("rerank.candidates", rerank.candidates, SEARCH_K_MAX)
    path = f"rerank: vector {quoted(rerank.vector)}"
    rows = placed(path, matrix, rerank.query, found.size, VECTORS_OF_POINT_MAX)
    if not len(rows):
        raise InvalidArgument(f"{path}: expected one vector at least")
    made = [placed(f"{path}: [{at}]", direction, found, each) for at, each in enumerate(rows)]
    return replace(rerank, query=np.stack(made))


_LEGS: Final[Mapping[type, Callable[[CollectionSpec, Any], Leg]]] = {
    DenseLeg: _dense_leg,
    SparseLeg: _sparse_leg,
    TextLeg: _text_leg,
    RecommendLeg: _recommend_leg,
}
