"""A collection as a dictionary, asked one point at a time: what the real one must agree with, and how far they may differ."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import numpy as np

from engine.vectors.declaration import CollectionSpec
from engine.vectors.filter import Condition
from engine.vectors.lexical import K1, B, text_statistics, weighted_terms
from engine.vectors.query import (
    DenseLeg,
    Hit,
    Leg,
    MaxSim,
    RankFusion,
    ScoreFusion,
    SparseLeg,
    TextLeg,
)
from engine.vectors.sparse_index import sparse_idf
from engine.vectors.values import PointId
from engine.vectors.view import Part, View
from engine.vectors.words import term_hashes, words_of
from tests.engine.vectors.plain_filter import matches

Scores = dict[PointId, float]
TOLERANCE: Final = 2e-5


@dataclass(slots=True)
class PlainPoint:
    """`vectors`: as given, of length 1 where the metric is cosine; `rewrites`: how often it was written again from what is
    stored, which may lose a little each time."""

    vectors: dict[str, np.ndarray]
    sparse: dict[str, Mapping[str, Sequence[Any]]]
    payload: dict[str, Any]
    rewrites: int = 0


@dataclass(slots=True)
class PlainCollection:
    """Points by tenant, None where there are none, and id."""

    spec: CollectionSpec
    points: dict[tuple[str | None, PointId], PlainPoint] = field(default_factory=dict)

    def upsert(self, rows: Iterable[Mapping[str, Any]], tenant: str | None) -> None:
        """Points as `points_of` takes them."""
        for row in rows:
            vectors, sparse = {}, {}
            for name, value in row["vector"].items():
                if name in self.spec.sparse:
                    sparse[name] = value
                else:
                    vectors[name] = self._kept(name, value)
            payload = dict(row["payload"])
            if self.spec.tenant is not None:
                payload[self.spec.tenant] = tenant
            self.points[tenant, row["id"]] = PlainPoint(vectors, sparse, payload)

    def _kept(self, name: str, value: Any) -> np.ndarray:  # noqa: ANN401
        spec = self.spec.vectors[name]
        found = np.array(value, np.float64).reshape(-1, spec.size) if spec.multi else np.array(value, np.float64)
        return found / np.linalg.norm(found, axis=-1, keepdims=True) if spec.metric == "cosine" else found

    def ids(self, tenant: str | None) -> list[PointId]:
        """Of one tenant's points."""
        return [id_ for owner, id_ in self.points if owner == tenant]

    def matching(self, condition: Condition | None, tenant: str | None) -> list[PointId]:
        """The points a condition is about."""
        return [
            id_ for (owner, id_), point in self.points.items()
            if owner == tenant and (condition is None or matches(condition, point.payload, id_))
        ]  # fmt: skip

    def delete(self, ids: Iterable[PointId], tenant: str | None) -> int:
        """How many there were."""
        return sum(self.points.pop((tenant, each), None) is not None for each in set(ids))

    def set_payload(
        self, ids: Iterable[PointId], tenant: str | None, values: Mapping[str, Any], *, replace: bool
    ) -> None:
        """Of those that are there; a value None is taken away."""
        for each in ids:
            point = self.points[tenant, each]
            left = {name: value for name, value in point.payload.items() if name == self.spec.tenant or not replace}
            point.payload = {name: value for name, value in {**left, **values}.items() if value is not None}
            point.rewrites += 1

    def clear_payload(self, ids: Iterable[PointId], tenant: str | None, fields: Iterable[str]) -> None:
        """Of those that are there."""
        kept = [each for each in fields if each != self.spec.tenant]
        self.set_payload(ids, tenant, dict.fromkeys(kept), replace=False)


# What is exact: scores of what is stored, by plain numpy.


def living_rows(view: View) -> Iterable[tuple[Part, np.ndarray]]:
    """Parts and their living rows."""
    for each in view.parts:
        rows = np.arange(each.part.rows)
        if each.alive is not None:
            rows = np.flatnonzero(np.unpackbits(each.alive, count=each.part.rows, bitorder="little"))
        yield each.part, rows


def _owned(view: View, tenant: str | None) -> Iterable[tuple[Part, np.ndarray, list[PointId]]]:
    """Parts, the living rows of one tenant, their ids."""
    for part, rows in living_rows(view):
        if view.spec.tenant is not None:
            owners = part.column(view.spec.tenant).to_pylist()
            rows = np.array([each for each in rows.tolist() if owners[each] == tenant], np.int64)
        ids = part.ids.tolist() if isinstance(part.ids, np.ndarray) else part.ids.to_pylist()
        yield part, rows, [ids[each] for each in rows.tolist()]


def stored_vectors(view: View, name: str, tenant: str | None) -> dict[PointId, np.ndarray]:
    """Each point's vector, or multi-vector [t, d], as it is stored; signs of cosine are of length 1."""
    found: dict[PointId, np.ndarray] = {}
    spec = view.spec.vectors[name]
    for part, rows, ids in _owned(view, tenant):
        if spec.multi:
            dense, offsets = part.multi(name)
            flat = dense.float32(slice(None)).astype(np.float64)
            found |= {id_: flat[offsets[row] : offsets[row + 1]] for row, id_ in zip(rows.tolist(), ids, strict=True)}
        else:
            dense = part.dense(name)
            scale = math.sqrt(spec.size) if dense.stored == "binary" and spec.metric == "cosine" else 1.0
            found |= dict(zip(ids, dense.float32(rows).astype(np.float64) / scale, strict=True))
    return found


def scores_of(view: View, plain: PlainCollection, leg: Leg, tenant: str | None) -> Scores:
    """Each point's score as a hit is told it; points that a leg cannot find are left out."""
    if isinstance(leg, DenseLeg):
        return dense_scores(view, leg, tenant)
    if isinstance(leg, SparseLeg):
        return _sparse_scores(view, plain, leg, tenant)
    assert isinstance(leg, TextLeg)
    return _text_scores(view, plain, leg, tenant)


def dense_scores(view: View, leg: DenseLeg, tenant: str | None) -> Scores:
    """By what is stored."""
    vectors = stored_vectors(view, leg.vector, tenant)
    query = leg.query.astype(np.float64)
    if view.spec.vectors[leg.vector].metric == "l2":
        return {id_: float(np.linalg.norm(each - query)) for id_, each in vectors.items()}
    return {id_: float(each @ query) for id_, each in vectors.items()}


def _sparse_scores(view: View, plain: PlainCollection, leg: SparseLeg, tenant: str | None) -> Scores:
    weights = leg.values.astype(np.float64)
    if plain.spec.sparse[leg.name].idf:
        weights = weights * sparse_idf([each.part.sparse(leg.name) for each in view.parts], leg.indices)
    wanted = dict(zip(leg.indices.tolist(), weights.tolist(), strict=True))
    found = {}
    for (owner, id_), point in plain.points.items():
        value = point.sparse.get(leg.name)
        if owner == tenant and value is not None and set(wanted) & set(value["indices"]):
            pairs = zip(value["indices"], value["values"], strict=True)
            found[id_] = sum(wanted.get(index, 0.0) * weight for index, weight in pairs)
    return found


def _text_scores(view: View, plain: PlainCollection, leg: TextLeg, tenant: str | None) -> Scores:
    terms, often = weighted_terms(leg.text, plain.spec.fields[leg.field])
    idf, mean = text_statistics([each.part.text(leg.field) for each in view.parts], terms)
    weights = dict(zip(terms.tolist(), (idf * often).tolist(), strict=True))
    found = {}
    for (owner, id_), point in plain.points.items():
        text = point.payload.get(leg.field)
        if owner != tenant or text is None:
            continue
        words = term_hashes([word for each in ([text] if isinstance(text, str) else text) for word in words_of(each)])
        counts = dict(zip(*(each.tolist() for each in np.unique(words, return_counts=True)), strict=True))
        if shared := set(counts) & set(weights):
            norm = K1 * (1 - B + B * len(words) / mean)
            found[id_] = sum(weights[each] * counts[each] * (K1 + 1) / (counts[each] + norm) for each in shared)
    return found


def maxsim_scores(view: View, by: MaxSim, ids: Iterable[PointId], tenant: str | None) -> Scores:
    """Minus infinity for points without a vector."""
    vectors = stored_vectors(view, by.vector, tenant)
    return {
        each: float((vectors[each] @ by.query.T.astype(np.float64)).max(axis=0).sum())
        if len(vectors[each]) else -math.inf
        for each in ids
    }  # fmt: skip


def fused_scores(legs: Sequence[Sequence[tuple[PointId, float]]], by: RankFusion | ScoreFusion) -> Scores:
    """Of legs that are each best first; scores the higher the better."""
    found: Scores = {}
    for at, leg in enumerate(legs):
        weight = by.weights[at] if by.weights else 1.0
        scores = [score for _, score in leg]
        for rank, (id_, score) in enumerate(leg, 1):
            if isinstance(by, RankFusion):
                gain = 1 / (by.k + rank)
            else:
                apart = max(scores) - min(scores)
                gain = (score - min(scores)) / apart if apart > 0 else 1.0
            found[id_] = found.get(id_, 0.0) + weight * gain
    return found


# How far they may differ.


def tolerance_of(scores: Iterable[float]) -> float:
    """Of sums in single precision."""
    finite = [abs(each) for each in scores if math.isfinite(each)]
    return TOLERANCE * (1 + max(finite, default=0.0))


def check_hits(hits: Sequence[Hit], scores: Scores, *, distances: bool = False) -> None:
    """Every hit has its own score, each point comes once, the best come first."""
    near = tolerance_of(scores.values())
    assert len({each.id for each in hits}) == len(hits), "a point came twice"
    for each in hits:
        assert each.id in scores, f"{each.id} is not to be found"
        assert _near(each.score, scores[each.id], near), f"{each.id}: {each.score}, expected {scores[each.id]}"
    told = [each.score if distances else -each.score for each in hits]
    assert all(one <= other for one, other in pairwise(told)), f"not best first: {told}"


def check_best(hits: Sequence[Hit], scores: Scores, k: int, offset: int = 0, *, distances: bool = False) -> None:
    """The hits are the best k after `offset` better ones; of those that score the same any."""
    check_hits(hits, scores, distances=distances)
    best = sorted(scores.values(), reverse=not distances)[offset : offset + k]
    assert len(hits) == len(best), f"{len(hits)} hits, expected {len(best)} of {len(scores)}"
    near = tolerance_of(scores.values())
    for at, (hit, score) in enumerate(zip(hits, best, strict=True)):
        assert _near(hit.score, score, near), f"hit {at} of {hit.id} scores {hit.score}, the best has {score}"


def check_groups(
    hits: Sequence[Hit], scores: Scores, values: Mapping[PointId, Any], size: int, k: int, offset: int, *,
    distances: bool = False,
) -> None:  # fmt: skip
    """The best k groups after `offset` better ones, each with its best hits; points without a value are in none."""
    of_group: dict[Any, list[float]] = {}
    for id_, score in scores.items():
        if values.get(id_) is not None:
            of_group.setdefault(values[id_], []).append(score)
    tops = {value: sorted(each, reverse=not distances)[:size] for value, each in of_group.items()}
    order = sorted((each[0] for each in tops.values()), reverse=not distances)[offset : offset + k]
    found: dict[Any, list[Hit]] = {}
    for hit in hits:
        assert hit.group == values[hit.id], f"{hit.id} is of {values[hit.id]}, told as {hit.group}"
        assert hit.group not in found or hit.group == next(reversed(found)), f"group {hit.group} comes twice"
        found.setdefault(hit.group, []).append(hit)
    assert len(found) == len(order), f"{len(found)} groups, expected {len(order)} of {len(tops)}"
    for (value, group), best in zip(found.items(), order, strict=True):
        check_best(group, {id_: scores[id_] for id_ in scores if values.get(id_) == value}, size, distances=distances)
        assert _near(group[0].score, best, tolerance_of(scores.values())), f"group {value} is not the next best"


def check_diverse(
    hits: Sequence[Hit], prior: Sequence[tuple[PointId, float]], vectors: Mapping[PointId, np.ndarray], weight: float
) -> None:
    """Each hit is, given those before it, what maximal marginal relevance chooses of `prior`; of nearly equals any."""
    scores = np.array([each for _, each in prior])
    finite = np.isfinite(scores)
    low, apart = (scores[finite].min(), np.ptp(scores[finite])) if finite.any() else (0.0, 0.0)
    relevance = np.where(finite, (scores - low) / apart, 0.0) if apart > 0 else finite.astype(np.float64)
    units = np.array([vectors[id_] / max(float(np.linalg.norm(vectors[id_])), 1e-30) for id_, _ in prior])
    places = {id_: at for at, (id_, _) in enumerate(prior)}
    left = np.ones(len(prior), bool)
    nearest = np.full(len(prior), -np.inf)
    for at, hit in enumerate(hits):
        gains = weight * relevance - (1 - weight) * nearest if at else relevance
        place = places[hit.id]
        assert left[place], f"{hit.id} came twice"
        assert gains[place] >= gains[left].max() - 1e-3, (
            f"hit {at}, {hit.id}, gains {gains[place]} of {gains[left].max()}"
        )
        left[place] = False
        nearest = np.maximum(nearest, units @ units[place])


def _near(one: float, other: float, near: float) -> bool:
    return one == other or abs(one - other) <= near
