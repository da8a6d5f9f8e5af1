"""Splits and records as an engine serves them: beside graphs, inside graphs, changed by `apply`."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from engine import Engine, Request, SpecError, Tensor, datatype_named, parse_spec
from tests.engine.graph.test_graphs import FP64, FUNCTIONS, ROWS, numbers
from tests.fakes import PATIENCE_S

SPLIT = """traffic:
  which:
    key: who
    variants: {champion: {call: double_for, weight: %g}, challenger: {call: light_for, weight: %g}}
    shadows: {candidate: {call: light_for}}
    exposures: exposures
"""
GRAPH = f"""graphs:
  g:
    inputs: {{x: {ROWS}, who: {{datatype: INT64, shape: [-1]}}}}
    outputs: {{y: second.y}}
    nodes:
      first: {{call: which, inputs: {{x: x, who: who}}}}
      second: {{call: double, inputs: {{x: first.y}}}}
    records:
      large: {{log: large, when: second.y > 10, columns: {{x: x, y: second.y, id: $id, versions: $versions, at: $time}}}}
      safe: {{log: safe, durable: true, columns: {{y: second.y}}}}
"""
FOR = "".join(
    f"  {name}: {{call: 'tests.engine.graph.functions:{name}', batchable: true, outputs: {{y: {ROWS}}}, "
    f"inputs: {{x: {ROWS}, who: {{datatype: INT64, shape: [-1]}}}}}}\n"
    for name in ("double_for", "light_for")
)
INT64 = datatype_named("INT64", of="tests")
LOGS = """logs:
  exposures: {schema: {experiment: string, variant: string, key: string}, local: {path: exposures.log}}
  large: {schema: {x: float64, y: float64, id: string, versions: string, at: timestamp}, local: {path: large.log}}
  safe: {schema: {y: float64}, local: {path: safe.log}}
"""


def spec(champion: float, challenger: float, folder: Path) -> str:
    """The whole application."""
    return FUNCTIONS + FOR + LOGS + GRAPH + SPLIT % (champion, challenger)


def asked(model: str, *values: float, of: str = "") -> Request:
    """x, and that many askers."""
    inputs = {"x": Tensor(FP64, np.array(values)), "who": Tensor(INT64, np.arange(len(values)))}
    return Request(model, inputs, id=of)


def rows_of(engine: Engine, log: str, count: int) -> list[dict[str, object]]:
    """What is in a log, once there are `count` rows."""
    found = engine.features._named(log).log
    deadline_s = time.monotonic() + PATIENCE_S
    while found.latest()[0] < count:
        assert time.monotonic() < deadline_s, f"{found.latest()[0]} of {count} rows came"
        time.sleep(0.005)
    reader = found.reader(_Owner())
    rows: list[dict[str, object]] = []
    while len(rows) < count:
        for chunk in reader.read(1000, 1.0):
            rows += chunk.batch.to_pylist()
    reader.close()
    return rows


class _Owner:
    def assigned(self, partitions: object) -> dict[int, int]:
        """From the start."""
        return {0: 0}

    def revoked(self, partitions: object) -> None:
        """Nothing is kept."""


def test_split_inside_a_graph_sends_each_row_by_its_key_and_tells_who_got_what(tmp_path: Path) -> None:
    engine = Engine(parse_spec(spec(50, 50, tmp_path), folder=tmp_path))
    engine.start()
    try:
        assert not engine.problems()
        values = [float(each) for each in range(100)]
        answered = numbers(engine.infer(asked("g", *values, of="one")))
        assert set(answered) >= {2.0}  # light gives 1, and that is doubled
        given = {
            x: "challenger" if y == 2.0 and x != 0.5 else "champion" for x, y in zip(values, answered, strict=True)
        }
        assert all(y == 4 * x for x, y in zip(values, answered, strict=True) if given[x] == "champion")
        assert 20 < sum(each == "champion" for each in given.values()) < 80
        assert numbers(engine.infer(asked("g", *values))) == answered
        told = rows_of(engine, "exposures", 200)
        assert {(each["experiment"], each["variant"]) for each in told} == {
            ("which", "champion"),
            ("which", "challenger"),
        }
        large = rows_of(engine, "large", 2 * sum(y > 10 for y in answered))
        assert {(each["x"], each["y"]) for each in large} == {
            (x, y) for x, y in zip(values, answered, strict=True) if y > 10
        }
        assert large[0]["id"] == "one"
        assert len(rows_of(engine, "safe", 200)) == 200
    finally:
        engine.close()


def test_weights_change_by_apply_while_requests_run(tmp_path: Path) -> None:
    engine = Engine(parse_spec(spec(1, 0, tmp_path), folder=tmp_path))
    engine.start()
    try:
        assert numbers(engine.infer(asked("which", 3.0))) == [6.0]
        engine.apply(parse_spec(spec(0, 1, tmp_path), folder=tmp_path))
        assert numbers(engine.infer(asked("which", 3.0))) == [1.0]
        assert numbers(engine.infer(asked("g", 3.0))) == [2.0]
    finally:
        engine.close()


def test_requests_that_go_together_are_recorded_each_with_its_own_id(tmp_path: Path) -> None:
    engine = Engine(parse_spec(spec(1, 0, tmp_path), folder=tmp_path))
    engine.start()
    try:
        jobs = [engine.submit(asked("g", 10.0 + index, 1.0, of=f"r{index}"), lambda _: None) for index in range(20)]
        engine.flush()
        found = rows_of(engine, "large", 20)
        assert {(each["id"], each["y"]) for each in found} == {(f"r{index}", 4 * (10.0 + index)) for index in range(20)}
        assert len(rows_of(engine, "safe", 40)) == 40
        assert all(each.response is not None for each in jobs)
    finally:
        engine.close()


def test_what_requests_leave_is_recorded_before_an_engine_has_closed(tmp_path: Path) -> None:
    application = parse_spec(spec(1, 0, tmp_path), folder=tmp_path)
    engine = Engine(application)
    engine.start()
    for _ in range(50):
        engine.infer(asked("g", 10.0))
    engine.close()
    again = Engine(application)
    again.start()
    try:
        assert len(rows_of(again, "large", 50)) == len(rows_of(again, "exposures", 50)) == 50
    finally:
        again.close()


def test_key_that_no_variant_takes_is_an_input_of_the_split(tmp_path: Path) -> None:
    split = """traffic:
  which:
    key: who
    key_datatype: BYTES
    variants: {champion: {call: double, weight: 50}, challenger: {call: light, weight: 50}}
"""
    engine = Engine(parse_spec(FUNCTIONS + split, folder=tmp_path))
    engine.start()
    try:
        names = np.array([b"user %d" % index for index in range(50)], object)
        inputs = {"x": Tensor(FP64, np.full(50, 3.0)), "who": Tensor(datatype_named("BYTES", of="tests"), names)}
        answered = numbers(engine.infer(Request("which", inputs)))
        assert set(answered) == {6.0, 1.0}
        assert numbers(engine.infer(Request("which", inputs))) == answered
        assert numbers(engine.infer(Request("which", {"x": Tensor(FP64, np.array([3.0]))})))[0] in (6.0, 1.0)
    finally:
        engine.close()
    with pytest.raises(SpecError, match=r"traffic\.which\.key_datatype: 'double' takes 'x' itself"):
        parse_spec(FUNCTIONS + split.replace("key: who", "key: x"), folder=tmp_path)
    with pytest.raises(SpecError, match=r"traffic\.which\.key_datatype: a key is BYTES or whole numbers, got 'FP32'"):
        parse_spec(FUNCTIONS + split.replace("BYTES", "FP32"), folder=tmp_path)
