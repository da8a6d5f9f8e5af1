"""Bodies of the vector collections' HTTP endpoints: JSON to and from what the engine knows. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import numpy as np

from engine import (
    AnyFound,
    CollectionDescription,
    CollectionSpec,
    DenseLeg,
    Diversity,
    Filter,
    GroupBy,
    Hit,
    InvalidArgument,
    Leg,
    MaxSim,
    Query,
    RankFusion,
    RecommendLeg,
    ScoreFusion,
    SearchParams,
    SnapshotInfo,
    SparseLeg,
    TextLeg,
    as_plain,
    parse_filter,
)
from serving.json_body import decoded
from serving.vectors_codec import K_DEFAULT, only_sparse, only_text, only_vector
from serving.vectors_values import Singles

Body = TypeVar("Body", bound=msgspec.Struct)
Id = int | str
Chosen = bool | list[str]
"""Fields to be told: true is all."""


class _Strict(msgspec.Struct, forbid_unknown_fields=True):
    """A body without unknown keys."""


class UpsertBody(_Strict):
    """PUT .../points."""

    points: list[dict[str, Any]]


class ChosenBody(_Strict):
    """POST .../points/delete."""

    ids: list[Id] | None = None
    filter: dict[str, Any] | None = None


class PayloadBody(_Strict):
    """POST .../points/payload. `fields`: of clearing, null is all."""

    payload: dict[str, Any] | None = None
    fields: list[str] | None = None
    ids: list[Id] | None = None
    filter: dict[str, Any] | None = None
    replace: bool = False


class GetBody(_Strict):
    """POST .../points/get."""

    ids: list[Id]
    payload: Chosen = True
    vectors: Chosen = False


class ScrollBody(_Strict):
    """POST .../scroll."""

    filter: dict[str, Any] | None = None
    limit: int = K_DEFAULT
    after: Id | None = None
    payload: Chosen = True
    vectors: Chosen = False


class CountBody(_Strict):
    """POST .../count."""

    filter: dict[str, Any] | None = None


class Sparse(_Strict):
    """A sparse vector."""

    indices: list[int]
    values: list[float]


class Dense(_Strict):
    """A leg."""

    vector: list[float]
    using: str = ""


class SparseOf(_Strict):
    """A leg."""

    indices: list[int]
    values: list[float]
    using: str = ""


class Text(_Strict):
    """A leg."""

    text: str
    field: str = ""


class Recommend(_Strict):
    """A leg. Examples are ids or vectors."""

    positive: list[Id | list[float]]
    negative: list[Id | list[float]] = []
    using: str = ""


class LegBody(_Strict):
    """One of these."""

    dense: Dense | None = None
    sparse: SparseOf | None = None
    text: Text | None = None
    recommend: Recommend | None = None


class Ranks(_Strict):
    """See RankFusion."""

    k: float = 20.0
    weights: list[float] = []
    depth: int | None = None


class Scores(_Strict):
    """See ScoreFusion."""

    weights: list[float] = []
    depth: int | None = None


class FusionBody(_Strict):
    """One of these."""

    ranks: Ranks | None = None
    scores: Scores | None = None


class Group(_Strict):
    """See GroupBy."""

    field: str
    size: int = 1


class DiversityBody(_Strict):
    """See Diversity."""

    using: str = ""
    weight: float = 0.5
    candidates: int | None = None


class Rerank(_Strict):
    """See MaxSim."""

    using: str
    vectors: list[list[float]]
    candidates: int | None = None


class SearchBody(_Strict):
    """POST .../search."""

    vector: list[float] | Sparse | None = None
    using: str = ""
    legs: list[LegBody] | None = None
    k: int = K_DEFAULT
    offset: int = 0
    filter: dict[str, Any] | None = None
    fusion: FusionBody | None = None
    score_threshold: float | None = None
    group_by: Group | None = None
    diversity: DiversityBody | None = None
    rerank: Rerank | None = None
    candidates: int | None = None
    exact: bool = False
    effort: float = 1.0
    payload: Chosen = False
    vectors: Chosen = False
    explain: bool = False


class BatchBody(_Strict):
    """POST .../search/batch."""

    searches: list[SearchBody]


def parsed(body: bytes, kind: type[Body]) -> Body:
    """Raises InvalidArgument that names the key."""
    return decoded(body or b"{}", kind)


def filter_in(given: Mapping[str, Any] | None, spec: CollectionSpec) -> Filter | None:
    """Raises InvalidArgument that names the place."""
    return None if given is None else parse_filter(given, spec)


def chosen_names(given: Chosen, known: Mapping[str, object]) -> tuple[str, ...]:
    """Of fields or vectors."""
    if isinstance(given, bool):
        return tuple(known) if given else ()
    return tuple(given)


def one_of(ids: Sequence[Id] | None, filter_: Filter | None) -> None:
    """Raises InvalidArgument where not exactly one is there."""
    if (ids is None) == (filter_ is None):
        raise InvalidArgument(f"request body: {_not_one_of('ids', 'filter', none=ids is None)}")


def _not_one_of(first: str, second: str, *, none: bool) -> str:
    return f"has neither '{first}' nor '{second}'" if none else f"has both '{first}' and '{second}'"


def query_in(given: SearchBody, spec: CollectionSpec, tenant: str | None) -> Query:
    """Raises InvalidArgument that names what is wrong, as far as a collection need not be asked."""
    return Query(
        _legs(given, spec),
        given.k,
        given.offset,
        filter=filter_in(given.filter, spec),
        tenant=tenant,
        fusion=_fusion(given.fusion),
        score_threshold=given.score_threshold,
        group_by=None if given.group_by is None else GroupBy(given.group_by.field, given.group_by.size),
        diversity=None if given.diversity is None else _diversity(given.diversity, spec),
        rerank=None if given.rerank is None else _rerank(given.rerank),
        params=SearchParams(given.candidates, given.exact, given.effort),
        payload=chosen_names(given.payload, spec.fields),
        vectors=chosen_names(given.vectors, spec.vectors),
    )


def _legs(given: SearchBody, spec: CollectionSpec) -> tuple[Leg, ...]:
    if (given.vector is None) == (given.legs is None):
        raise InvalidArgument(f"request body: {_not_one_of('vector', 'legs', none=given.legs is None)}")
    if given.legs is not None:
        return tuple(_leg(each, spec, f"legs[{at}]") for at, each in enumerate(given.legs))
    if isinstance(given.vector, Sparse):
        return (_sparse(given.vector, given.using, spec, ""),)
    return (_dense(given.vector or [], given.using, spec, ""),)


def _dense(vector: Sequence[float], using: str, spec: CollectionSpec, path: str) -> DenseLeg:
    return DenseLeg(only_vector(using, spec, path), _singles(vector))


def _singles(numbers: Sequence[Any]) -> Singles:
    """float32, of rows too; what is too large becomes infinite, and is refused as such."""
    with np.errstate(over="ignore"):
        return np.array(numbers, np.float32)


def _sparse(given: Sparse | SparseOf, using: str, spec: CollectionSpec, path: str) -> SparseLeg:
    if any(not 0 <= each < 1 << 32 for each in given.indices):
        raise InvalidArgument(f"{path}indices: expected from 0 to {(1 << 32) - 1}")
    return SparseLeg(only_sparse(using, spec, path), np.array(given.indices, np.uint32), _singles(given.values))


def _leg(given: LegBody, spec: CollectionSpec, path: str) -> Leg:
    there = [each for each in (given.dense, given.sparse, given.text, given.recommend) if each is not None]
    if len(there) != 1:
        raise InvalidArgument(f"{path}: expected one of dense, sparse, text, recommend, got {len(there)} of them")
    leg = there[0]
    if isinstance(leg, Dense):
        return _dense(leg.vector, leg.using, spec, f"{path}.dense.")
    if isinstance(leg, SparseOf):
        return _sparse(leg, leg.using, spec, f"{path}.sparse.")
    if isinstance(leg, Text):
        return TextLeg(only_text(leg.field, spec, f"{path}.text.field"), leg.text)
    return RecommendLeg(
        only_vector(leg.using, spec, f"{path}.recommend."), _examples(leg.positive), _examples(leg.negative)
    )


def _examples(given: Sequence[Id | list[float]]) -> tuple[Any, ...]:
    return tuple(_singles(each) if isinstance(each, list) else each for each in given)


def _fusion(given: FusionBody | None) -> RankFusion | ScoreFusion:
    if given is None or (given.ranks is None and given.scores is None):
        return RankFusion()
    if given.ranks is not None and given.scores is not None:
        raise InvalidArgument("fusion: expected one of ranks, scores, got both")
    if given.ranks is not None:
        return RankFusion(given.ranks.k, tuple(given.ranks.weights), given.ranks.depth)
    assert given.scores is not None
    return ScoreFusion(tuple(given.scores.weights), given.scores.depth)


def _diversity(given: DiversityBody, spec: CollectionSpec) -> Diversity:
    return Diversity(only_vector(given.using, spec, "diversity."), given.weight, given.candidates)


def _rerank(given: Rerank) -> MaxSim:
    sizes = {len(each) for each in given.vectors}
    if len(sizes) != 1:
        raise InvalidArgument(f"rerank.vectors: expected vectors of one size, got {len(sizes)} sizes")
    return MaxSim(given.using, _singles(given.vectors), given.candidates)


def found_out(found: AnyFound, query: Query) -> dict[str, Any]:
    """As JSON."""
    plain: dict[str, Any] = {"hits": [_hit_out(each, query) for each in found.hits]}
    if found.plans:
        plain["plans"] = list(found.plans)
    if found.missing:
        plain["missing"] = list(found.missing)
    return plain


def _hit_out(hit: Hit, query: Query) -> dict[str, Any]:
    plain = {"id": hit.id, "score": hit.score} | carried(hit, payload=bool(query.payload), vectors=bool(query.vectors))
    if query.group_by is not None:
        plain["group"] = hit.group
    return plain


def point_out(hit: Hit, *, payload: bool, vectors: bool) -> dict[str, Any]:
    """A stored point."""
    return {"id": hit.id} | carried(hit, payload=payload, vectors=vectors)


def carried(hit: Hit, *, payload: bool, vectors: bool) -> dict[str, Any]:
    """What was asked for besides. Datetimes are microseconds since 1970, places {"lat", "lon"}."""
    plain: dict[str, Any] = {}
    if payload:
        plain["payload"] = {name: _value_out(each) for name, each in hit.payload.items()}
    if vectors:
        plain["vectors"] = {name: _vector_out(each) for name, each in hit.vectors.items()}
    return plain


def _value_out(value: Any) -> Any:  # noqa: ANN401  of a payload
    if isinstance(value, tuple):
        return {"lat": value[0], "lon": value[1]}
    return [_value_out(each) for each in value] if isinstance(value, list) else value


def _vector_out(vector: Any) -> Any:  # noqa: ANN401  of a hit
    if isinstance(vector, tuple):
        return {"indices": vector[0].tolist(), "values": vector[1].tolist()}
    return vector.tolist()


def collection_out(given: CollectionDescription) -> dict[str, Any]:
    """As JSON."""
    plain: dict[str, Any] = {
        "collection": given.name, "aliases": list(given.aliases), "declared": given.declared,
        "spec": None if given.spec is None else as_plain(given.spec),
    }  # fmt: skip
    if (info := given.info) is not None:
        parts = [
            {
                "name": each.name,
                "rows": each.rows,
                "alive": each.alive,
                "indexes": dict(each.indexes),
                "bytes": each.bytes,
            }
            for each in info.parts
        ]
        plain |= {
            "points": info.points, "parts": parts, "offset": info.offset, "replay_from": info.replay_from,
            "indexing": info.indexing,
        }  # fmt: skip
    problem = given.problem or (None if given.info is None else given.info.problem)
    return plain | ({} if problem is None else {"problem": problem})


def snapshot_out(given: SnapshotInfo) -> dict[str, Any]:
    """As JSON."""
    plain: dict[str, Any] = {
        "collection": given.collection, "snapshot": given.name, "created_us": given.created_us, "bytes": given.bytes,
        "points": given.points, "offset": given.offset,
    }  # fmt: skip
    return plain | ({} if given.problem is None else {"problem": given.problem})
