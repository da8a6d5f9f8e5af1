"""A shop of any size whose users' true tastes are known: what MovieLens and the models learnt of it, scaled by a seed.

Each item and each user is drawn from a real one, its template, whose genres or profile it has and whose taste it keeps in part;
the rest of the taste is drawn anew with the spread of all. An item is as popular as its template, times a log-normal factor. What
is rated follows from true affinity: of three items that a user meets by popularity, the one that it likes best is rated.
Models are told of tastes with an error. Their tables of items are widened: an item's row is its template's.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from benchmarks.workloads.recommendation.catalogue import (
    Dataset,
    Interactions,
    Items,
    Longs,
    Singles,
    Users,
    drawn_offer,
)
from benchmarks.workloads.recommendation.features import TASTE, item_columns
from benchmarks.workloads.recommendation.split import LIKED

KEPT = 0.8
"""Correlation of a taste with its template's."""

OBSERVED = 0.3
"""What models are told of a taste is wrong by this, in its own standard deviations."""

FAR = 9.0
"""Standard deviations."""

RIDGE, BIAS_PRIOR = 6.0, 10.0
POPULARITY_SPREAD = 0.5
MET = 3
EVENTS_EACH = 5
"""Ratings of a user in the mean; their number is geometric."""

DAYS, DAY_S, NOW_S = 200, 86_400, 1_750_000_000

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Tastes:
    """stars = mean + bias of user + bias of item + taste of user . taste of item + noise; a row a number, of nobody the first."""

    mean: float
    noise: float
    user_bias: Singles
    user: Singles
    item_bias: Singles
    item: Singles

    def stars(self, users: Longs, items: Longs) -> Singles:
        """What is to be expected of each pair."""
        fit = np.einsum("nt,nt->n", self.user[users], self.item[items])
        found: Singles = self.mean + self.user_bias[users] + self.item_bias[items] + fit
        return found


@dataclass(frozen=True)
class World:
    """`features` [items + 1, 38] are what models are told; `template`: the learnt item that each stands for. Events are by
    user and time."""

    dataset: Dataset
    features: Singles
    template: Longs
    tastes: Tastes

    def affinity(self, users: Longs, items: Longs) -> Singles:
        """The true chance that each user gives each item LIKED or more: [pairs]."""
        return normal_above((LIKED - 0.5 - self.tastes.stars(users, items)) / self.tastes.noise)

    @cached_property
    def _first(self) -> Longs:
        return np.searchsorted(self.dataset.interactions.user, np.arange(len(self.dataset.users) + 1))

    def history(self, user: int) -> Longs:
        """Items that a user rated, the latest first."""
        return self.dataset.interactions.item[self._first[user] : self._first[user + 1]][::-1]


def make_world(real: Dataset, learnt: Singles, *, items: int, users: int, seed: int) -> World:
    """`learnt` [real items + 1, 38]: rows of the real items. Seconds for a million of each."""
    rng = np.random.default_rng(seed)
    true = fit_tastes(real, learnt[:, -TASTE:])
    made, template, features, bias, taste, popularity = _items(real, learnt, true, items, rng)
    people, user_bias, user_taste = _users(real.users, true, users, rng)
    tastes = Tastes(true.mean, true.noise, user_bias, user_taste, bias, taste)
    return World(Dataset(people, made, _events(tastes, popularity, users, rng)), features, template, tastes)


def fit_tastes(real: Dataset, item: Singles) -> Tastes:
    """Users' tastes for the items' given ones, by ridge regression of the stars that biases leave."""
    events, items, users = real.interactions, len(real.items), len(real.users)
    mean = float(events.rating.mean())
    left = events.rating.astype(np.float64) - mean
    item_bias = _bias(left, events.item, items)
    left -= item_bias[events.item]
    user_bias = _bias(left, events.user, users)
    left -= user_bias[events.user]
    taste = np.zeros((users, TASTE))
    for user in np.unique(events.user).tolist():
        mine = events.user == user
        had = item[events.item[mine]].astype(np.float64)
        taste[user] = np.linalg.solve(had.T @ had + RIDGE * np.eye(TASTE), had.T @ left[mine])
    noise = float(np.std(left - np.einsum("nt,nt->n", taste[events.user], item[events.item])))
    return Tastes(mean, noise, _single(user_bias), _single(taste), _single(item_bias), item)


def widened(model: onnx.ModelProto, template: Longs) -> onnx.ModelProto:
    """The model for a world's items: the rows of its tables `number` and `past` by template."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    for each in made.graph.initializer:
        part, _, kind = each.name.partition(".")
        if part in ("number", "past"):
            rows = numpy_helper.to_array(each)[template] if kind == "weight" else np.array(len(template))
            each.CopyFrom(numpy_helper.from_array(rows, each.name))
    return made


def normal_above(value: Singles) -> Singles:
    """1 - Phi, by Bowling et al.'s logistic approximation (JIEM 2009): off by at most 0.00014."""
    near = np.clip(value, -FAR, FAR)  # beyond it the chance is certain, and the exponential too large
    return _single(1 / (1 + np.exp(0.07056 * near**3 + 1.5976 * near)))


def _items(
    real: Dataset, learnt: Singles, true: Tastes, count: int, rng: np.random.Generator
) -> tuple[Items, Longs, Singles, Singles, Singles, Floats]:
    counts = np.bincount(real.interactions.item, minlength=len(real.items))
    template = np.concatenate([[0], rng.choice(np.flatnonzero(counts), count)])
    offer = drawn_offer(count + 1, rng)
    drawn = real.items
    made = Items(
        drawn.genres[template], drawn.category[template], offer.price, drawn.year[template], offer.in_stock, offer.regions
    )  # fmt: skip
    taste = _jittered(true.item, template, rng)
    bias = _jittered(true.item_bias[:, None], template, rng)[:, 0]
    seen = taste + OBSERVED * true.item[1:].std() * rng.standard_normal(taste.shape, np.float32)
    popularity = counts[template] * rng.lognormal(0, POPULARITY_SPREAD, count + 1)
    popularity[0] = 0
    features = item_columns(made, popularity.astype(np.int64), learnt[template, -TASTE - 1].astype(np.float64), seen)
    features[0] = 0
    return made, template, features, bias, taste, popularity


def _users(real: Users, true: Tastes, count: int, rng: np.random.Generator) -> tuple[Users, Singles, Singles]:
    template = np.concatenate([[0], rng.integers(1, len(real), count)])
    bias = _jittered(true.user_bias[:, None], template, rng)[:, 0]
    return Users(real.profile[template], real.region[template]), bias, _jittered(true.user, template, rng)


def _events(tastes: Tastes, popularity: Floats, users: int, rng: np.random.Generator) -> Interactions:
    """By user and time."""
    user = np.repeat(np.arange(1, users + 1), rng.geometric(1 / EVENTS_EACH, users))
    sums = np.cumsum(popularity)
    best, expected = np.zeros(len(user), np.int64), np.full(len(user), -np.inf, np.float32)
    for _ in range(MET):
        met = np.searchsorted(sums, rng.random(len(user)) * sums[-1], side="right")
        stars = tastes.stars(user, met)
        best = np.where(stars > expected, met, best)
        expected = np.maximum(expected, stars)
    rated = expected + tastes.noise * rng.standard_normal(len(user), np.float32)
    time_s = NOW_S - rng.integers(1, DAYS * DAY_S, len(user))
    order = np.argsort((user << 32) + time_s)
    return Interactions(user, best[order], np.clip(np.rint(rated), 1, 5)[order].astype(np.float32), time_s[order])


def _jittered(every: Singles, template: Longs, rng: np.random.Generator) -> Singles:
    """Correlated by KEPT with the templates' rows, of the spread of all; zeros where the template is 0."""
    mean, spread = every[1:].mean(axis=0), every[1:].std(axis=0)
    fresh = rng.standard_normal((len(template), every.shape[1]), np.float32) * spread
    found = _single(mean + KEPT * (every[template] - mean) + np.sqrt(1 - KEPT**2) * fresh)
    found[template == 0] = 0
    return found


def _bias(left: Floats, row: Longs, rows: int) -> Floats:
    found: Floats = np.bincount(row, left, rows) / (np.bincount(row, minlength=rows) + BIAS_PRIOR)
    return found


def _single(values: NDArray[np.floating]) -> Singles:
    return values.astype(np.float32)
