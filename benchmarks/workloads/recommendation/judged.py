"""Rankings judged alike: the same queries, the same candidates, the same figures, whoever ranks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.workloads.recommendation.catalogue import Dataset, Longs, Singles
from benchmarks.workloads.recommendation.metrics import mean_of, ndcg_at, recall_at
from benchmarks.workloads.recommendation.split import Query

RECALLS, NDCGS = (20, 100, 500), (10, 20)

Scorer = Callable[[Query], Singles]
"""A score of every item for a query."""


@dataclass(frozen=True, slots=True)
class Case:
    """A query with what may be shown, ascending, and what of that should be."""

    query: Query
    candidates: Longs
    targets: Longs


@dataclass(frozen=True, slots=True)
class Quality:
    """Means over the queries, by k."""

    queries: int
    recall: dict[int, float]
    ndcg: dict[int, float]


def cases_of(dataset: Dataset, queries: Sequence[Query]) -> list[Case]:
    """Candidates: in stock, sold in the user's region, not in the history. Queries without a target among them are left out."""
    found = []
    for query in queries:
        offered = dataset.items.offered(int(dataset.users.region[query.user]))
        offered[query.history] = False
        found.append(Case(query, np.flatnonzero(offered), query.targets[offered[query.targets]]))
    return [each for each in found if len(each.targets)]


def top(scores: Singles, candidates: Longs, k: int) -> Longs:
    """The `k` candidates of the highest scores, of equals the lower number first."""
    return candidates[np.argsort(-scores[candidates], kind="stable")[:k]]


def quality_of(score: Scorer, cases: Sequence[Case]) -> Quality:
    """How well the scores rank each case's candidates."""
    return quality_of_lists([top(score(case.query), case.candidates, max(RECALLS)) for case in cases], cases)


def quality_of_lists(lists: Sequence[Longs], cases: Sequence[Case]) -> Quality:
    """The same of lists that somebody made, one a case."""
    pairs = list(zip(lists, (case.targets for case in cases), strict=True))
    return Quality(
        queries=len(pairs),
        recall={k: mean_of([recall_at(k, *pair) for pair in pairs]) for k in RECALLS},
        ndcg={k: mean_of([ndcg_at(k, *pair) for pair in pairs]) for k in NDCGS},
    )
