"""A spec that changes under load, reached by replicas one after the other: no call fails, and no answer is of two specs."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import tritonclient.grpc

from tests.serving.ray_host.callers import calling, numbers_of
from tests.serving.ray_host.conftest import START_S, OnRay, replicas_of
from tests.serving.servers import ServerProcess
from tests.serving.test_graph_surfaces import function
from tests.serving.test_graphs_over_wire import graph, values_of

PLACEMENT = """
placement:
  ingress: {replicas: 2, cpus: 0.5}
  workers: {serves: [far], cpus: 0.5}
  canaries: {serves: [farther], cpus: 0.5}
"""
USERS = [f"user-{number}" for number in range(200)]


def _spec(call: str = "double", *, canary: int = 0, more: str = "", placement: str = PLACEMENT) -> str:
    """Functions `near` and `far` that are `call`, a split that gives `canary` of a hundred users to `farther`, which trebles."""
    by_graph = "first: {call: near, inputs: {x: x}} | last: {call: far, inputs: {x: first.y}}"
    by_split = "first: {call: near, inputs: {x: x}} | last: {call: either, inputs: {x: first.y, user: user}}"
    return (
        "server: {grpc_port: 0, http_port: 0, name: rolling}\nfunctions:\n"
        + function("near", call)
        + function("far", call)
        + function("farther", "treble")
        + more
        + "graphs:\n"
        + graph("both", by_graph)
        + graph("split", by_split, inputs="x: {datatype: FP32, shape: [-1, 1]}, user: {datatype: BYTES, shape: [-1]}")
        + "traffic:\n  either:\n    key: user\n    key_datatype: BYTES\n    variants:\n"
        + f"      champion: {{call: far, weight: {100 - canary}}}\n      challenger: {{call: farther, weight: {canary}}}\n"
        + placement
    )


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is served, which tests change."""
    made = tmp_path_factory.mktemp("rolling") / "app.yaml"
    made.write_text(_spec(), encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def server(app: Path, on_ray: OnRay) -> ServerProcess:
    """Of the spec on Ray, with all that the tests before have made of it."""
    return on_ray(app)


def _apply(server: ServerProcess, app: Path, spec: str, *, outcome: str = "app.yaml is applied") -> str:
    app.write_text(spec, encoding="utf-8")
    return server.changed(outcome, START_S)


def test_update_under_load_fails_no_call_and_mixes_no_answer(server: ServerProcess, app: Path) -> None:
    with calling(server.address, "both") as callers:
        callers.until_more(200)
        _apply(server, app, _spec("treble"))
        callers.until_all(lambda answers: answers[-1] == 9.0, "all are answered by the new spec")
        callers.until_more(200)
    assert callers.failures() == []
    for answers in callers.answers:
        until = answers.index(9.0)
        assert set(answers[:until]) == {4.0}
        assert set(answers[until:]) == {9.0}, "an answer of the former spec, or of both"


def test_update_that_cannot_start_leaves_all_as_it_was_and_tells_why(server: ServerProcess, app: Path) -> None:
    replicas = {each: replicas_of("rolling", each) for each in ("ingress", "workers", "canaries")}
    more = "  more: {serves: [near], cpus: 0.5}\n"  # which can start
    broken = _spec("double", more=function("last", "nowhere"), placement=PLACEMENT + more)
    with calling(server.address, "both", anew=True) as callers:  # whichever door listens has them
        callers.until_more(200)
        told = _apply(server, app, broken, outcome="is not applied")
        callers.until_more(200)
    assert "application 'rolling' is not served: ingress: last: function 'last': cannot import " in told
    assert callers.failures() == []
    assert {each for answers in callers.answers for each in answers} == {9.0}
    assert {each: replicas_of("rolling", each) for each in (*replicas, "more")} == {**replicas, "more": []}


def _shares(address: str) -> list[float]:
    """What each of `USERS` is answered for 1.0."""
    with tritonclient.grpc.InferenceServerClient(address) as client:
        return values_of(client.infer("split", numbers_of(USERS)))


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[tuple[ServerProcess, Path]]:
    """A server of the same spec on the other host."""
    made = tmp_path / "app.yaml"
    made.write_text(_spec(), encoding="utf-8")
    server = ServerProcess(made)
    yield server, made
    server.kill()


def test_canary_by_weight_is_the_same_on_both_hosts_and_changes_under_load(
    server: ServerProcess, app: Path, embedded: tuple[ServerProcess, Path]
) -> None:
    before = set[int]()
    with calling(server.address, "split", users=USERS[:8]) as callers:
        for canary in (20, 60):
            for host, path in ((server, app), embedded):
                _apply(host, path, _spec(canary=canary))
            shares = _shares(server.address)
            assert shares == _shares(embedded[0].address)
            canaries = {at for at, answer in enumerate(shares) if answer == 6.0}
            assert set(shares) == {4.0, 6.0}
            assert abs(len(canaries) / len(USERS) - canary / 100) < 0.12
            assert before < canaries, "who has the new one keeps it"
            before = canaries
        callers.until_more(100)
    assert callers.failures() == []
    for at, answers in enumerate(callers.answers):
        in_order = [answer for answer, former in zip(answers, [None, *answers], strict=False) if answer != former]
        assert in_order in ([9.0, 6.0], [9.0, 4.0, 6.0], [9.0, 4.0]), "an answer of two specs, or of a former one"
        assert (in_order[-1] == 6.0) == (at in before)


def test_end_under_load_answers_who_is_in_it(server: ServerProcess) -> None:
    with calling(server.address, "both") as callers:
        callers.until_more(200)
        server.signal(signal.SIGTERM)
        assert server.wait(START_S) == 0, server.output
    for answers in callers.answers:
        served = [each for each in answers if not isinstance(each, str)]
        assert not any(isinstance(each, str) for each in answers[: len(served)]), answers
