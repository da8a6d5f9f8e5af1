"""The empty graphs answer what they are given, and their costs are counted one by one."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks.graphs.drive_overhead import FP32, NAMES, cpu_us, measured
from benchmarks.graphs.empty import empty_spec
from engine import Engine, Request, Tensor, parse_spec

ROWS = np.array([1.5, -2.0], np.float32)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    made = Engine(parse_spec(yaml.safe_dump(empty_spec(), sort_keys=False), folder=Path()))
    made.start()
    yield made
    made.close()


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_graph_answers_its_input(name: str, engine: Engine) -> None:
    response = engine.infer(Request(name, {"x": Tensor(FP32, ROWS)}))
    assert np.array_equal(response.outputs["y"].array, ROWS)


@pytest.mark.parametrize("together", [1, 4])
def test_every_request_of_a_round_is_answered_before_it_ends(together: int, engine: Engine) -> None:
    for name in NAMES:
        assert cpu_us(engine, name, 22, together) > 0


def test_every_graph_is_measured_both_ways_in_every_round(engine: Engine) -> None:
    found = measured(engine, {"rounds": 2, "calls": 8, "together": 4})
    assert len({(each["round"], each["way"], each["graph"]) for each in found}) == len(found) == 2 * 2 * len(NAMES)
