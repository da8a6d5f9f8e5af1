"""Searches of every kind, made at random and checked against what brute force and plain Python say."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from engine.vectors.collection import Collection
from engine.vectors.filter import Condition, Filter, Group, HasId
from engine.vectors.query import (
    DenseLeg,
    Diversity,
    GroupBy,
    Hit,
    Leg,
    MaxSim,
    Query,
    RankFusion,
    RecommendLeg,
    ScoreFusion,
    SearchParams,
    SparseLeg,
    TextLeg,
)
from engine.vectors.values import PointId
from tests.engine.vectors import plain_filter
from tests.engine.vectors.plain_collection import (
    PlainCollection,
    Scores,
    check_best,
    check_diverse,
    check_groups,
    check_hits,
    fused_scores,
    maxsim_scores,
    scores_of,
    stored_vectors,
)
from tests.engine.vectors.random_points import as_kept, random_direction, random_sparse

POOL: Final = 100
Listed = list[tuple[PointId, float]]


@dataclass(slots=True)
class Recall:
    """Of what indexes were to find, how much they found."""

    wanted: int = 0
    found: int = 0


class Searcher:
    """Makes searches of one collection and checks their answers."""

    def __init__(
        self, collection: Collection, plain: PlainCollection, source: random.Random, numbers: np.random.Generator,
        recall: Recall,
    ) -> None:  # fmt: skip
        self.collection = collection
        self.plain = plain
        self.source = source
        self.numbers = numbers
        self.recall = recall

    def one(self, condition: Condition | None, tenant: str | None) -> None:
        """One search, of any kind."""
        spec, source = self.plain.spec, self.source
        filter_ = None if condition is None else Filter.of(condition, spec)
        kind = source.random()
        legs = tuple(self._leg(tenant) for _ in range(1 if kind < 0.2 else source.choice([1, 1, 1, 2, 3])))
        allowed = set(self.plain.matching(condition, tenant)) - _named(legs)
        query = Query(
            legs, k=source.choice([1, 3, 10, 50, 400]), offset=source.choice([0, 0, 0, 2, 30]), filter=filter_,
            tenant=tenant, params=SearchParams(source.choice([None, 5, 200]), source.random() < 0.5),
        )  # fmt: skip
        if len(legs) > 1:
            query = replace(query, fusion=self._fusion(len(legs)))
        if source.random() < 0.3:
            query = replace(query, payload=tuple(spec.fields), vectors=tuple(spec.vectors))
        if kind < 0.2:
            self._grouped(query, allowed)
        elif kind < 0.3:
            self._diverse(query, allowed)
        elif kind < 0.45 and "late" in spec.vectors:
            self._reranked(query, allowed)
        else:
            self._plain(query, allowed)

    def _leg(self, tenant: str | None) -> Leg:
        spec, source = self.plain.spec, self.source
        kinds = ["dense", "dense", "text", "recommend", *(["sparse"] if spec.sparse else [])]
        kind = source.choice(kinds)
        name = source.choice([each for each, of in spec.vectors.items() if not of.multi])
        if kind == "sparse":
            found = random_sparse(source)
            return SparseLeg("terms", np.array(found["indices"], np.uint32), np.array(found["values"], np.float32))
        if kind == "text":
            fields = [each for each, of in spec.fields.items() if of.type == "text"]
            return TextLeg(source.choice(fields), " ".join(source.choices(plain_filter.WORDS, k=source.randrange(4))))
        size = spec.vectors[name].size
        first = random_direction(size, self.numbers)
        examples: list[Any] = [first]
        if ids := self.plain.ids(tenant):
            examples += source.sample(ids, min(len(ids), 3))
        if kind == "recommend":
            positive = source.sample(examples, source.randrange(1, len(examples) + 1))
            negative = [each for each in examples if not any(each is other for other in positive)]
            recommended = RecommendLeg(name, tuple(positive), tuple(negative[: source.randrange(3)]))
            return recommended if self._has_direction(recommended, tenant) else DenseLeg(name, self._unit(name, first))
        return DenseLeg(name, self._unit(name, first))

    def _unit(self, name: str, vector: np.ndarray) -> np.ndarray:
        if self.plain.spec.vectors[name].metric != "cosine":
            return vector.astype(np.float32)
        found: np.ndarray = vector / np.linalg.norm(vector.astype(np.float64))
        return found.astype(np.float32)

    def _fusion(self, legs: int) -> RankFusion | ScoreFusion:
        source = self.source
        weights = tuple(source.choice([0.5, 1.0, 3.0]) for _ in range(legs)) if source.random() < 0.5 else ()
        depth = source.choice([None, None, 7, 1000])
        if source.random() < 0.5:
            return RankFusion(k=source.choice([0.0, 10.0, 60.0]), weights=weights, depth=depth)
        return ScoreFusion(weights=weights, depth=depth)

    # What is expected.

    def _dense(self, leg: Leg, tenant: str | None) -> Leg:
        """A recommendation as the search by a vector that it is."""
        if not isinstance(leg, RecommendLeg):
            return leg
        return DenseLeg(leg.vector, self._unit(leg.vector, self._example(leg, tenant)))

    def _has_direction(self, leg: RecommendLeg, tenant: str | None) -> bool:
        """Examples of cosine may cancel out, nearly too."""
        return float(np.linalg.norm(self._example(leg, tenant))) > 0.05

    def _example(self, leg: RecommendLeg, tenant: str | None) -> np.ndarray:
        stored = stored_vectors(self.collection.view, leg.vector, tenant)

        def mean(examples: tuple[PointId | np.ndarray, ...]) -> np.ndarray:
            found = [stored[each] if isinstance(each, int | str) else each for each in examples]
            total: np.ndarray = np.mean([self._unit(leg.vector, each) for each in found], axis=0)
            return total

        return 2 * mean(leg.positive) - mean(leg.negative) if leg.negative else mean(leg.positive)

    def _distances(self, legs: tuple[Leg, ...]) -> bool:
        """Whether the lower score is the better."""
        leg = legs[0]
        one = len(legs) == 1 and isinstance(leg, DenseLeg | RecommendLeg)
        return one and self.plain.spec.vectors[leg.vector].metric == "l2"  # type: ignore[union-attr]

    def _leg_scores(self, leg: Leg, allowed: set[PointId], tenant: str | None) -> Scores:
        found = scores_of(self.collection.view, self.plain, self._dense(leg, tenant), tenant)
        return {id_: score for id_, score in found.items() if id_ in allowed}

    def _is_approximate(self, query: Query) -> bool:
        if query.params.exact:
            return False
        names = {each.vector for each in query.legs if isinstance(each, DenseLeg | RecommendLeg)}
        return any(each.part.indexed(name)[0] is not None for each in self.collection.view.parts for name in names)

    def _hits(self, query: Query) -> list[Hit]:
        hits = self.collection.search(query).hits
        for each in hits if query.payload else ():
            point = self.plain.points[query.tenant, each.id]
            assert each.payload == as_kept(self.plain.spec, point.payload), f"payload of {each.id}"
            assert set(each.vectors) == set(query.vectors)
        return hits

    def _prior(self, query: Query, allowed: set[PointId], k: int) -> Listed:
        """The best k by legs and fusion alone, each leg checked by brute force and their fusion by plain Python."""
        bare = replace(
            query, k=k, offset=0, group_by=None, diversity=None, rerank=None, score_threshold=None, payload=(), vectors=()
        )  # fmt: skip
        hits = self._hits(bare)
        if len(query.legs) == 1:
            self._check_leg(query.legs[0], hits, allowed, bare)
            return [(each.id, self._ascending(query.legs, each.score)) for each in hits]
        depth = max(k, query.fusion.depth or max(POOL, 4 * k))
        listed = []
        for leg in query.legs:
            of_leg = self._alone(bare, leg, depth)
            self._check_leg(leg, of_leg, allowed, replace(bare, legs=(leg,), k=depth))
            listed.append([(each.id, self._ascending((leg,), each.score)) for each in of_leg])
        expected = fused_scores(listed, query.fusion)
        check_best(hits, expected, k)
        return [(each.id, each.score) for each in hits]

    def _alone(self, query: Query, leg: Leg, depth: int) -> list[Hit]:
        """One of several legs; the examples of the others are left out of it too."""
        root = Group() if query.filter is None else query.filter.root
        without = replace(root, must_not=(*root.must_not, HasId(tuple(_named(query.legs)))))
        filter_ = Filter.of(without, self.plain.spec) if _named(query.legs) else query.filter
        return self._hits(replace(query, legs=(leg,), k=depth, fusion=RankFusion(), filter=filter_))

    def _ascending(self, legs: tuple[Leg, ...], score: float) -> float:
        return -score * score if self._distances(legs) else score

    def _check_leg(self, leg: Leg, hits: list[Hit], allowed: set[PointId], query: Query) -> None:
        scores = self._leg_scores(leg, allowed, query.tenant)
        distances = self._distances((leg,))
        if not self._is_approximate(query):
            check_best(hits, scores, query.k, query.offset, distances=distances)
            return
        check_hits(hits, scores, distances=distances)
        assert len(hits) == max(0, min(query.k, len(scores) - query.offset)), f"{len(hits)} hits of {len(scores)}"
        if query.k <= 50 and not query.offset:
            order = sorted(scores, key=lambda each: scores[each], reverse=not distances)[: query.k]
            self.recall.wanted += len(order)
            self.recall.found += len(set(order) & {each.id for each in hits})

    # Kinds.

    def _plain(self, query: Query, allowed: set[PointId]) -> None:
        prior = self._prior(query, allowed, query.k + query.offset)
        if self.source.random() < 0.3 and prior:
            self._threshold(query, prior)
            return
        hits = self._hits(query)
        told = [each.id for each in hits]
        if len(query.legs) == 1:
            self._check_leg(query.legs[0], hits, allowed, query)
        else:
            assert told == [id_ for id_, _ in prior][query.offset :], "a page differs from its place in the whole"

    def _threshold(self, query: Query, prior: Listed) -> None:
        """Between two scores, well apart from both."""
        distances = self._distances(query.legs)
        at = self.source.randrange(len(prior))
        told = [np.sqrt(-score) if distances else score for _, score in prior]
        bound = float(told[at] + (0.003 if distances else -0.003))
        hits = self._hits(replace(query, score_threshold=bound))
        expected = [
            id_ for (id_, _), score in zip(prior, told, strict=True)
            if (score <= bound if distances else score >= bound)
        ]  # fmt: skip
        assert [each.id for each in hits] == expected[query.offset :]

    def _grouped(self, query: Query, allowed: set[PointId]) -> None:
        spec = self.plain.spec
        fields = [name for name, each in spec.fields.items() if each.type in ("keyword", "integer") and not each.array]
        by = GroupBy(self.source.choice(fields), self.source.choice([1, 2, 5]))
        query = replace(query, k=min(query.k, 50), group_by=by, params=SearchParams(exact=True))
        legs = query.legs
        scores = self._leg_scores(legs[0], allowed, query.tenant)
        values = {id_: self.plain.points[query.tenant, id_].payload.get(by.field) for id_ in scores}
        hits = self._hits(query)
        check_groups(hits, scores, values, by.size, query.k, query.offset, distances=self._distances(legs))

    def _reranked(self, query: Query, allowed: set[PointId]) -> None:
        by = self._maxsim(self.source.choice([None, 5, 300]))
        wanted = query.k + query.offset
        pool = max(wanted, by.candidates or max(POOL, 4 * wanted))
        prior = self._prior(query, allowed, pool)
        scores = maxsim_scores(self.collection.view, by, [id_ for id_, _ in prior], query.tenant)
        check_best(self._hits(replace(query, rerank=by)), scores, query.k, query.offset)

    def _maxsim(self, candidates: int | None) -> MaxSim:
        size = self.plain.spec.vectors["late"].size
        tokens = [self._unit("late", random_direction(size, self.numbers)) for _ in range(self.source.randrange(1, 4))]
        return MaxSim("late", np.stack(tokens), candidates)

    def _diverse(self, query: Query, allowed: set[PointId]) -> None:
        name = self.source.choice([each for each, of in self.plain.spec.vectors.items() if not of.multi])
        by = Diversity(name, self.source.choice([0.0, 0.3, 0.5, 1.0]), self.source.choice([None, 4, 150]))
        query = replace(query, k=min(query.k, 50), offset=0, diversity=by)
        pool = max(query.k, by.candidates or max(POOL, 4 * query.k))
        prior = self._prior(query, allowed, pool)
        if "late" in self.plain.spec.vectors and self.source.random() < 0.4:
            query = replace(query, rerank=self._maxsim(1))
            assert query.rerank is not None
            scores = maxsim_scores(self.collection.view, query.rerank, [id_ for id_, _ in prior], query.tenant)
            prior = list(scores.items())
        hits = self._hits(query)
        assert len(hits) == min(query.k, len(prior))
        check_hits([replace(each, score=0.0) for each in hits], dict.fromkeys((id_ for id_, _ in prior), 0.0))
        vectors = stored_vectors(self.collection.view, name, query.tenant)
        check_diverse(hits, prior, vectors, by.weight)


def _named(legs: tuple[Leg, ...]) -> set[PointId]:
    return {
        one for each in legs if isinstance(each, RecommendLeg)
        for one in (*each.positive, *each.negative) if isinstance(one, int | str)
    }  # fmt: skip
