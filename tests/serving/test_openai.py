"""A real vLLM engine with a real small model behind the OpenAI API, called by the unmodified `openai` client."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import openai
import pytest
from openai import OpenAI

from benchmarks.workloads.generation.model import write_model
from engine import Spec
from tests.serving.lora import write_adapter
from tests.serving.servers import ServerHere, eventually, spec_for
from tests.serving.vllm_server import PATIENCE_S, client_of, server_of, skip_unless_wanted, url_of

skip_unless_wanted()

SPEC = """
server: {grpc_port: 0, http_port: 0}
functions:
  double:
    call: tests.serving.functions:double
    inputs: {x: {datatype: FP32, shape: [1]}}
    outputs: {y: {datatype: FP32, shape: [1]}}
language_models:
  smol:
    vllm:
      model: smol
      args: {enforce-eager: true, max-model-len: 1024, max-num-seqs: 16, scheduling-policy: priority,
             enable-auto-tool-choice: true, tool-call-parser: hermes, max-loras: 2, max-lora-rank: 8}
      adapters: {ADAPTERS}
"""
HI: Final[list[Any]] = [{"role": "user", "content": "Say hello."}]
WEATHER: Final[Any] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "strict": True,
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "maxLength": 12}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }
]
SEED = random.randrange(1 << 32)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerHere]:
    """One engine for all tests."""
    folder = tmp_path_factory.mktemp("vllm")
    write_model(folder / "smol")
    for seed, (name, rank) in enumerate({"pirate": 8, "sailor": 8, "large": 64}.items()):
        write_adapter(folder / name, folder / "smol", seed=seed, rank=rank)
    made = server_of(spec_with(folder, "pirate"))
    yield made
    made.stop()


def spec_with(folder: Path, *adapters: str) -> Spec:
    """The spec, with these adapters."""
    named = ", ".join(f"{each}: {each}" for each in adapters)
    return spec_for(SPEC.replace("ADAPTERS", named), folder, "native")


@pytest.fixture
def url(server: ServerHere) -> str:
    """Where the API is."""
    return url_of(server)


@pytest.fixture
def client(server: ServerHere) -> Iterator[OpenAI]:
    """The vendor's client."""
    with client_of(server) as made:
        yield made


def under_way(server: ServerHere) -> int:
    """Requests in vLLM's engine."""
    live = server.engine.language_models._live["smol"]
    count: int = live.model._llm.get_num_unfinished_requests()  # type: ignore[attr-defined]
    return count


def core_pid(server: ServerHere) -> int:
    """The process of vLLM's engine core."""
    live = server.engine.language_models._live["smol"]
    pid: int = live.model._llm.engine_core.resources.engine_manager.processes[0].pid  # type: ignore[attr-defined]
    return pid


def test_chat_whole_and_streamed_say_the_same(client: OpenAI) -> None:
    whole = client.chat.completions.create(model="smol", messages=HI, max_tokens=12, temperature=0)
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 12
    pieces = client.chat.completions.create(model="smol", messages=HI, max_tokens=12, temperature=0, stream=True)
    told = "".join(each.choices[0].delta.content or "" for each in pieces)
    assert told == whole.choices[0].message.content
    assert len(told) > 5


def test_completions_log_probabilities_and_responses(client: OpenAI) -> None:
    made = client.completions.create(model="smol", prompt="One, two,", max_tokens=3, temperature=0, logprobs=2)
    assert made.choices[0].logprobs is not None
    assert len(made.choices[0].logprobs.tokens or ()) == 3
    answer = client.responses.create(model="smol", input="Say hello.", max_output_tokens=8, temperature=0)
    assert answer.output_text
    events = list(client.responses.create(model="smol", input="Say hello.", max_output_tokens=8, stream=True))
    assert events[-1].type in ("response.completed", "response.incomplete")


def test_a_schema_and_a_tool_bind_the_answer(client: OpenAI) -> None:
    schema = {
        "type": "object", "properties": {"age": {"type": "integer", "minimum": 1, "maximum": 99}}, "required": ["age"],
        "additionalProperties": False,
    }  # fmt: skip
    bound = client.chat.completions.create(
        model="smol", messages=[{"role": "user", "content": "How old are you?"}], max_tokens=60, temperature=0,
        response_format={"type": "json_schema", "json_schema": {"name": "age", "schema": schema, "strict": True}},
    )  # fmt: skip
    assert 1 <= json.loads(bound.choices[0].message.content or "")["age"] <= 99
    called = client.chat.completions.create(
        model="smol", messages=[{"role": "user", "content": "Weather in Rome?"}], max_tokens=80, temperature=0,
        tools=WEATHER, tool_choice={"type": "function", "function": {"name": "weather"}},
    )  # fmt: skip
    calls: Any = called.choices[0].message.tool_calls
    assert "city" in json.loads(calls[0].function.arguments)


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        ({"model": "smoll"}, openai.NotFoundError, "nearest: 'smol'"),
        ({"temperature": -3}, openai.BadRequestError, "temperature"),
        ({"messages": "text"}, openai.BadRequestError, "messages"),
        ({"messages": [{"role": "user", "content": "word " * 3000}]}, openai.BadRequestError, "1024"),
        ({"tools": [{"type": "function"}]}, openai.BadRequestError, "tools"),
        ({"max_tokens": 99_999}, openai.BadRequestError, "max_tokens"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}]}
                ]
            },
            openai.BadRequestError,
            "",
        ),
    ],
)
def test_bad_input_has_the_error_form_and_stalls_nobody(
    client: OpenAI, url: str, wrong: dict[str, Any], error: type[openai.APIStatusError], said: str
) -> None:
    good: dict[str, Any] = {"model": "smol", "messages": HI, "max_tokens": 5}
    with pytest.raises(error) as raised:
        client.chat.completions.create(**{**good, **wrong})
    assert said in raised.value.message
    told: Any = raised.value.body
    assert set(told) >= {"message", "type", "param", "code"}
    assert client.chat.completions.create(**good).choices


def test_adapters_come_and_go_without_a_new_engine_and_each_call_chooses(client: OpenAI, server: ServerHere) -> None:
    folder = server.engine.spec.folder

    def said(model: str) -> str | None:
        asked = client.chat.completions.create(model=model, messages=HI, max_tokens=8, temperature=0)
        return asked.choices[0].message.content

    def apply(*adapters: str) -> None:
        server.run(server.host.apply(spec_with(folder, *adapters)))

    plain, core = said("smol"), core_pid(server)
    with pytest.raises(openai.NotFoundError, match="'sailor' is not found"):
        said("sailor")
    apply("pirate", "sailor")
    assert len({plain, said("pirate"), said("sailor")}) == 3
    cards = {each.id: each.model_dump()["parent"] for each in client.models.list()}
    assert cards == {"smol": None, "pirate": "smol", "sailor": "smol"}
    apply("pirate")
    apply("large", "pirate", "sailor")
    assert {each.id for each in client.models.list()} == {"smol", "pirate", "sailor"}, "the rest is served"
    assert "vllm.adapters.large: " in server.engine.problems()["smol"]
    assert "rank 64 is greater than max_lora_rank 8" in server.engine.problems()["smol"]
    apply("pirate")
    assert not server.engine.problems()
    assert (said("smol"), core_pid(server)) == (plain, core)


@pytest.mark.parametrize(
    ("bound", "form"),
    [
        ({"regex": "[0-9]{3}-[0-9]{4}"}, r"[0-9]{3}-[0-9]{4}"),
        ({"grammar": 'root ::= "yes" | "no"'}, "yes|no"),
        ({"choice": ["red", "blue"]}, "red|blue"),
    ],
)
def test_a_form_binds_the_answer(client: OpenAI, bound: dict[str, Any], form: str) -> None:
    more = {"structured_outputs": bound}
    answer = client.chat.completions.create(model="smol", messages=HI, max_tokens=20, temperature=0, extra_body=more)
    assert re.fullmatch(form, answer.choices[0].message.content or "")


def test_an_embedding_of_a_model_that_makes_none_is_refused(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="answers no embedding calls"):
        client.embeddings.create(model="smol", input="x")


def test_models_metrics_and_tokens_are_told(client: OpenAI, url: str) -> None:
    told_of = [(each.id, each.owned_by) for each in client.models.list()]
    assert told_of == [("smol", "vllm"), ("pirate", "vllm")]
    text = httpx.get(url.removesuffix("/v1") + "/metrics").text
    assert 'vllm:generation_tokens_total{engine="0",model_name="smol"}' in text
    told = httpx.post(url.removesuffix("/v1") + "/tokenize", json={"model": "smol", "prompt": "one two"}).json()
    assert told["count"] == len(told["tokens"]) >= 2


def test_a_deadline_frees_the_engine(client: OpenAI, server: ServerHere) -> None:
    late = {"x-request-timeout-ms": "150"}
    with pytest.raises(openai.APIError):
        for _ in client.chat.completions.create(
            model="smol", messages=HI, max_tokens=900, stream=True, extra_headers=late, extra_body={"ignore_eos": True}
        ):
            pass
    eventually(lambda: under_way(server) == 0, "the engine is free", PATIENCE_S)


def test_two_hundred_random_disconnects_leak_nothing(url: str, server: ServerHere) -> None:
    body = {"model": "smol", "messages": HI, "max_tokens": 900, "stream": True, "ignore_eos": True}
    chance = random.Random(SEED)
    before = server.tasks()

    async def leave(client: httpx.AsyncClient) -> None:
        async with client.stream("POST", f"{url}/chat/completions", json=body) as streamed:
            lines = streamed.aiter_lines()
            for _ in range(chance.randrange(4)):
                await anext(lines)

    async def leave_all() -> None:
        for _ in range(25):
            async with httpx.AsyncClient(timeout=PATIENCE_S, verify=False) as client:
                await asyncio.gather(*(leave(client) for _ in range(8)))

    asyncio.run(leave_all())
    eventually(
        lambda: under_way(server) == 0 and server.in_flight == 0, f"the engine is free (seed {SEED})", PATIENCE_S
    )
    eventually(lambda: server.tasks() <= before, f"no task is left (seed {SEED})", PATIENCE_S)


def test_a_killed_engine_is_not_ready_then_restarted_and_others_never_notice(
    client: OpenAI, server: ServerHere
) -> None:
    os.kill(core_pid(server), signal.SIGKILL)
    eventually(lambda: "smol" in server.engine.problems(), "it is not ready", PATIENCE_S)
    assert server.engine.is_ready("double", None)
    with pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(model="smol", messages=HI, max_tokens=3)
    assert (raised.value.status_code, raised.value.response.headers["retry-after"]) == (503, "1")
    eventually(lambda: not server.engine.problems(), "it is ready again", PATIENCE_S)
    assert client.chat.completions.create(model="smol", messages=HI, max_tokens=3).choices
    assert server.engine.language_models.statistics()[0][1].restarts == 1
