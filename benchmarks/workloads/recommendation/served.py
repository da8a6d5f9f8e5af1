"""What the graph serves, beside the offline pipeline on the same snapshot: the same lists, so the same NDCG.

The log of ratings is followed up to each query's moment before it is asked, as it would be by a service.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import pyarrow as pa

from benchmarks.workloads.recommendation.application import (
    GENRES,
    GRAPH,
    SLATE,
    Application,
    Shelf,
    load_items,
    load_users,
)
from benchmarks.workloads.recommendation.artifacts import read_shelf
from benchmarks.workloads.recommendation.catalogue import Dataset, Interactions, Items, Longs, Singles
from benchmarks.workloads.recommendation.features import padded, ratings_of
from benchmarks.workloads.recommendation.judged import Case
from benchmarks.workloads.recommendation.metrics import ndcg_at
from benchmarks.workloads.recommendation.offline import Offline, offline_of
from benchmarks.workloads.recommendation.split import Query
from engine import DATATYPES, Deadline, Engine, Request, Tensor, load_spec, monotonic

ANSWER_S_MAX = 30.0
FOLLOWED_S_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of so many lists: how many have other items than offline, how far scores are apart at most, and NDCG@20 of both."""

    lists: int
    other: int
    score_difference: float
    served_ndcg: float
    offline_ndcg: float


def agreement(out: Path, dataset: Dataset, cases: Sequence[Case]) -> Agreement:
    """Serves the models and the catalogue of `out` and asks for each case, the earliest first."""
    shelf, profile = read_shelf(out)
    models = {name: onnx.load(Application(out).model(name)) for name in ("user_tower", "item_tower", "ranker")}
    features = np.vstack([np.zeros((1, shelf.features.shape[1]), np.float32), shelf.features])
    offline = offline_of(dataset, ratings_of(dataset.interactions, dataset.items), features, models)
    ordered = sorted(cases, key=lambda case: case.query.time_s)
    other, apart, ndcgs = 0, 0.0, []
    with _served(out, shelf, profile) as engine:
        followed = 0
        for case in ordered:
            until = int(np.searchsorted(dataset.interactions.time_s, case.query.time_s))
            push(engine, dataset.interactions.take(slice(followed, until)), dataset.items)
            followed = until
            items, scores = ask(engine, case.query, int(dataset.users.region[case.query.user]))
            expected, by_ranker = _offline_list(offline, case)
            same = items.tolist() == expected.tolist()
            other += not same
            apart = max(apart, float(np.abs(scores - by_ranker).max()) if same and len(scores) else 0.0)
            ndcgs.append([ndcg_at(SLATE, each, case.targets) for each in (items, expected)])
    served, wanted = np.mean(ndcgs, axis=0).tolist()
    return Agreement(len(ordered), other, apart, served, wanted)


def _offline_list(offline: Offline, case: Case) -> tuple[Longs, Singles]:
    found, scores = offline.ranked(case)
    items = offline.slate(case)
    places = {item: at for at, item in enumerate(found.tolist())}
    return items, scores[[places[each] for each in items.tolist()]]


@contextmanager
def _served(out: Path, shelf: Shelf, profile: Singles) -> Iterator[Engine]:
    """The application in a folder of its own, with all items and users."""
    with TemporaryDirectory() as folder:
        application = Application(Path(folder))
        application.write()
        (application.folder / "models").symlink_to((out / "models").resolve())
        sys.path.insert(0, folder)
        engine = Engine(load_spec(application.spec))
        try:
            engine.start()
            if not engine.ready:
                raise RuntimeError(f"the recommendation graph is not served: {engine.problems()}")
            load_items(engine, shelf)
            load_users(engine, np.arange(1, len(profile)), profile[1:])
            yield engine
        finally:
            engine.close()
            sys.path.remove(folder)
            sys.modules.pop("recommendation_steps", None)


def push(engine: Engine, events: Interactions, items: Items) -> None:
    """Into the log; returns when the features have them."""
    if not len(events):
        return
    schema = engine.features.schema("ratings")
    columns = {"user": events.user, "item": events.item, "at": events.time_s * 1_000_000, "stars": events.rating}
    columns |= {f"genre_{each + 1}": items.genres[events.item, each] > 0 for each in range(GENRES)}
    arrays = [pa.array(columns[field.name]).cast(field.type) for field in schema]
    appended = engine.features.push("ratings", pa.RecordBatch.from_arrays(arrays, schema=schema))
    if not engine.features.view("user_ratings").wait(appended, FOLLOWED_S_MAX):
        raise TimeoutError(f"ratings are not followed within {FOLLOWED_S_MAX:g} s")


def ask(engine: Engine, query: Query, region: int) -> tuple[Longs, Singles]:
    """The items of the list, and their scores."""
    tensors = {
        "user": ("INT64", np.array([query.user])),
        "key": ("UINT64", np.array([query.user], np.uint64)),
        "region": ("INT64", np.array([region])),
        "history": ("INT64", padded(query.history)[None]),
        "seen": ("UINT64", query.history.astype(np.uint64)[None]),
        "as_of": ("INT64", np.array([query.time_s * 1_000_000])),
    }
    inputs = {name: Tensor(DATATYPES[datatype], array) for name, (datatype, array) in tensors.items()}
    outputs = engine.infer(Request(GRAPH, inputs, deadline=Deadline.after(ANSWER_S_MAX, monotonic()))).outputs
    return outputs["item"].array, outputs["score"].array
