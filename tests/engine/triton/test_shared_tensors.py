"""Large tensors in memory that a real Triton shares: the same answers, whatever becomes of calls, regions and servers."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient

from engine import DeadlineExceeded, Request, Tensor
from engine.clock import monotonic
from engine.home import Home
from engine.servables.tritonserver import TritonModel, load_triton
from engine.tensor import BF16, BOOL, FP16, INT64, Array
from engine.triton.declaration import TritonModelSpec
from engine.triton.servers import TritonServers
from engine.triton.shared_memory import FOLDER
from tests.engine.triton.real import RealTriton
from tests.fakes import FP32, PATIENCE_S

ROWS = 256
"""Of 4 KiB each."""


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealTriton]:
    made = RealTriton(tmp_path_factory.mktemp("triton"), ("wide", "slow", "echo"))
    try:
        yield made.start("wide")
    finally:
        made.kill()


@pytest.fixture
def load(triton: RealTriton) -> Iterator[Callable[..., TritonModel]]:
    """Loads models by name and with more of their spec; the last thing of a test is that nothing of them is left."""
    loaded: list[TritonModel] = []

    def load(name: str, **spec: object) -> TritonModel:
        servers = TritonServers(monotonic, Home())
        loaded.append(load_triton(servers, name, TritonModelSpec(**{"servers": (triton.address,), **spec})))  # type: ignore[arg-type]
        return loaded[-1]

    yield load
    for each in loaded:
        each.close()
    when(lambda: not registered(triton))
    assert not list(FOLDER.glob("vireo-triton-*"))


def when(so: Callable[[], object]) -> None:
    """Returns when it is so; fails after PATIENCE_S."""
    until = time.monotonic() + PATIENCE_S
    while not so():
        assert time.monotonic() < until
        time.sleep(0.02)


def registered(triton: RealTriton) -> set[str]:
    """Names of the regions that the server has mapped."""
    client = InferenceServerClient(triton.address)
    found = set(client.get_system_shared_memory_status().regions)
    client.close()
    return found


def shared(model: TritonModel) -> int:
    """How many of its requests shared their tensors."""
    return sum(each.shared_requests for each in model.fleet.replicas)


def x_of(rows: int, value: float | None = None) -> Array:
    if value is None:
        return np.random.default_rng(rows).standard_normal((rows, 1024)).astype(np.float32)
    return np.full((rows, 1024), value, np.float32)


def ask(model: TritonModel, x: Array) -> Array:
    """The answer, which must be the one that it is."""
    answer = model.execute({"x": Tensor(FP32, x)}, ())["y"].array
    assert np.array_equal(answer, 2 * x)
    return answer


def until_shared(model: TritonModel, x: Array) -> None:
    """Asks until a request shared its tensors: the first ones have no region yet."""
    before = shared(model)

    def so() -> bool:
        ask(model, x)
        return shared(model) > before

    when(so)


def test_large_tensors_are_shared_and_small_ones_are_not(load: Callable[..., TritonModel], triton: RealTriton) -> None:
    model = load("wide")
    ask(model, x_of(1))
    assert registered(triton) == set()
    until_shared(model, x_of(ROWS))
    before = shared(model)
    kept = [ask(model, x_of(rows)) for rows in (ROWS, ROWS - 1, ROWS // 2)]
    assert shared(model) == before + 3
    assert all(np.array_equal(each, 2 * x_of(len(each))) for each in kept)  # another request's tensors lie there by now
    ask(model, x_of(1))
    assert shared(model) == before + 3


def test_nothing_is_shared_where_the_spec_says_so(load: Callable[..., TritonModel], triton: RealTriton) -> None:
    model = load("wide", shared_memory="off")
    for _ in range(3):
        ask(model, x_of(ROWS))
    assert registered(triton) == set()


def test_texts_and_answers_of_unknown_size_go_in_the_message_beside(load: Callable[..., TritonModel]) -> None:
    model = load("echo")
    inputs = {
        "text": Tensor.from_texts(["a", "", "bc"]),
        "half": Tensor(FP16, np.full(3, 0.5, np.float16)),
        "brain": Tensor(BF16, np.arange(5, dtype=np.uint16)),
        "flag": Tensor(BOOL, np.array([True, False])),
        "whole": Tensor(INT64, np.arange(100_000)),
    }

    def so() -> bool:
        outputs = model.execute(inputs, ())
        assert {name: each.to_bytes() for name, each in outputs.items()} == {
            f"{name}_back": each.to_bytes() for name, each in inputs.items()
        }
        return shared(model) > 0

    when(so)


def test_many_at_once_have_a_region_each(load: Callable[..., TritonModel]) -> None:
    model = load("wide")
    answers: dict[int, Array] = {}
    ended = threading.Semaphore(0)

    def send(index: int) -> None:
        def told(outcome: object, *_: object) -> None:
            answers[index] = outcome["y"].array  # type: ignore[index]
            ended.release()

        request = Request("wide", {"x": Tensor(FP32, x_of(ROWS, index))})
        model.send(request, monotonic() + int(PATIENCE_S * 1e9), told)

    count = 0
    while shared(model) < 30:
        for _ in range(8):
            send(count)
            count += 1
        model.flush()
        assert all(ended.acquire(timeout=PATIENCE_S) for _ in range(8))
    assert [float(answers[index][0, 0]) for index in range(count)] == [2.0 * index for index in range(count)]
    assert all(np.all(each == each[0, 0]) for each in answers.values())


@pytest.mark.parametrize("end", ["cancelled", "deadline"])
def test_a_call_that_nobody_waits_for_keeps_its_region_until_the_server_is_done(
    load: Callable[..., TritonModel], triton: RealTriton, end: str
) -> None:
    model = load("slow", shared_memory_bytes_min=4096)
    until_shared(model, x_of(1, 1))
    (region,) = registered(triton)
    outcomes: list[object] = []
    remaining_s = 0.2 if end == "deadline" else PATIENCE_S
    request = Request("slow", {"x": Tensor(FP32, x_of(1, 800))})
    call = model.send(request, monotonic() + int(remaining_s * 1e9), lambda outcome, *_: outcomes.append(outcome))
    model.flush()
    time.sleep(0.1)
    if end == "cancelled":
        call.cancel()
    when(lambda: outcomes)
    assert isinstance(outcomes[0], DeadlineExceeded) == (end == "deadline")
    assert region in registered(triton)
    ask(model, x_of(1, 2))  # it waits for its turn, and has nothing to do with that region
    when(lambda: region not in registered(triton))
    until_shared(model, x_of(1, 3))


def test_of_two_that_were_asked_the_one_that_answers_counts(
    load: Callable[..., TritonModel], triton: RealTriton
) -> None:
    both = (triton.address, triton.address.replace("127.0.0.1", "localhost"))
    model = load("slow", servers=both, hedge_ms=1, shared_memory_bytes_min=4096)
    when(lambda: all(each.standing.ready for each in model.fleet.replicas))
    for _ in range(20):
        ask(model, x_of(1, 1))

    def both_shared_one() -> bool:
        before = [each.shared_requests for each in model.fleet.replicas]
        ask(model, x_of(1, 30))
        return all(each.shared_requests > one for each, one in zip(model.fleet.replicas, before, strict=True))

    when(both_shared_one)


def test_a_server_that_forgot_its_regions_answers_all_the_same(
    load: Callable[..., TritonModel], triton: RealTriton
) -> None:
    model = load("wide")
    until_shared(model, x_of(ROWS))
    client = InferenceServerClient(triton.address)
    client.unregister_system_shared_memory()
    client.close()
    assert registered(triton) == set()
    for _ in range(3):
        ask(model, x_of(ROWS))


def test_a_server_that_comes_back_shares_again(load: Callable[..., TritonModel], triton: RealTriton) -> None:
    model = load("wide")
    until_shared(model, x_of(ROWS))
    triton.kill()
    when(lambda: not model.fleet.replicas[0].standing.ready)
    triton.start("wide")
    when(lambda: model.fleet.replicas[0].standing.ready)
    until_shared(model, x_of(ROWS))


KILLED = """
import os, signal, sys
import numpy as np
from engine import Tensor, datatype_named
from engine.clock import monotonic
from engine.home import Home
from engine.servables.tritonserver import load_triton
from engine.triton.declaration import TritonModelSpec
from engine.triton.servers import TritonServers
model = load_triton(TritonServers(monotonic, Home()), "wide", TritonModelSpec((sys.argv[1],)))
x = Tensor(datatype_named("FP32", of="x"), np.ones((256, 1024), np.float32))
while not model.fleet.replicas[0].shared_requests:
    model.execute({"x": x}, ())
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_shared_is_unregistered_by_the_next(
    load: Callable[..., TritonModel], triton: RealTriton
) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, triton.address], check=False, timeout=PATIENCE_S)
    assert killed.returncode == -9
    (left,) = registered(triton)
    model = load("wide")
    until_shared(model, x_of(ROWS))
    when(lambda: left not in registered(triton))
    assert len(registered(triton)) == 1
