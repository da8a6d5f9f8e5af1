"""A small shop with models of random weights: what is served of it can be said in numpy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from benchmarks.workloads.recommendation.application import (
    CANDIDATES,
    FEATURES,
    GENRES,
    HISTORY,
    ITEM,
    PROFILE,
    REGIONS,
    SLATE,
    USER,
    VECTOR,
    Application,
    Shelf,
    load_items,
    load_users,
    push_ratings,
    show_items,
)
from benchmarks.workloads.recommendation.steps import GROUPS
from engine import Engine
from kernels.reference_vectors import diverse_within
from kernels.relevance import scaled
from tests.engine.onnx_models import FLOAT, INT64, graph, write

ITEMS, USERS, RATERS, HIDDEN, CATEGORIES = 1500, 40, 30, 16, 12
NOW_US = 1_750_000_000_000_000
DAY_US = 86_400_000_000

Singles = NDArray[np.float32]


@dataclass(frozen=True)
class Listed:
    """What is shown: items in order, their scores, and the groups that matter most."""

    items: list[int]
    scores: Singles
    retrieval: Singles
    reasons: list[list[str]]


class Shop:
    """Items 1 to ITEMS, of whom users up to RATERS rated some, and two models; all of it drawn from one seed."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)

        def normal(*shape: int) -> Singles:
            return rng.standard_normal(shape).astype(np.float32)

        vector = normal(ITEMS, VECTOR)
        self.shelf = Shelf(
            np.arange(1, ITEMS + 1), rng.integers(0, CATEGORIES, ITEMS), rng.integers(0, 10, ITEMS),
            rng.integers(0, 1 << REGIONS, ITEMS), normal(ITEMS, FEATURES),
            vector / np.linalg.norm(vector, axis=1, keepdims=True),
        )  # fmt: skip
        self.profile = normal(USERS, PROFILE)
        events = 3000
        self.user, self.item = rng.integers(0, RATERS, events), rng.integers(1, ITEMS + 1, events)
        self.at = np.sort(NOW_US - rng.integers(1, 200 * DAY_US, events))
        self.stars = rng.integers(1, 6, events).astype(np.float64)
        self.genres = rng.random((ITEMS + 1, GENRES)) < 0.15
        self.weights = {
            "of_user": normal(USER, VECTOR) / 8, "of_seen": normal(ITEMS + 1, VECTOR) / 8,
            "user_hidden": normal(USER, HIDDEN) / 8, "vector_hidden": normal(VECTOR, HIDDEN) / 8,
            "items_hidden": normal(ITEM, HIDDEN) / 10, "item_hidden": normal(ITEMS + 1, HIDDEN) / 8,
            "category_hidden": normal(CATEGORIES, HIDDEN) / 8, "last": normal(HIDDEN) / 4,
        }  # fmt: skip

    def write_models(self, application: Application) -> None:
        """As ONNX files."""
        node = helper.make_node
        tower = graph(
            [
                node("MatMul", ["user", "of_user"], ["who"]),
                node("Gather", ["of_seen", "history"], ["each"]),
                node("ReduceSum", ["each", "axis"], ["past"], keepdims=0),
                node("Add", ["who", "past"], ["vector"]),
            ],
            {"user": (FLOAT, ["rows", USER]), "history": (INT64, ["rows", HISTORY])},
            {"vector": (FLOAT, ["rows", VECTOR])},
            [*self._initializers("of_user", "of_seen"), numpy_helper.from_array(np.array([1]), "axis")],
        )
        ranker = graph(
            [
                node("MatMul", ["user", "user_hidden"], ["a"]),
                node("MatMul", ["user_vector", "vector_hidden"], ["b"]),
                node("MatMul", ["items", "items_hidden"], ["c"]),
                node("Gather", ["item_hidden", "item"], ["d"]),
                node("Gather", ["category_hidden", "category"], ["e"]),
                node("Sum", ["a", "b", "c", "d", "e"], ["sum"]),
                node("Relu", ["sum"], ["hidden"]),
                node("MatMul", ["hidden", "last"], ["logit"]),
                node("Sigmoid", ["logit"], ["score"]),
            ],
            {
                "user": (FLOAT, [1, USER]), "user_vector": (FLOAT, [1, VECTOR]), "items": (FLOAT, ["n", ITEM]),
                "item": (INT64, ["n"]), "category": (INT64, ["n"]),
            },
            {"score": (FLOAT, ["n"])},
            self._initializers(
                "user_hidden", "vector_hidden", "items_hidden", "item_hidden", "category_hidden", "last"
            ),
        )  # fmt: skip
        for name, model in (("user_tower", tower), ("ranker", ranker)):
            write(application.model(name).parent, model)

    def _initializers(self, *names: str) -> list[Any]:
        return [numpy_helper.from_array(self.weights[each], each) for each in names]

    def fill(self, engine: Engine) -> None:
        """The collections, users without the last of them, and the log."""
        load_items(engine, self.shelf)
        show_items(engine)
        load_users(engine, np.arange(USERS - 1), self.profile[:-1])
        self._append(engine, self.user, self.item, self.at, self.stars)

    def rate(self, engine: Engine, user: list[int], item: list[int], at: list[int], stars: list[float]) -> None:
        """Ratings that come now."""
        self._append(engine, *map(np.array, (user, item, at, stars)))
        self.user, self.item = np.append(self.user, user), np.append(self.item, item)
        self.at, self.stars = np.append(self.at, at), np.append(self.stars, stars)

    def _append(self, engine: Engine, user: Any, item: Any, at: Any, stars: Any) -> None:  # noqa: ANN401  numpy's arrays
        """Into the log; returns when the view has them."""
        push_ratings(engine, user, item, at, stars, self.genres[item])

    # The same by plain numpy.

    def history(self, user: int) -> NDArray[np.int64]:
        """The last items, newest first, and zeros."""
        found = np.zeros(HISTORY, np.int64)
        last = self.item[self.user == user][::-1][:HISTORY]
        found[: len(last)] = last
        return found

    def row(self, user: int) -> Singles:
        """As the models see a user."""
        mine = self.user == user
        stars, genres = self.stars[mine], self.genres[self.item[mine]]
        count = len(stars)
        likes = ((stars - 3)[:, None] * genres).sum(axis=0) / (count + 5)
        profile = self.profile[user] if user < USERS - 1 else np.zeros(PROFILE)
        past = [np.log1p(count) / 5, (stars.sum() - 3.5 * count) / (count + 5)]
        return np.concatenate([profile, past, likes]).astype(np.float32)

    def listed(self, user: int, region: int, seen: list[int]) -> Listed:
        """The whole pipeline, every item looked at."""
        shelf, row = self.shelf, self.row(user)
        query = row @ self.weights["of_user"] + self.weights["of_seen"][self.history(user)].sum(axis=0)
        allowed = (shelf.stock > 0) & ((shelf.regions >> region) & 1 == 1) & ~np.isin(shelf.number, seen)
        at = np.flatnonzero(allowed)
        near = shelf.vector[at] @ query
        order = np.argsort(-near, kind="stable")[:CANDIDATES]
        found, retrieval = at[order], near[order]
        items = np.concatenate([shelf.features[found], shelf.vector[found]], axis=1)
        scores = self.scored(row, query, items, found)
        chosen = diverse_within(shelf.vector[found], scaled(scores), 0.8, shelf.category[found][:, None], (5,), SLATE)
        reasons = [self._reasons(row, query, items[each], found[each : each + 1]) for each in chosen]
        return Listed(shelf.number[found[chosen]].tolist(), scores[chosen], retrieval[chosen], reasons)

    def scored(self, row: Singles, query: Singles, items: Singles, found: NDArray[np.int64]) -> Singles:
        """What the ranker says of items by their place on the shelf."""
        weights = self.weights
        one = row @ weights["user_hidden"] + query @ weights["vector_hidden"]
        own = weights["item_hidden"][self.shelf.number[found]] + weights["category_hidden"][self.shelf.category[found]]
        hidden = np.maximum(items @ weights["items_hidden"] + one + own, 0)
        return (1 / (1 + np.exp(-(hidden @ weights["last"])))).astype(np.float32)

    def _reasons(self, row: Singles, query: Singles, items: Singles, found: NDArray[np.int64]) -> list[str]:
        whole, effects = float(self.scored(row, query, items[None], found)[0]), {}
        for name, columns in GROUPS.items():
            without = items.copy()
            without[columns] = 0
            effects[name] = whole - float(self.scored(row, query, without[None], found)[0])
        return sorted(effects, key=lambda name: -effects[name])[:2]


def application_at(folder: Path, shop: Shop) -> Application:
    """Ready to be served."""
    found = Application(folder)
    found.write()
    shop.write_models(found)
    return found
