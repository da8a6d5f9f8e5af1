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

from benchmarks.workloads.recommendation.application import (
    SLATE,
    Application,
    Shelf,
    ask,
    load_items,
    load_users,
    push_ratings,
    show_items,
)
from benchmarks.workloads.recommendation.artifacts import read_shelf
from benchmarks.workloads.recommendation.catalogue import Dataset, Interactions, Items, Longs, Singles
from benchmarks.workloads.recommendation.features import padded, ratings_of
from benchmarks.workloads.recommendation.judged import Case
from benchmarks.workloads.recommendation.metrics import ndcg_at
from benchmarks.workloads.recommendation.offline import Offline, offline_of
from benchmarks.workloads.recommendation.split import Query
from engine import Engine, Spec, load_spec


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
    with TemporaryDirectory() as folder, serving(_beside(out, Path(folder)), shelf, profile) as engine:
        followed = 0
        for case in ordered:
            until = int(np.searchsorted(dataset.interactions.time_s, case.query.time_s))
            follow(engine, dataset.interactions.take(slice(followed, until)), dataset.items)
            followed = until
            items, scores = _listed(engine, case.query, int(dataset.users.region[case.query.user]))
            expected, by_ranker = _offline_list(offline, case)
            same = items.tolist() == expected.tolist()
            other += not same
            apart = max(apart, float(np.abs(scores - by_ranker).max()) if same and len(scores) else 0.0)
            ndcgs.append([ndcg_at(SLATE, each, case.targets) for each in (items, expected)])
    served, wanted = np.mean(ndcgs, axis=0).tolist()
    return Agreement(len(ordered), other, apart, served, wanted)


def _beside(out: Path, folder: Path) -> Application:
    """The application in a folder of its own, with the models of `out`."""
    application = Application(folder)
    application.write()
    (folder / "models").symlink_to((out / "models").resolve())
    return application


def _offline_list(offline: Offline, case: Case) -> tuple[Longs, Singles]:
    found, scores = offline.ranked(case)
    items = offline.slate(case)
    places = {item: at for at, item in enumerate(found.tolist())}
    return items, scores[[places[each] for each in items.tolist()]]


@contextmanager
def serving(application: Application, shelf: Shelf, profile: Singles) -> Iterator[Engine]:
    """The application, written and with its models, with all items and users. `profile`: a row a user, of nobody the first."""
    with running(load_spec(application.spec)) as engine:
        load_items(engine, shelf)
        show_items(engine)
        if not engine.ready:
            raise RuntimeError(f"the recommendation graph is not served: {engine.problems()}")
        load_users(engine, np.arange(1, len(profile)), profile[1:])
        yield engine


@contextmanager
def running(spec: Spec) -> Iterator[Engine]:
    """An engine of the application's spec, with the functions that lie beside it."""
    sys.path.insert(0, str(spec.folder))
    engine = Engine(spec)
    try:
        engine.start()
        yield engine
    finally:
        engine.close()
        sys.path.remove(str(spec.folder))
        sys.modules.pop("recommendation_steps", None)


def follow(engine: Engine, events: Interactions, items: Items) -> None:
    """Events into the log, all of them or none; returns when the features have them."""
    if len(events):
        push_ratings(
            engine, events.user, events.item, events.time_s * 1_000_000, events.rating, items.genres[events.item] > 0
        )


def _listed(engine: Engine, query: Query, region: int) -> tuple[Longs, Singles]:
    answer = ask(engine, query.user, region, padded(query.history), query.history, query.time_s * 1_000_000)
    return answer.outputs["item"].array, answer.outputs["score"].array
