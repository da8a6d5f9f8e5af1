"""The stack's part of the benchmark: how thorough its search must be, and what both its forms sustain."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.features.part import say
from benchmarks.graphs.contenders import Contender
from benchmarks.peers.slate_stack import DISTANCE, NAMES, ROWS, SEARCHES, FilledRedis, stack_contender
from benchmarks.recommendation.inputs import Shop
from benchmarks.recommendation.recall import found_by_redis, recall_of
from benchmarks.recommendation.served import Answers, answers
from benchmarks.sustained import Found

EFFORTS = (560, 580, 600, 620, 640, 680, 720, 800, 1000, 1400, 2000)
"""How many are searched for, of which 500 are to be left once those are dropped that are not offered."""

CHECKED = 50


@dataclass(frozen=True, slots=True)
class Glued:
    """What the stack did. `lists`: its answers to the first requests. `ef`, `recall` and `filled_s` of what is shown first."""

    found: list[Found] = field(default_factory=list)
    lists: Answers = field(default_factory=list)
    ef: int = 0
    recall: float = 0.0
    filled_s: float = 0.0

    def alike(self, lists: Answers) -> float | None:
        """The share of the items of these lists that the stack's lists have too."""
        if not self.lists:
            return None
        pairs = zip(lists, self.lists, strict=True)
        return float(np.mean([np.isin(ours["item"], theirs["item"]).mean() for ours, theirs in pairs]))


def glued(
    shop: Shop, redis: FilledRedis, out: Path, recall: float, measure: Callable[[Contender], Found]
) -> Glued:  # fmt: skip
    """All forms, searching about as thoroughly as `recall`; by inner product, which is much worse, the first alone. Raises
    ServerError, PeerError."""
    found, lists = [], Answers()
    ef, reached = thorough(shop, redis, recall, out)
    for rows in ROWS if redis.search == DISTANCE else ROWS[:1]:
        say(f"recommendation: {NAMES[rows]}{SEARCHES[redis.search]}, ef {ef}, recall {reached:.1%}")
        with stack_contender(shop, redis, rows, ef, out) as contender:
            lists = answers(contender.port, shop.frames, CHECKED)
            found.append(measure(contender))
    return Glued(found, lists, ef, reached, redis.took_s)


def thorough(shop: Shop, redis: FilledRedis, wanted: float, out: Path) -> tuple[int, float]:
    """The least effort of enough recall, else the greatest; and its recall."""
    recall = 0.0
    for ef in EFFORTS:
        recall = recall_of(shop, found_by_redis(shop, redis, ef, out))
        if recall >= wanted:
            return ef, recall
    return EFFORTS[-1], recall
