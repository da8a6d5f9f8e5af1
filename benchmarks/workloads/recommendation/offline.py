"""The whole recommendation in plain numpy over the exported models: the list that the graph must serve, and how good it is.

User's row -> tower -> exact best CANDIDATES that are offered and new to the user -> ranker -> slate. The slate is graph.yaml's:
scores scaled to [0, 1], maximal marginal relevance over the items' vectors, at most so many of a category; of equals the first.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.workloads.recommendation.application import CANDIDATES, SLATE
from benchmarks.workloads.recommendation.catalogue import Dataset, Longs, Singles
from benchmarks.workloads.recommendation.features import Ratings, padded, user_rows
from benchmarks.workloads.recommendation.judged import Case, top
from benchmarks.workloads.recommendation.split import Query
from kernels.reference_vectors import diverse_within
from kernels.relevance import scaled

RELEVANCE, CATEGORY_CAP = 0.8, 5
"""As graph.yaml's slate has them."""

Run = Callable[..., NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Offline:
    """Models, and all that they are told of. `features` and `vectors`: a row an item, of item 0 the first."""

    dataset: Dataset
    ratings: Ratings
    features: Singles
    vectors: Singles
    user_tower: Run
    ranker: Run | None

    def user(self, query: Query) -> tuple[Singles, Singles]:
        """The user's row [1, USER] at that moment, and its vector [1, VECTOR]."""
        row = user_rows(self.dataset.users, self.ratings, np.array([query.user]), np.array([query.time_s]))
        return row, self.user_tower(user=row, history=padded(query.history)[None])

    def near(self, query: Query) -> Singles:
        """What the towers say of every item: [items]."""
        near: Singles = self.vectors @ self.user(query)[1][0]
        return near

    def ranked(self, case: Case) -> tuple[Longs, Singles]:
        """Candidates of the towers, the best first, and the ranker's score of each; there is a ranker."""
        assert self.ranker is not None
        row, vector = self.user(case.query)
        found = top(self.vectors @ vector[0], case.candidates, CANDIDATES)
        items = np.hstack([self.features[found], self.vectors[found]])
        category = self.dataset.items.category[found]
        return found, self.ranker(user=row, user_vector=vector, items=items, item=found, category=category)

    def reranked(self, case: Case) -> Longs:
        """The candidates by the ranker alone."""
        found, scores = self.ranked(case)
        return found[np.argsort(-scores, kind="stable")]

    def slate(self, case: Case) -> Longs:
        """What is shown."""
        found, scores = self.ranked(case)
        category = self.dataset.items.category[found][:, None]
        chosen = diverse_within(self.vectors[found], scaled(scores), RELEVANCE, category, (CATEGORY_CAP,), SLATE)
        return found[chosen]


def offline_of(dataset: Dataset, ratings: Ratings, features: Singles, models: Mapping[str, onnx.ModelProto]) -> Offline:
    """Over the exported models by name, the towers at least; every item's vector is computed."""
    item_tower = session(models["item_tower"])
    vectors = item_tower(features=features, item=np.arange(len(features)))
    ranker = session(models["ranker"]) if "ranker" in models else None
    return Offline(dataset, ratings, features, vectors, session(models["user_tower"]), ranker)


def session(model: onnx.ModelProto) -> Run:
    """A call of the model by its inputs' names."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # on by default in wheels from 1.29 on, read at import
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    loaded = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def run(**inputs: NDArray[np.generic]) -> NDArray[np.float32]:
        output: NDArray[np.float32] = loaded.run(None, inputs)[0]
        return output

    return run
