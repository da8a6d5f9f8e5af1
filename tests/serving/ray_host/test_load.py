"""What a replica measures of its queues, read from an engine that serves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine import Deadline, Request, Response, Tensor, VireoError, datatype_named, parse_spec
from serving.ray_host.load import LoadMeter
from tests.serving.ray_host.test_autoscaling import ONE_AT_A_TIME
from tests.serving.servers import ServerHere
from tests.serving.test_graph_surfaces import function
from tests.serving.test_graphs_over_wire import graph

SPEC = (
    "server: {grpc_port: null, http_port: null}\nfunctions:\n"
    + function("slow", "slow", ONE_AT_A_TIME)
    + function("quick", "double")
    + "graphs:\n"
    + graph("chain", "last: {call: slow, inputs: {x: x}}")
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerHere]:
    made = ServerHere(parse_spec(SPEC, folder=tmp_path))
    yield made
    made.stop()


def _request(model: str, deadline: Deadline = Deadline.NEVER) -> Request:
    one = Tensor(datatype_named("FP32", of="x"), np.ones((1, 1), np.float32))
    return Request(model, {"x": one}, deadline=deadline)


def test_meter_tells_of_what_came_since_it_was_read_last(server: ServerHere) -> None:
    async def measured() -> list[dict[str, float]]:
        dispatch, meter = server.host.dispatch, LoadMeter(server.host.dispatch)

        async def together(*requests: Request) -> list[Response | BaseException]:
            return await asyncio.gather(*map(dispatch.infer, requests), return_exceptions=True)

        meter.read()  # what warmed the models
        await together(*[_request("slow")] * 4)
        waited = meter.read()
        await together(*[_request("quick")] * 4)
        idle = meter.read()
        late = Deadline(server.engine.clock() + 30_000_000)
        (_, *told) = await together(_request("slow"), _request("chain", late), *[_request("slow", late)] * 2)
        # One that comes when the first is at work and none waits is tried (see admission); which, the worker's thread decides
        assert sum(isinstance(each, VireoError) for each in told) >= 2
        missed = meter.read()
        under_way = asyncio.ensure_future(dispatch.infer(_request("slow")))
        await asyncio.sleep(0)
        busy = meter.read()
        await under_way
        meter.close()
        return [waited, idle, missed, busy]

    waited, idle, missed, busy = server.run(measured())
    assert waited["wait_ms"] > 20, "the last of four that take 20 ms each"
    assert waited["rate"] > 0
    assert (waited["missed"], waited["calls"]) == (0, 0)
    assert idle["wait_ms"] < 20
    assert idle["rate"] > 0
    assert missed["missed"] >= 0.5, "of the four that came to the function, also by the graph"
    assert busy["calls"] == 1
