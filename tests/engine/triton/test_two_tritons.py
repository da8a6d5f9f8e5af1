"""A model on two real Tritons while one is killed, frozen, and comes back, under load."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine import Deadline, Engine, Job, Request, Tensor, parse_spec
from engine.servables.tritonserver import TritonModel
from tests.engine.triton.real import RealTriton
from tests.fakes import FP32, PATIENCE_S

RATE, DEADLINE_S = 500, 1.0
INPUTS = {"x": Tensor(FP32, np.ones((1, 4), np.float32))}


@pytest.fixture(scope="module")
def tritons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RealTriton]]:
    made = [RealTriton(tmp_path_factory.mktemp("triton"), ("scale",)) for _ in range(2)]
    try:
        yield [each.start() for each in made]
    finally:
        for each in made:
            each.kill()


@pytest.fixture
def engine(tritons: list[RealTriton]) -> Iterator[Engine]:
    servers = ", ".join(f'"{each.address}"' for each in tritons)
    engine = Engine(parse_spec(f"triton_models: {{scale: {{servers: [{servers}]}}}}", folder=Path()))
    engine.start()
    yield engine
    engine.close()


class Load:
    """RATE requests a second, sent on time whatever becomes of them; (seconds since its start, error) of each."""

    def __init__(self, engine: Engine, seconds: float) -> None:
        self._engine, self._count = engine, int(seconds * RATE)
        self.started = time.monotonic()
        self.ended: list[tuple[float, str | None]] = []
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    @property
    def now_s(self) -> float:
        return time.monotonic() - self.started

    def _send(self) -> None:
        for index in range(self._count):
            time.sleep(max(0.0, index / RATE - self.now_s))
            self._one(self.now_s)

    def _one(self, sent_s: float) -> None:
        def done(job: Job) -> None:
            self.ended.append((sent_s, None if job.error is None else job.error.message))

        deadline = Deadline.after(DEADLINE_S, self._engine.clock())
        try:
            self._engine.submit(Request("scale", INPUTS, deadline=deadline), done, at_once=True)
        except Exception as error:
            self.ended.append((sent_s, str(error)))

    def wait(self) -> list[tuple[float, str]]:
        """The failures, once everything has ended."""
        self._thread.join()
        until = time.monotonic() + PATIENCE_S
        while len(self.ended) < self._count:
            assert time.monotonic() < until
            time.sleep(0.01)
        return [(sent_s, error) for sent_s, error in self.ended if error is not None]


def in_rotation(engine: Engine) -> list[bool]:
    """Of each server, whether the model answers there."""
    servable = engine._registry.find("scale", None).hosted.servable
    assert isinstance(servable, TritonModel)
    return [each.standing.in_rotation(engine.clock()) for each in servable.fleet.replicas]


def when_both(engine: Engine) -> float:
    """Seconds until both servers are in rotation."""
    started = time.monotonic()
    while not all(in_rotation(engine)):
        assert time.monotonic() < started + PATIENCE_S
        time.sleep(0.01)
    return time.monotonic() - started


def test_one_of_two_killed_under_load_costs_next_to_nothing_and_comes_back(
    engine: Engine, tritons: list[RealTriton]
) -> None:
    when_both(engine)
    load = Load(engine, 4)
    time.sleep(1)
    tritons[0].kill()
    killed_s = load.now_s
    failures = load.wait()
    print(f"{len(failures)} of {len(load.ended)} failed: {failures[:3]}")
    assert len(failures) <= len(load.ended) / 1_000
    assert not [each for each in failures if each[0] > killed_s + 1]
    tritons[0].start()
    print(f"in rotation {when_both(engine):.2f} s after it was ready")


def test_one_of_two_frozen_under_load_is_hedged_then_given_up(engine: Engine, tritons: list[RealTriton]) -> None:
    when_both(engine)
    load = Load(engine, 4)
    time.sleep(1)
    tritons[1].freeze()
    failures = load.wait()
    assert in_rotation(engine) == [True, False]
    tritons[1].thaw()
    when_both(engine)
    print(f"{len(failures)} of {len(load.ended)} failed: {failures[:3]}")
    assert len(failures) <= len(load.ended) / 100


def test_with_both_gone_requests_are_refused_at_once_and_why(engine: Engine, tritons: list[RealTriton]) -> None:
    when_both(engine)
    for each in tritons:
        each.kill()
    load = Load(engine, 0.5)
    failures = load.wait()
    assert len(failures) > len(load.ended) / 2
    assert all(tritons[0].address in error or "Triton server" in error for _, error in failures)
    assert engine.ready  # it is loaded; the next request may be answered
    for each in tritons:
        each.start()
    when_both(engine)
    assert Load(engine, 0.2).wait() == []


def test_a_model_whose_servers_were_away_at_the_start_is_loaded_when_they_come(tritons: list[RealTriton]) -> None:
    tritons[0].kill()
    engine = Engine(parse_spec(f'triton_models: {{scale: {{servers: ["{tritons[0].address}"]}}}}', folder=Path()))
    engine.start()
    assert tritons[0].address in engine.problems()["scale"]
    tritons[0].start()
    until = time.monotonic() + PATIENCE_S
    while engine.problems():
        assert time.monotonic() < until
        time.sleep(0.05)
    assert engine.infer(Request("scale", INPUTS)).outputs["y"].array.tolist() == [[2.0] * 4]
    engine.close()
