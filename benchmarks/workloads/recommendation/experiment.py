"""Two rankers behind one name on the workload's own graph, and users whose true preference is known: is the better one found?

The challenger is the workload's ranker, the champion the same with noise on its weights. Truth is the ranker's own: a shown item
is clicked with the logistic chance of how well it fits, which is the ranker's logit, scaled over the user's candidates, and of
how eager the user is (as in `simulation`). Each user is shown the list that a split with sticky users gives, and clicks; what
either ranker would have shown is asked for beside it, so the true lift is known.
"""

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import onnx
import pyarrow as pa
import yaml
from numpy.typing import NDArray
from onnx import numpy_helper

from benchmarks.workloads.recommendation.application import GRAPH, Application, ask
from benchmarks.workloads.recommendation.artifacts import read_shelf
from benchmarks.workloads.recommendation.catalogue import Dataset, Longs
from benchmarks.workloads.recommendation.features import padded, ratings_of
from benchmarks.workloads.recommendation.judged import Case
from benchmarks.workloads.recommendation.offline import Offline, offline_of
from benchmarks.workloads.recommendation.served import follow, serving
from benchmarks.workloads.recommendation.simulation import CLICK_BIAS, EAGERNESS
from benchmarks.workloads.recommendation.split import Query
from engine import (
    Engine,
    ExperimentQuestion,
    ExperimentReport,
    Exposures,
    experiment_report,
    exposures_of,
    load_spec,
)

Floats = NDArray[np.float64]

CHAMPION, CHALLENGER = "champion", "challenger"
RANKERS: Final = {CHAMPION: "ranker_blurred", CHALLENGER: "ranker"}
GRAPHS: Final = (GRAPH, *(f"{GRAPH}_{each}" for each in RANKERS))
"""What is asked: the split, and behind it a graph a variant."""

BLUR: Final = 0.5
"""Noise on a weight, in standard deviations of its tensor."""

EXPOSED_S_MAX: Final = 60.0


@dataclass(frozen=True, slots=True)
class Trial:
    """`expected`: each user's clicks to expect of either variant's list. `misled`: users who were not shown their variant's."""

    expected: Mapping[str, Floats]
    misled: int
    report: ExperimentReport

    @property
    def lift(self) -> float:
        """The truth that the report looks for."""
        return float(self.expected[CHALLENGER].mean() / self.expected[CHAMPION].mean() - 1)


@dataclass(frozen=True, slots=True)
class _Visitor:
    """A user who asks once, and the chances of a click on each item that may be shown."""

    query: Query
    chances: Mapping[int, float]

    def expected(self, items: Longs) -> Floats:
        return np.array([self.chances[each] for each in items.tolist()])


def trial(out: Path, dataset: Dataset, *, blur: float = BLUR, seed: int = 1) -> Trial:
    """Serves the models and the catalogue of `out` to all users of `dataset`, once each, after its last event."""
    random = np.random.default_rng(seed)
    models = {name: onnx.load(Application(out).model(name)) for name in ("user_tower", "item_tower", "ranker")}
    blurred = blurred_model(models["ranker"], blur, random)
    shelf, profile = read_shelf(out)
    features = np.vstack([np.zeros((1, shelf.features.shape[1]), np.float32), shelf.features])
    offline = offline_of(dataset, ratings_of(dataset.interactions, dataset.items), features, models)
    visitors = list(_visitors(offline, random))
    with TemporaryDirectory() as folder:
        application = Application(Path(folder))
        _write(application, out, blurred)
        with serving(application, shelf, profile) as engine:
            follow(engine, dataset.interactions, dataset.items)
            shown, *lists = ([_listed(engine, each.query, dataset, graph) for each in visitors] for graph in GRAPHS)
            _wait_exposed(engine, len(visitors))
        exposures = exposures_of(load_spec(application.spec))
    outcomes = _clicks(visitors, shown, random)
    report = experiment_report(
        exposures.experiment, exposures.table, outcomes, ExperimentQuestion(weights=exposures.weights)
    )
    by_variant = dict(zip(RANKERS, lists, strict=True))
    expected = {
        name: np.array([each.expected(items).sum() for each, items in zip(visitors, found, strict=True)])
        for name, found in by_variant.items()
    }
    return Trial(expected, _misled(visitors, shown, by_variant, exposures), report)


def blurred_model(model: onnx.ModelProto, blur: float, random: np.random.Generator) -> onnx.ModelProto:
    """`model` with noise on all that it has learnt."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    for each in found.graph.initializer:
        weights = numpy_helper.to_array(each)
        if weights.dtype == np.float32:
            noise = random.normal(0, blur * weights.std(), weights.shape)
            each.CopyFrom(numpy_helper.from_array((weights + noise).astype(np.float32), each.name))
    return found


def split_spec(declared: str) -> str:
    """The workload's spec with its graph twice, once a ranker, and a split of its name over both."""
    spec = yaml.safe_load(declared)
    graph = spec["graphs"].pop(GRAPH)
    for variant, ranker in RANKERS.items():
        nodes = {
            name: {**node, "call": ranker} if node["call"] == "ranker" else node
            for name, node in graph["nodes"].items()
        }
        spec["graphs"][f"{GRAPH}_{variant}"] = {**graph, "nodes": nodes}
    columns = dict.fromkeys(("experiment", "variant", "key", "request_id"), "string") | {"time": "timestamp"}
    spec["logs"]["exposures"] = {"schema": columns, "local": {"path": "logs/exposures", "durability": "os"}}
    variants = {each: {"call": f"{GRAPH}_{each}", "weight": 50} for each in RANKERS}
    spec["traffic"] = {GRAPH: {"key": "user", "variants": variants, "exposures": "exposures"}}
    return yaml.safe_dump(spec, sort_keys=False)


def _write(application: Application, out: Path, blurred: onnx.ModelProto) -> None:
    application.write()
    application.spec.write_text(split_spec(application.spec.read_text()))
    for name in ("user_tower", *RANKERS.values()):
        application.model(name).parent.mkdir(parents=True)
    for name in ("user_tower", RANKERS[CHALLENGER]):
        shutil.copyfile(Application(out).model(name), application.model(name))
    onnx.save(blurred, application.model(RANKERS[CHAMPION]))


def _visitors(offline: Offline, random: np.random.Generator) -> Iterator[_Visitor]:
    """Every user, an hour after the last event."""
    dataset = offline.dataset
    now_s = int(dataset.interactions.time_s[-1]) + 3600
    for user in np.unique(dataset.interactions.user).tolist():
        past = dataset.interactions.item[dataset.interactions.user == user][::-1]
        query = Query(user, now_s, np.array(list(dict.fromkeys(past.tolist()))), np.empty(0, np.int64))
        offered = dataset.items.offered(int(dataset.users.region[user]))
        offered[query.history] = False
        case = Case(query, np.flatnonzero(offered), query.targets)
        items, scores = offline.ranked(case)
        logits = np.log(scores.astype(np.float64)) - np.log1p(-scores.astype(np.float64))
        fits = (logits - logits.mean()) / logits.std() + CLICK_BIAS + random.normal(0, EAGERNESS)
        chances = dict(zip(items.tolist(), (1 / (1 + np.exp(-fits))).tolist(), strict=True))
        yield _Visitor(query, chances)


def _listed(engine: Engine, query: Query, dataset: Dataset, graph: str) -> Longs:
    region, time_us = int(dataset.users.region[query.user]), query.time_s * 1_000_000
    answer = ask(engine, query.user, region, padded(query.history), query.history, time_us, graph=graph)
    return answer.outputs["item"].array


def _wait_exposed(engine: Engine, users: int) -> None:
    """Exposures follow their answers. Raises TimeoutError."""
    until = time.monotonic() + EXPOSED_S_MAX
    while sum(told.appended for log, told in engine.record_statistics() if log == "exposures") < users:
        if time.monotonic() > until:
            raise TimeoutError(f"exposures of {users} users are not written within {EXPOSED_S_MAX:g} s")
        time.sleep(0.01)


def _clicks(visitors: Sequence[_Visitor], shown: Sequence[Longs], random: np.random.Generator) -> pa.Table:
    """Outcomes: a row for each click, drawn from its true chance."""
    clicks = [
        int((random.random(len(items)) < visitor.expected(items)).sum())
        for visitor, items in zip(visitors, shown, strict=True)
    ]
    keys = np.repeat([str(each.query.user) for each in visitors], clicks)
    now = pa.array(np.full(len(keys), time.time_ns() // 1000), pa.timestamp("us", "UTC"))
    return pa.table({"key": pa.array(keys), "time": now, "value": pa.array(np.ones(len(keys)))})


def _misled(
    visitors: Sequence[_Visitor], shown: Sequence[Longs], lists: Mapping[str, Sequence[Longs]], exposures: Exposures
) -> int:
    variant = dict(zip(*(exposures.table.column(each).to_pylist() for each in ("key", "variant")), strict=True))
    return sum(
        items.tolist() != lists[variant[str(visitor.query.user)]][at].tolist()
        for at, (visitor, items) in enumerate(zip(visitors, shown, strict=True))
    )
