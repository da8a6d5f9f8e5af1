"""The unmodified `tritonclient.grpc.aio`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc.aio import InferenceServerClient

from tests.serving.calls import count, numbers, pair, refused, simple_inputs
from tests.serving.servers import ServerHere

Work = Callable[[InferenceServerClient], Awaitable[None]]


def _run(server: ServerHere, work: Work) -> None:
    """Runs `work` with a client on the server's own loop: grpcio polls for one loop of a process at a time."""

    async def with_client() -> None:
        async with InferenceServerClient(server.address) as client:
            await work(client)

    server.run(with_client())


def test_infer_answers(server: ServerHere) -> None:
    left, right = pair(4)

    async def work(client: InferenceServerClient) -> None:
        result = await client.infer("simple", simple_inputs(left, right), request_id="a")
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), left + right)
        assert result.get_response().id == "a"

    _run(server, work)


def test_many_at_once_each_get_their_own_answer(server: ServerHere) -> None:
    asked = [pair(1 + seed % 8, seed) for seed in range(200)]

    async def work(client: InferenceServerClient) -> None:
        results = await asyncio.gather(*(client.infer("simple", simple_inputs(*each)) for each in asked))
        for (left, right), result in zip(asked, results, strict=True):
            np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), left - right)

    _run(server, work)


def test_questions_are_answered(server: ServerHere) -> None:
    async def work(client: InferenceServerClient) -> None:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("simple")
        assert (await client.get_server_metadata(as_json=True))["name"] == "vireo-under-test"
        assert (await client.get_model_metadata("simple")).platform == "onnxruntime_onnx"
        assert (await client.get_model_config("simple")).config.max_batch_size == 8
        assert len((await client.get_model_repository_index()).models) > 20
        assert (await client.get_inference_statistics("simple")).model_stats[0].name == "simple"

    _run(server, work)


@pytest.mark.parametrize("algorithm", [None, "gzip"])
def test_stream_infer_answers_in_order(server: ServerHere, algorithm: str | None) -> None:
    asked = [pair(seed=seed) for seed in range(50)]

    async def requests() -> AsyncIterator[dict[str, Any]]:
        for index, each in enumerate(asked):
            yield {"model_name": "simple", "inputs": simple_inputs(*each), "request_id": str(index)}

    async def work(client: InferenceServerClient) -> None:
        answers = client.stream_infer(requests(), compression_algorithm=algorithm)
        got = [result async for result, error in answers if error is None]
        assert [each.get_response().id for each in got] == [str(index) for index in range(50)]
        for (left, right), result in zip(asked, got, strict=True):
            np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), left + right)

    _run(server, work)


def test_stream_infer_of_a_streaming_model_gives_every_response_and_errors_in_their_place(server: ServerHere) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        yield {"model_name": "countdown", "inputs": count(3.0)}
        yield {"model_name": "no-such-model", "inputs": count(3.0)}

    async def work(client: InferenceServerClient) -> None:
        got = [(result, error) async for result, error in client.stream_infer(requests())]
        errors = [error.message() for _, error in got if error is not None]
        parts = [result for result, error in got if error is None]
        assert len(errors) == 1
        assert "unknown model: 'no-such-model' is not found" in errors[0]
        assert [each.as_numpy("y").item() for each in parts] == [3.0, 2.0, 1.0]

    _run(server, work)


def test_refusal_has_its_code(server: ServerHere) -> None:
    async def work(client: InferenceServerClient) -> None:
        with refused("INVALID_ARGUMENT", "'simple' has no input 'x'"):
            await client.infer("simple", numbers(1.0))

    _run(server, work)
