"""A small shop with models of random weights: what is served of it can be said in numpy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from benchmarks.workloads.recommendation.application import (
    CANDIDATES,
    EMBEDDING,
    FACTS,
    ITEM_FEATURES,
    SLATE,
    USER_FEATURES,
    Application,
)
from benchmarks.workloads.recommendation.steps import GROUPS
from engine import Engine, points_of
from kernels.reference_vectors import diverse_within
from kernels.relevance import scaled
from tests.engine.onnx_models import FLOAT, graph, write

ITEMS, USERS, HIDDEN = 1500, 40, 16
REGIONS = ("eu", "us", "asia")
NOW_US = 1_750_000_000_000_000
DAY_US = 86_400_000_000
NEW_ITEM = ITEMS - 1
"""Nobody has done anything with it."""

Singles = NDArray[np.float32]


@dataclass(frozen=True)
class Listed:
    """What is shown: items in order, their scores, and the groups that matter most."""

    items: list[int]
    scores: Singles
    retrieval: Singles
    reasons: list[list[str]]


class Shop:
    """Items, what users did, and two models; all of it drawn from one seed."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)

        def normal(*shape: int) -> Singles:
            return rng.standard_normal(shape).astype(np.float32)

        self.embedding, self.facts = normal(ITEMS, EMBEDDING), normal(ITEMS, FACTS)
        self.taste = {region: normal(EMBEDDING) for region in REGIONS}
        self.category = rng.integers(0, 12, ITEMS)
        self.stock = rng.random(ITEMS) < 0.9
        self.regions = [[each for each in REGIONS if rng.random() < 0.7] for _ in range(ITEMS)]
        events = 4000
        self.user = rng.integers(0, USERS, events)
        self.item = rng.integers(0, ITEMS - 1, events)
        self.at = np.sort(NOW_US - rng.integers(1, 20 * DAY_US, events))
        self.rating = np.where(rng.random(events) < 0.3, np.nan, rng.integers(1, 6, events).astype(float))
        self.tower = normal(USER_FEATURES, EMBEDDING) / USER_FEATURES
        self.of_user, self.of_item = normal(USER_FEATURES, HIDDEN) / 400, normal(ITEM_FEATURES, HIDDEN) / 10
        self.last = normal(HIDDEN) / 4  # scores that differ by more than rounding

    def write_models(self, application: Application) -> None:
        """As ONNX files."""
        sizes: list[int | str | None] = ["rows", EMBEDDING]
        tower = graph(
            [helper.make_node("MatMul", ["features", "w"], ["embedding"])],
            {"features": (FLOAT, ["rows", USER_FEATURES])},
            {"embedding": (FLOAT, sizes)},
            [numpy_helper.from_array(self.tower, "w")],
        )
        steps: list[NodeProto] = [
            helper.make_node("MatMul", ["user", "of_user"], ["one"]),
            helper.make_node("MatMul", ["items", "of_item"], ["many"]),
            helper.make_node("Add", ["many", "one"], ["sum"]),
            helper.make_node("Relu", ["sum"], ["hidden"]),
            helper.make_node("MatMul", ["hidden", "last"], ["logit"]),
            helper.make_node("Sigmoid", ["logit"], ["score"]),
        ]
        ranker = graph(
            steps,
            {"user": (FLOAT, [1, USER_FEATURES]), "items": (FLOAT, ["candidates", ITEM_FEATURES])},
            {"score": (FLOAT, ["candidates"])},
            [numpy_helper.from_array(getattr(self, name), name) for name in ("of_user", "of_item", "last")],
        )
        for name, model in (("user_tower", tower), ("ranker", ranker)):
            write(application.model(name).parent, model)

    def fill(self, engine: Engine) -> None:
        """The collections and the log."""
        items, regions = engine.vectors.collection("items"), engine.vectors.collection("regions")
        items.upsert(points_of(items.spec, [self._point(at) for at in range(ITEMS)]))
        tastes = [{"id": name, "vector": {"taste": each.tolist()}} for name, each in self.taste.items()]
        regions.upsert(points_of(regions.spec, tastes))
        schema = engine.features.schema("interactions")
        columns: dict[str, Any] = {
            "user": self.user, "item": self.item, "category": self.category[self.item], "at": self.at, "rating": self.rating,
        }  # fmt: skip
        arrays = [pa.array(columns[field.name], from_pandas=True).cast(field.type) for field in schema]
        appended = engine.features.push("interactions", pa.RecordBatch.from_arrays(arrays, schema=schema))
        for name in ("user_activity", "item_activity"):
            assert engine.features.view(name).wait(appended, 30)

    def _point(self, at: int) -> dict[str, Any]:
        payload = {"region": self.regions[at], "stock": bool(self.stock[at]), "category": int(self.category[at])}
        return {
            "id": at,
            "vector": {"embedding": self.embedding[at].tolist(), "facts": self.facts[at].tolist()},
            "payload": payload,
        }

    # The same by plain numpy.

    def activity(self, who: NDArray[np.int64], key: int) -> NDArray[np.float64]:
        """The eight features of `who` == `key`, NaN where null; windows by whole tiles of the reference's choice."""
        mine = who == key
        at, rating = self.at[mine], self.rating[mine]

        def window(length_us: int, tile_us: int) -> NDArray[np.bool_]:
            found: NDArray[np.bool_] = at // tile_us >= (NOW_US - length_us) // tile_us
            return found

        hour, day = window(DAY_US // 24, 300_000_000), window(DAY_US, 7_200_000_000)
        month = window(30 * DAY_US, 2 * DAY_US)
        rated = ~np.isnan(rating)

        def mean(chosen: NDArray[np.bool_]) -> float:
            return float(rating[chosen & rated].mean()) if (chosen & rated).any() else float("nan")

        every = np.ones(len(at), bool)
        counts = [hour.sum(), day.sum(), month.sum()]
        return np.array(
            [*counts, mean(day), mean(month), (month & rated).sum(), mean(every), (every & rated).sum()], np.float64
        )

    def scored(self, user: Singles, rows: Singles) -> Singles:
        """What the ranker says."""
        hidden = np.maximum(rows @ self.of_item + user @ self.of_user, 0)
        return (1 / (1 + np.exp(-(hidden @ self.last)))).astype(np.float32)

    def listed(self, user: int, region: str, seen: list[int]) -> Listed:
        """The whole pipeline, every item looked at."""
        known = bool((self.user == user).any())
        profile = np.nan_to_num(self.activity(self.user, user)).astype(np.float32) if known else np.zeros(8, np.float32)
        query = profile @ self.tower if known else self.taste[region]
        allowed = [at for at in range(ITEMS) if self.stock[at] and region in self.regions[at] and at not in seen]
        near = self.embedding[allowed] @ query
        found = np.array(allowed)[np.argsort(-near, kind="stable")][:CANDIDATES]
        retrieval = np.sort(near)[::-1][:CANDIDATES]
        counts = np.stack([np.nan_to_num(self.activity(self.item, at)) for at in found.tolist()]).astype(np.float32)
        rows = np.concatenate([self.facts[found], counts], axis=1)
        scores = self.scored(profile, rows)
        groups = self.category[found][:, None]
        chosen = diverse_within(self.embedding[found], scaled(scores), 0.7, groups, (3,), SLATE)
        return Listed(
            found[chosen].tolist(), scores[chosen], retrieval[chosen],
            [self._reasons(profile, rows[at], float(scores[at])) for at in chosen],
        )  # fmt: skip

    def _reasons(self, profile: Singles, row: Singles, score: float) -> list[str]:
        effects = {}
        for name, columns in GROUPS.items():
            without = row.copy()
            without[columns] = 0
            effects[name] = score - float(self.scored(profile, without[None])[0])
        return sorted(effects, key=lambda name: -effects[name])[:2]


def application_at(folder: Path, shop: Shop) -> Application:
    """Ready to be served."""
    found = Application(folder)
    found.write()
    shop.write_models(found)
    return found
