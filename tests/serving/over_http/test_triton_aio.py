"""The unmodified `tritonclient.http.aio`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import pytest
from tritonclient.http.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from tests.serving.calls import pair
from tests.serving.over_http.bodies import simple_inputs
from tests.serving.servers import ServerHere

pytestmark = pytest.mark.usefixtures("http1")

Work = Callable[[InferenceServerClient], Awaitable[None]]


def _run(server: ServerHere, work: Work) -> None:
    async def with_client() -> None:
        async with InferenceServerClient(f"127.0.0.1:{server.host.http_port}") as client:
            await work(client)

    asyncio.run(with_client())


def test_server_and_models_are_described(server: ServerHere) -> None:
    async def work(client: InferenceServerClient) -> None:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("simple")
        assert not await client.is_model_ready("no-such-model")
        assert (await client.get_server_metadata())["name"] == "vireo-under-test"
        assert (await client.get_model_metadata("simple", "1"))["versions"] == ["1"]
        assert (await client.get_model_config("simple"))["max_batch_size"] == 8
        assert {"name": "simple", "version": "1", "state": "READY", "reason": ""} in (
            await client.get_model_repository_index()
        )
        (counted,) = (await client.get_inference_statistics("simple"))["model_stats"]
        assert counted["name"] == "simple"

    _run(server, work)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("algorithm", ["gzip", "deflate", None])
def test_infer_answers(server: ServerHere, algorithm: str | None, binary: bool) -> None:
    left, right = pair(8)

    async def work(client: InferenceServerClient) -> None:
        result = await client.infer(
            "simple",
            simple_inputs(left, right, binary=binary),
            request_id="a",
            request_compression_algorithm=algorithm,
            response_compression_algorithm=algorithm,
        )
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), left + right)
        assert result.get_response()["id"] == "a"

    _run(server, work)


def test_many_at_once_each_get_their_own_answer(server: ServerHere) -> None:
    asked = [pair(seed=seed) for seed in range(100)]

    async def work(client: InferenceServerClient) -> None:
        results = await asyncio.gather(*(client.infer("simple", simple_inputs(*each)) for each in asked))
        for (left, right), result in zip(asked, results, strict=True):
            np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), left - right)

    _run(server, work)


def test_errors_keep_their_status_and_message(server: ServerHere) -> None:
    async def work(client: InferenceServerClient) -> None:
        with pytest.raises(
            InferenceServerException,
            match=r"^\[404\] Request for unknown model: 'simpel' is not found; nearest: 'simple'",
        ):
            await client.infer("simpel", simple_inputs(*pair()))
        with pytest.raises(InferenceServerException, match=r"^\[404\] .*no-such-model"):
            await client.load_model("no-such-model")
        with pytest.raises(InferenceServerException, match=r"^\[501\] "):
            await client.get_trace_settings()

    _run(server, work)
