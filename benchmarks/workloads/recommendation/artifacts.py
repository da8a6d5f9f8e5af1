"""Everything the workload leaves in a folder, made in order; the summary comes last: who finds it finds the rest.

DIR/models: user_tower, item_tower and ranker (see `export`); DIR/catalogue.npz: the columns of `application.Shelf`, and
`profile`, a row a user, for who fills a server.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import onnx

from benchmarks.workloads.recommendation import export
from benchmarks.workloads.recommendation.application import Application, Shelf
from benchmarks.workloads.recommendation.baselines import Popularity, item_neighbours
from benchmarks.workloads.recommendation.catalogue import Dataset, Interactions, Items, Singles
from benchmarks.workloads.recommendation.features import item_rows, padded, ratings_of, scaled_profile
from benchmarks.workloads.recommendation.judged import Case, Quality, cases_of, quality_of, quality_of_lists
from benchmarks.workloads.recommendation.offline import Offline, offline_of
from benchmarks.workloads.recommendation.split import Split, cold_queries, queries, split_by_time
from benchmarks.workloads.recommendation.summary import FILE, Summary, write_summary

CATALOGUE = "catalogue.npz"
SEED = 1
NEAREST, DAMPING = (10, 20, 50, 100), (3.0, 10.0, 30.0)
POPULAR_DAYS = 90

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Trained:
    """Weights by name."""

    towers: export.Weights
    ranker: export.Weights

    def models(self) -> dict[str, onnx.ModelProto]:
        """As they are served."""
        return tower_models(self.towers) | {"ranker": export.ranker(self.ranker)}


def tower_models(towers: export.Weights) -> dict[str, onnx.ModelProto]:
    """The two of them."""
    return {"user_tower": export.user_tower(towers), "item_tower": export.item_tower(towers)}


def make_artifacts(out: Path, dataset: Dataset, *, seed: int = SEED, say: Say = print) -> Summary:
    """Learn, export and judge; the summary, which is among what is left in `out`. Raises ParityError. Needs torch."""
    out.mkdir(parents=True, exist_ok=True)
    (out / FILE).unlink(missing_ok=True)
    split = split_by_time(dataset.interactions)
    features = item_rows(dataset.items, split.train, seed=seed)
    trained = learn(dataset, split, features, seed=seed, say=say)
    models = trained.models()
    offline = offline_of(dataset, ratings_of(dataset.interactions, dataset.items), features, models)
    warm = cases_of(dataset, queries(split.before_test, split.test))
    parity = parity_of(offline, trained, warm)
    write(out, models, shelf_of(dataset.items, features, offline.vectors), scaled_profile(dataset.users))
    chosen = chosen_neighbours(dataset, split)
    cold = cases_of(dataset, cold_queries(split.before_test, split.test))
    groups = {"with a history": warm, "first visit": cold}
    summary = Summary(
        seed=seed,
        events={each.name: len(getattr(split, each.name)) for each in fields(split)},
        neighbours=chosen,
        parity=parity,
        quality={name: qualities(offline, split.train, cases, chosen) for name, cases in groups.items() if cases},
    )
    write_summary(summary, out)
    return summary


def learn(dataset: Dataset, split: Split, features: Singles, *, seed: int, say: Say) -> Trained:
    """Towers, then the ranker over them; of each the epoch that does best on the validation period, a ranker not learnt at all
    among them."""
    from benchmarks.workloads.recommendation.training.lessons import lessons_of
    from benchmarks.workloads.recommendation.training.ranker import learn_ranker
    from benchmarks.workloads.recommendation.training.towers import learn_towers

    ratings, cases = (
        ratings_of(dataset.interactions, dataset.items),
        cases_of(dataset, queries(split.train, split.validation)),
    )
    lessons = lessons_of(dataset, split.train, features)

    def of_towers(weights: export.Weights) -> float:
        return quality_of(offline_of(dataset, ratings, features, tower_models(weights)).near, cases).ndcg[20]

    towers = learn_towers(lessons, of_towers, seed=seed, say=say)

    def of_ranker(weights: export.Weights) -> float:
        made = offline_of(dataset, ratings, features, Trained(towers, weights).models())
        return quality_of_lists([made.reranked(case) for case in cases], cases).ndcg[20]

    return Trained(towers, learn_ranker(lessons, towers, of_ranker, seed=seed, say=say))


def parity_of(offline: Offline, trained: Trained, cases: Sequence[Case]) -> dict[str, float]:
    """How near the exported models come to torch, over the queries of the test. Raises ParityError."""
    from benchmarks.workloads.recommendation.training.ranker import ranker_outputs
    from benchmarks.workloads.recommendation.training.towers import tower_outputs

    users = [(*offline.user(case.query), padded(case.query.history)) for case in cases]
    rows, vectors = np.vstack([each[0] for each in users]), np.vstack([each[1] for each in users])
    of_users, of_items = tower_outputs(trained.towers, rows, np.stack([each[2] for each in users]), offline.features)
    category, differences = offline.dataset.items.category, []
    for at, case in enumerate(cases):
        found, scores = offline.ranked(case)
        items = np.hstack([offline.features[found], offline.vectors[found]])
        theirs = ranker_outputs(trained.ranker, rows[at : at + 1], vectors[at : at + 1], items, found, category[found])
        differences.append(export.check_parity("ranker", scores, theirs))
    return {
        "user_tower": export.check_parity("user_tower", vectors, of_users),
        "item_tower": export.check_parity("item_tower", offline.vectors, of_items),
        "ranker": max(differences),
    }


def chosen_neighbours(dataset: Dataset, split: Split) -> tuple[int, float]:
    """The baseline's `nearest` and `damping` that do best on the validation period."""
    cases = cases_of(dataset, queries(split.train, split.validation))

    def found(choice: tuple[int, float]) -> float:
        nearest, damping = choice
        made = item_neighbours(split.train, len(dataset.items), nearest=nearest, damping=damping)
        return quality_of(made.scores, cases).ndcg[20]

    return max(((nearest, damping) for nearest in NEAREST for damping in DAMPING), key=found)


def qualities(
    offline: Offline, train: Interactions, cases: Sequence[Case], neighbours: tuple[int, float]
) -> dict[str, Quality]:
    """Baselines, towers, ranker and the list that is shown; all learnt of the same events."""
    count, events = len(offline.dataset.items), offline.dataset.interactions
    nearest, damping = neighbours
    alike = item_neighbours(train, count, nearest=nearest, damping=damping)
    return {
        "popular ever": quality_of(Popularity(events, count).scores, cases),
        f"popular in {POPULAR_DAYS} days": quality_of(Popularity(events, count, POPULAR_DAYS).scores, cases),
        "item neighbours": quality_of(alike.scores, cases),
        "two towers": quality_of(offline.near, cases),
        "two towers and ranker": quality_of_lists([offline.reranked(case) for case in cases], cases),
        "the list shown (diverse, capped)": quality_of_lists([offline.slate(case) for case in cases], cases),
    }


def shelf_of(items: Items, features: Singles, vectors: Singles) -> Shelf:
    """As the collection is filled: a unit of what is in stock."""
    masks = items.regions.astype(np.int64) @ (1 << np.arange(items.regions.shape[1]))
    number = np.arange(1, len(items))
    return Shelf(number, items.category[1:], items.in_stock[1:].astype(np.int64), masks[1:], features[1:], vectors[1:])


def write(out: Path, models: dict[str, onnx.ModelProto], shelf: Shelf, profile: Singles) -> None:
    """The model repository and the catalogue."""
    for name, model in models.items():
        file = Application(out).model(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(model.SerializeToString(deterministic=True))
    columns = {each.name: getattr(shelf, each.name) for each in fields(shelf)}
    np.savez(out / CATALOGUE, allow_pickle=False, profile=profile, **columns)


def read_shelf(out: Path) -> tuple[Shelf, Singles]:
    """What `write` left: items, and the profiles of users, of nobody the first."""
    with np.load(out / CATALOGUE) as stored:
        return Shelf(**{each.name: stored[each.name] for each in fields(Shelf)}), stored["profile"]
