"""Requests that go through a graph together leave the rows that each would leave alone, and wait for those that are durable."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import orjson
import pytest

from engine import Engine, Job, Request, Tensor, Unavailable, parse_spec
from engine.graph.records import RecordWriter
from engine.log.schema import arrow_schema
from tests.engine.graph.test_graphs import FP64, FUNCTIONS, ROWS
from tests.engine.graph.test_records_crash import rows_in
from tests.fakes import Endings

SPEC = (
    FUNCTIONS
    + f"""
logs:
  alerts: {{schema: {{id: string, y: float64}}, local: {{path: alerts}}}}
  decisions: {{schema: {{id: string, y: float64, ledger: string, marks: string}}, local: {{path: decisions}}}}
graphs:
  g:
    inputs: {{x: {ROWS}}}
    nodes:
      last: {{call: double, inputs: {{x: x}}}}
    outputs: {{y: last.y}}
    records:
      alert: {{log: alerts, when: last.y > 100, durable: true, columns: {{id: $id, y: last.y}}}}
      decision: {{log: decisions, when: last.y > 0, columns: {{id: $id, y: last.y, ledger: $ledger, marks: $marks}}}}
"""
)

ALERTS = arrow_schema({"id": "string", "y": "float64"})
DECISIONS = arrow_schema({"id": "string", "y": "float64", "ledger": "string", "marks": "string"})
REQUESTS = ([1.0, -1.0], [60.0], [-5.0], [3.0, 70.0, -2.0], [4.0], [80.0], [5.0, 6.0])


@pytest.mark.parametrize("together", [True, False])
def test_rows_of_requests_together_are_those_of_each_alone(together: bool, tmp_path: Path) -> None:
    engine = Engine(parse_spec(SPEC, folder=tmp_path))
    engine.start()
    asked(engine, REQUESTS, together=together)
    engine.close()
    alerts, decisions = rows_in(tmp_path / "alerts", ALERTS), rows_in(tmp_path / "decisions", DECISIONS)
    wanted = [(f"r{number}", 2 * x) for number, xs in enumerate(REQUESTS) for x in xs]
    assert sorted((each["id"], each["y"]) for each in alerts) == [each for each in wanted if each[1] > 100]
    assert sorted((each["id"], each["y"]) for each in decisions) == sorted(each for each in wanted if each[1] > 0)
    gathered = {row["id"] for row in decisions if '"gathered"' in row["ledger"]}
    assert gathered == ({"r0", "r4", "r6"} if together else set())
    for row in decisions:
        ledger = orjson.loads(row["ledger"])
        spans = [each["wait_us"] + each["compute_us"] for each in ledger["stages"]]
        assert row["marks"] == ""
        assert ledger["stages"][-1]["name"] == "last"
        assert sum(spans) == pytest.approx(ledger["total_us"], abs=200.0)


def test_those_whose_rows_are_to_be_durable_wait_and_fail_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(parse_spec(SPEC, folder=tmp_path))
    engine.start()
    push = RecordWriter.append_durably

    def away(self: RecordWriter, rows: object, done: object) -> None:
        done(Unavailable("log 'alerts': is away"))  # type: ignore[operator]

    monkeypatch.setattr(RecordWriter, "append_durably", away)
    jobs = asked(engine, REQUESTS, together=True)
    monkeypatch.setattr(RecordWriter, "append_durably", push)
    engine.close()
    failed = {number for number, xs in enumerate(REQUESTS) if max(xs) > 50}
    for number, job in enumerate(jobs):
        assert (job.response is None) == (number in failed)
        assert isinstance(job.error, Unavailable) == (number in failed)
    assert {each["id"] for each in rows_in(tmp_path / "decisions", DECISIONS)} == {"r0", "r4", "r6"}


def asked(engine: Engine, requests: Sequence[Sequence[float]], *, together: bool) -> list[Job]:
    """Their jobs, ended."""
    endings = Endings()
    jobs = []
    for number, values in enumerate(requests):
        request = Request("g", {"x": Tensor(FP64, np.array(values))}, id=f"r{number}")
        jobs.append(engine.submit(request, endings))
        if not together:
            engine.flush()
    engine.flush()
    endings.wait(len(jobs))
    return jobs
