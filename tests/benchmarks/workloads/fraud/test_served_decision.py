"""The graph as it is served: each transaction is scored by what came before it, then learnt; history says the same of all."""

import dataclasses
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.workloads.fraud.application import FUNCTIONS, GRAPH
from benchmarks.workloads.fraud.decision_build import past_of, thresholds
from benchmarks.workloads.fraud.decision_requests import DATATYPES, decision_inputs
from benchmarks.workloads.fraud.view_features import label_events, times_us, transaction_events
from engine import Appended, Deadline, Engine, Request, Response, Spec, Tensor, datatype_named, load_spec, monotonic
from engine.features.opening import open_log
from tests.benchmarks.workloads.fraud.built import Decided
from tests.engine.graph.recording import kept

PATIENCE_S = 60.0
AGAIN = 40
WINDOWS, LABELS = ("customer", "terminal", "device"), ("customer_labels", "terminal_labels")


def spec_of(decided: Decided, folder: Path) -> Spec:
    """The application's own, in a folder of this test; the model's row is an output too, and logs need not reach the disk."""
    shutil.copytree(decided.application.folder, folder, dirs_exist_ok=True)
    spec = load_spec(folder / decided.application.spec.name)
    graph = spec.graphs[GRAPH]
    logs = {}
    for name, log in spec.logs.items():
        assert log.local is not None
        logs[name] = dataclasses.replace(log, local=dataclasses.replace(log.local, durability="os"))
    wired = dataclasses.replace(graph, outputs={**graph.outputs, "row": "assemble.features"})
    return dataclasses.replace(spec, logs=logs, graphs={GRAPH: wired})


@contextmanager
def running(spec: Spec) -> Iterator[Engine]:
    """An engine whose functions are those beside the spec."""
    module = FUNCTIONS.removesuffix(".py")
    sys.modules.pop(module, None)
    sys.path.insert(0, str(spec.folder))
    engine = Engine(spec)
    try:
        engine.start()
        assert engine.ready, engine.problems()
        yield engine
    finally:
        engine.close()
        sys.path.remove(str(spec.folder))
        sys.modules.pop(module, None)


class Day:
    """Transactions one after the other, each shown to the views before another of its card, merchant or device comes; labels as
    they become known."""

    def __init__(self, engine: Engine, decided: Decided, first: int) -> None:
        transactions = decided.transactions
        self._engine, self._at = engine, times_us(transactions)
        self._inputs = decision_inputs(transactions)
        self._labels = label_events(transactions)
        self._known_us = self._labels["at"].cast(pa.int64()).to_numpy()
        self._told = 0
        self._seen = self._asked = first
        self._unseen: set[tuple[str, int]] = set()
        past = transaction_events(transactions).slice(0, first)
        self._show(self._push("transactions", past), WINDOWS)

    def score(self, row: int) -> Response:
        """The graph's answer."""
        due = int(np.searchsorted(self._known_us, self._at[row]))
        if due > self._told:
            self._show(self._push("labels", self._labels.slice(self._told, due - self._told)), LABELS)
            self._told = due
        entities = {(name, int(self._inputs[name][row])) for name in WINDOWS}
        if entities & self._unseen:
            self.settle()
        self._unseen |= entities
        return self.ask([row])

    def settle(self) -> None:
        """Returns when the views have read all that was asked about, which the graph itself appends."""
        self._show(Appended(0, self._seen, self._asked), WINDOWS)
        self._seen = self._asked
        self._unseen.clear()

    def ask(self, rows: list[int]) -> Response:
        """One request."""
        tensors = {
            name: Tensor(datatype_named(DATATYPES[column.dtype], of="tests"), column[rows])
            for name, column in self._inputs.items()
        }
        deadline = Deadline.after(PATIENCE_S, monotonic())
        self._asked += len(rows)
        return self._engine.infer(Request(GRAPH, tensors, id=f"r{rows[0]}", deadline=deadline))

    def _push(self, log: str, events: pa.Table) -> Appended:
        (batch,) = events.cast(self._engine.features.schema(log)).combine_chunks().to_batches()
        return self._engine.features.push(log, batch)

    def _show(self, appended: Appended, views: tuple[str, ...]) -> None:
        for view in views:
            assert self._engine.features.view(view).wait(appended, PATIENCE_S), f"{view} does not show {appended}"


@dataclasses.dataclass(frozen=True)
class Lived:
    """Some days through the graph, and what its logs held afterwards. The last AGAIN were then asked once more, one by one and
    as one request; `applied`: transactions that each view had learnt by then."""

    numbers: np.ndarray[Any, Any]
    responses: list[Response]
    alone: list[Response]
    together: Response
    applied: set[int]
    alerts: list[dict[str, Any]]
    decisions: list[dict[str, Any]]

    def output(self, name: str) -> np.ndarray[Any, Any]:
        """One output of all."""
        return np.concatenate([each.outputs[name].array for each in self.responses])


@pytest.fixture(scope="module")
def lived(decided: Decided, tmp_path_factory: pytest.TempPathFactory) -> Lived:
    spec = spec_of(decided, tmp_path_factory.mktemp("served"))
    numbers = decided.application.expected().number
    with running(spec) as engine:
        day = Day(engine, decided, int(numbers[0]))
        responses = [day.score(row) for row in numbers.tolist()]
        day.settle()
        again = numbers[-AGAIN:].tolist()
        alone, together = [day.ask([row]) for row in again], day.ask(again)
        day.settle()
        applied = {engine.features.view(name).statistics().applied for name in WINDOWS}
    logs = []
    for name in ("alerts", "decisions"):
        log = open_log(name, spec.logs[name], spec)
        logs.append(kept(log))  # type: ignore[arg-type]
        log.close()
    return Lived(numbers, responses, alone, together, applied, *logs)


def test_features_served_are_those_of_history(decided: Decided, lived: Lived) -> None:
    past = past_of(decided.transactions)
    np.testing.assert_allclose(lived.output("row"), past.matrix[lived.numbers], rtol=1e-5, atol=1e-5)


def test_scores_served_are_those_of_the_libraries_over_history(decided: Decided, lived: Lived) -> None:
    expected = decided.application.expected()
    count = len(lived.numbers)
    np.testing.assert_allclose(lived.output("score")[:, 0], expected.score[:count], atol=1e-5)
    np.testing.assert_allclose(lived.output("anomaly")[:, 0], expected.anomaly[:count], atol=1e-5)
    np.testing.assert_allclose(lived.output("probability"), expected.probability[:count], atol=1e-4)


def test_alerts_are_told_of_what_is_above_the_threshold_with_their_reasons(lived: Lived) -> None:
    above = lived.output("probability") > np.float32(thresholds()[1])
    assert 0 < above.sum() < len(above)
    told = [each["transaction"] for each in lived.alerts]
    assert told[: above.sum()] == lived.numbers[above].tolist()
    for alert in lived.alerts:
        reasons = json.loads(alert["reasons"])
        assert 1 <= len(reasons) <= 3
        assert [much for _, much in reasons] == sorted((much for _, much in reasons), reverse=True)
        assert json.loads(alert["versions"])["gbdt"]


def test_every_decision_is_recorded_with_versions_and_ledger(lived: Lived) -> None:
    again = lived.numbers[-AGAIN:].tolist()
    assert [each["transaction"] for each in lived.decisions] == [*lived.numbers.tolist(), *again, *again]
    words = [each.decode() for each in lived.output("decision")]
    assert [each["decision"] for each in lived.decisions[: len(words)]] == words
    probabilities = lived.output("probability").tolist()
    for number, probability, record in zip(lived.numbers.tolist(), probabilities, lived.decisions, strict=False):
        assert (record["request"], record["probability"]) == (f"r{number}", probability)
        assert {"card", "gbdt", "anomaly", "decide"} <= json.loads(record["versions"]).keys()
        assert record["ledger"]


def test_reasons_are_given_above_the_review_threshold_alone(lived: Lived) -> None:
    reviewed = lived.output("probability") > np.float32(thresholds()[0])
    told = (lived.output("reasons") != b"").any(axis=1)
    assert np.array_equal(told, reviewed)
    assert (lived.output("contributions")[~reviewed] == 0).all()


def test_transaction_asked_again_is_not_learnt_again(lived: Lived) -> None:
    assert lived.applied == {int(lived.numbers[-1]) + 1}


def test_rows_of_one_request_are_decided_as_they_would_be_alone(lived: Lived) -> None:
    for name, together in lived.together.outputs.items():
        alone = np.concatenate([each.outputs[name].array for each in lived.alone])
        if alone.dtype == object:
            assert together.array.tolist() == alone.tolist(), name
        else:
            np.testing.assert_allclose(together.array, alone, rtol=1e-5, atol=1e-6, err_msg=name)
