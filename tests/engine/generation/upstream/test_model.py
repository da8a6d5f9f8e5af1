"""Calls to language models elsewhere, over real sockets: answered, streamed, tried again, handed on, left."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import orjson
import pytest

from engine import (
    Deadline,
    DeadlineExceeded,
    Engine,
    GenerationAnswer,
    GenerationCall,
    GenerationKind,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
    monotonic,
)
from engine.generation.upstream.model import UpstreamModel
from engine.generation.upstream.statistics import Ending, TargetStatistics, UpstreamStatistics
from tests.engine.generation.upstream.conftest import Make
from tests.engine.generation.upstream.vendor_types import chunk, completion
from tests.fakes import PATIENCE_S
from tests.providers import COUNTS, Breaks, Provider, Refuses, gone

Result = TypeVar("Result")
Json = dict[str, Any]
Providers = dict[str, Provider]

ONE = "  chat: {upstream: {targets: {a: {base_url: {a}, model: gpt, api_key_env: UP_KEY}}%s}}"
TWO = """
  chat:
    upstream:
      targets:
        a: {base_url: {a}, model: gpt, weight: 1}
        b: {base_url: {b}, model: other, weight: 0}
      retry: {backoff_s_min: 0.01, backoff_s_max: 0.02}
%s"""
CLAUDE = "  chat: {upstream: {targets: {claude: {provider: anthropic, base_url: {claude}, model: sonnet, api_key_env: UP_KEY}}}}"


def run(engine: Engine, work: Coroutine[Any, Any, Result]) -> Result:
    """On the loop of the language models."""
    return engine.home.run(work, PATIENCE_S)


def call(
    text: str = "hi", *, kind: GenerationKind = GenerationKind.CHAT, deadline: Deadline = Deadline.NEVER,
    tenant: str | None = None, **body: Any,  # noqa: ANN401
) -> GenerationCall:  # fmt: skip
    """A chat that says `text`."""
    asked = {"model": "chat", "messages": [{"role": "user", "content": text}], **body}
    return GenerationCall(kind, "chat", asked, deadline, tenant)


def ask(engine: Engine, asked: GenerationCall | None = None) -> GenerationAnswer:
    """The answer to a call."""
    return run(engine, engine.language_models.answer(asked or call()))


async def _chunks(engine: Engine, asked: GenerationCall) -> list[bytes]:
    answer = await engine.language_models.answer(asked)
    assert not isinstance(answer.body, bytes)
    try:
        return [each async for each in answer.body]
    finally:
        await answer.aclose()


def stream(engine: Engine, asked: GenerationCall) -> list[Json | str]:
    """The data of a stream's events."""
    lines = b"".join(run(engine, _chunks(engine, asked))).decode().split("\n\n")
    data = [each.removeprefix("data: ") for each in lines if each]
    return [each if each == "[DONE]" else json.loads(each) for each in data]


def told(answer: GenerationAnswer) -> Json:
    """A whole answer."""
    assert isinstance(answer.body, bytes)
    found: Json = orjson.loads(answer.body)
    return found


def text_of(events: list[Json | str]) -> str:
    """What a stream says."""
    assert events[-1] == "[DONE]"
    chunks = [chunk(each) for each in events if not isinstance(each, str)]
    return "".join(each.choices[0].delta.content or "" for each in chunks if each.choices)


def counted(engine: Engine) -> UpstreamStatistics:
    """What the model did."""
    ((_, model),) = [each for each in engine.language_models.live() if each[0] == "chat"]
    assert isinstance(model, UpstreamModel)
    return model.statistics


def of_target(engine: Engine, name: str) -> TargetStatistics:
    """What one of its targets did."""
    return counted(engine).targets[name]


# Answers.


def test_a_call_goes_to_the_server_under_its_own_name_and_its_answer_comes_back_as_it_is(
    make: Make, providers: Providers
) -> None:
    engine = make(ONE % "")
    answer = ask(engine, call("hello", seed=7, something="new"))
    assert completion(told(answer)).choices[0].message.content == "you said: hello"
    (asked,) = providers["a"].asked
    assert asked.body == {
        "model": "gpt",
        "messages": [{"role": "user", "content": "hello"}],
        "seed": 7,
        "something": "new",
    }
    assert asked.headers["authorization"] == "Bearer sk-secret-1"
    assert dict(answer.headers) == {"x-request-id": "req_1", "vireo-target": "a"}
    used = of_target(engine, "a")
    assert (used.input_tokens, used.output_tokens, used.cached_input_tokens, used.in_flight) == (12, 5, 4, 0)


def test_a_stream_is_passed_on_and_counted_though_the_caller_did_not_ask_for_counts(
    make: Make, providers: Providers
) -> None:
    price = "price: {currency: USD, per_tokens: 1000, input: 1.0, output: 2.0, cached_input: 0.5}"
    engine = make(ONE.replace("model: gpt", f"model: gpt, {price}") % "")
    events = stream(engine, call(stream=True))
    assert text_of(events) == "you said: hi"
    assert all(each == "[DONE]" or "usage" not in each for each in events)
    assert providers["a"].asked[0].body["stream_options"] == {"include_usage": True}
    used = of_target(engine, "a")
    assert (used.input_tokens, used.output_tokens, used.estimated_tokens) == (12, 5, 0)
    assert used.cost == pytest.approx((8 * 1.0 + 4 * 0.5 + 5 * 2.0) / 1000)
    shown = stream(engine, call(stream=True, stream_options={"include_usage": True}))
    assert isinstance(shown[-2], dict)
    assert shown[-2]["usage"] == COUNTS


def test_a_server_that_cannot_count_streams_is_not_asked_to_and_its_tokens_are_estimated(
    make: Make, providers: Providers
) -> None:
    engine = make(ONE.replace("model: gpt", "model: gpt, stream_usage: false, drop_parameters: [seed]") % "")
    assert text_of(stream(engine, call("x" * 400, stream=True, seed=3))) == "you said: " + "x" * 400
    assert not {"stream_options", "seed"} & providers["a"].asked[0].body.keys()
    used = of_target(engine, "a")
    assert used.estimated_tokens == used.input_tokens + used.output_tokens > 200


def test_connections_are_used_again(make: Make, providers: Providers) -> None:
    engine = make(ONE % "")
    for each in range(6):
        if each % 2:
            stream(engine, call(stream=True))
        else:
            ask(engine)
    assert len(providers["a"].connections) == 1


def test_embeddings_are_passed_on(make: Make, providers: Providers) -> None:
    engine = make(ONE % "")
    asked = GenerationCall(GenerationKind.EMBEDDING, "chat", {"model": "chat", "input": "text"})
    assert told(ask(engine, asked))["data"][0]["embedding"] == [0.5, 0.25]
    assert providers["a"].asked[0].path == "/v1/embeddings"
    assert of_target(engine, "a").input_tokens == 3


def test_anthropic_answers_in_openais_words(make: Make, providers: Providers) -> None:
    engine = make(CLAUDE)
    answer = completion(told(ask(engine, call("hello", max_tokens=7))))
    assert answer.choices[0].message.content == "you said: hello"
    (asked,) = providers["claude"].asked
    assert (asked.path, asked.body["model"], asked.body["max_tokens"]) == ("/v1/messages", "sonnet", 7)
    assert (asked.headers["x-api-key"], asked.headers["anthropic-version"]) == ("sk-secret-1", "2023-06-01")
    assert text_of(stream(engine, call("hello", stream=True))) == "you said: hello"
    used = of_target(engine, "claude")
    assert (used.input_tokens, used.cached_input_tokens, used.output_tokens) == (24, 8, 10)


def test_anthropic_does_not_take_what_it_cannot_say(make: Make, providers: Providers) -> None:
    engine = make(CLAUDE)
    with pytest.raises(InvalidArgument, match="target 'claude': logprobs: Anthropic's API has no counterpart"):
        ask(engine, call(logprobs=True))
    with pytest.raises(InvalidArgument, match="answers no embedding calls"):
        ask(engine, GenerationCall(GenerationKind.EMBEDDING, "chat", {"input": "x"}))
    assert not providers["claude"].asked


def test_a_call_that_one_target_cannot_take_goes_to_another_which_costs_no_try(
    make: Make, providers: Providers
) -> None:
    engine = make(
        """
  chat:
    upstream:
      targets:
        claude: {provider: anthropic, base_url: {claude}, weight: 1}
        b: {base_url: {b}, weight: 0}
      retry: {attempts_max: 1}
"""
    )
    assert dict(ask(engine, call(seed=1)).headers)["vireo-target"] == "b"
    assert dict(ask(engine).headers)["vireo-target"] == "claude"


def test_azure_is_reached_by_deployment_with_a_key_or_a_token_that_changes(
    make: Make, providers: Providers, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("entra-1\n")
    common = "provider: azure, base_url: {azure}, deployment: gpt-4o"
    engine = make(
        f"  chat: {{upstream: {{targets: {{x: {{{common}, api_version: '2024-10-21', api_key_env: UP_KEY}}}}}}}}\n"
        f"  filed: {{upstream: {{targets: {{x: {{{common}, token_file: token}}}}}}}}\n"
        f"  made: {{upstream: {{targets: {{x: {{{common}, token_command: [echo, entra-3]}}}}}}}}"
    )
    for name in ("chat", "filed", "made"):
        asked = GenerationCall(GenerationKind.CHAT, name, call().body)
        ask(engine, asked)
        if name == "filed":
            (tmp_path / "token").write_text("entra-two\n")
            ask(engine, asked)
    asked_for = providers["azure"].asked
    assert asked_for[0].path == "/openai/deployments/gpt-4o/chat/completions"
    assert asked_for[0].query == "api-version=2024-10-21"
    assert asked_for[1].path == "/openai/v1/chat/completions"
    assert asked_for[0].headers["api-key"] == "sk-secret-1"
    sent = [each.headers["authorization"] for each in asked_for[1:]]
    assert sent == ["Bearer entra-1", "Bearer entra-two", "Bearer entra-3"]
    assert {each.body["model"] for each in asked_for} == {"gpt-4o"}


# Faults.


def test_what_the_caller_is_to_blame_for_is_told_in_the_providers_words_and_not_tried_again(
    make: Make, providers: Providers
) -> None:
    engine = make(TWO % "")
    providers["a"].faults.append(
        Refuses(400, message="max_tokens is too large", type="invalid_request_error", code="big")
    )
    answer = ask(engine)
    assert answer.status == 400
    assert told(answer)["error"] == {
        "message": "max_tokens is too large", "type": "invalid_request_error", "param": None, "code": "big",
    }  # fmt: skip
    assert not providers["b"].asked
    claude = make(CLAUDE)
    providers["claude"].faults.append(Refuses(400, message="prompt is too long", type="invalid_request_error"))
    assert told(ask(claude, call(stream=True)))["error"]["message"] == "prompt is too long"


@pytest.mark.parametrize(
    "fault",
    [
        Refuses(500), Refuses(401), Refuses(404), Refuses(429), Refuses(429, (("retry-after", "30"),)), Refuses(307),
        Breaks("start"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("streams", [False, True])
def test_what_fails_at_one_target_is_answered_by_another(
    make: Make, providers: Providers, fault: Refuses | Breaks, streams: bool
) -> None:
    engine = make(TWO % "")
    providers["a"].faults.append(fault)
    if streams:
        assert text_of(stream(engine, call(stream=True))) == "you said: hi"
    else:
        assert completion(told(ask(engine))).choices[0].message.content == "you said: hi"
    assert [len(providers[each].asked) for each in ("a", "b")] == [1, 1]


@pytest.mark.parametrize(
    "answer",
    [b"", b"\x00\x01nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", b"HTTP/1.1 200 OK\r\n\r\nyes"],
)
def test_what_is_no_answer_is_a_failure_of_its_server(make: Make, answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        where = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        engine = make((TWO % "").replace("{a}", repr(where)))
        assert dict(ask(engine).headers)["vireo-target"] == "b"
        thread.join(PATIENCE_S)
    assert of_target(engine, "a").endings[Ending.FAILED] == 1


def test_one_server_is_asked_again_after_what_it_asked_for(make: Make, providers: Providers) -> None:
    engine = make(ONE % ", retry: {backoff_s_min: 0.0, backoff_s_max: 0.0}")
    providers["a"].faults += [Refuses(429, (("retry-after-ms", "150"),)), Refuses(503)]
    began_ns = monotonic()
    ask(engine)
    assert monotonic() - began_ns >= 150e6
    endings = of_target(engine, "a").endings
    assert (endings[Ending.LIMITED], endings[Ending.FAILED], endings[Ending.ANSWERED]) == (1, 1, 1)


def test_a_wait_that_the_deadline_has_no_room_for_is_not_begun(make: Make, providers: Providers) -> None:
    engine = make(ONE % "")
    providers["a"].faults.append(Refuses(429, (("retry-after", "20"),)))
    began_ns = monotonic()
    with pytest.raises(
        ResourceExhausted, match="its deadline leaves no time for another try; target 'a' is at"
    ) as limited:
        ask(engine, call(deadline=Deadline.after(10.0, monotonic())))
    assert monotonic() - began_ns < 5e9
    assert limited.value.retry_after_s == 20
    with pytest.raises(Unavailable, match="no target can be asked now") as resting:
        ask(engine)
    assert resting.value.retry_after_s == pytest.approx(20, abs=5)
    assert len(providers["a"].asked) == 1


def test_a_server_that_is_silent_is_given_up_at_the_deadline_and_sees_the_caller_leave(
    make: Make, providers: Providers
) -> None:
    engine = make(ONE % "")
    providers["a"].faults.append(Breaks("start", waits=True))
    with pytest.raises(DeadlineExceeded):
        ask(engine, call(deadline=Deadline.after(0.2, monotonic())))
    run(engine, gone(providers["a"]))
    assert of_target(engine, "a").endings[Ending.LEFT] == 1
    assert of_target(engine, "a").in_flight == 0


def test_a_server_that_does_not_begin_in_time_is_left_for_another(make: Make, providers: Providers) -> None:
    engine = make((TWO % "").replace("model: gpt", "model: gpt, first_byte_s_max: 0.1"))
    providers["a"].faults.append(Breaks("start", waits=True))
    assert dict(ask(engine).headers)["vireo-target"] == "b"
    run(engine, gone(providers["a"]))


def test_a_stream_that_breaks_off_in_the_middle_is_told_so_and_not_begun_anew(make: Make, providers: Providers) -> None:
    engine = make(TWO % "")
    for at in ("middle", "end", "garbage"):
        providers["a"].faults.append(Breaks(at))
    with pytest.raises(Unavailable, match="RemoteProtocolError"):
        stream(engine, call(stream=True))
    assert text_of(stream(engine, call(stream=True))) == "you said: hi"  # all was said but [DONE]
    with pytest.raises(Internal, match="not valid JSON"):
        stream(engine, call(stream=True))
    assert of_target(engine, "a").endings[Ending.BROKEN] == 2
    assert not providers["b"].asked


def test_a_provider_that_breaks_off_in_the_middle_is_quoted(make: Make, providers: Providers) -> None:
    engine = make(CLAUDE)
    providers["claude"].faults.append(Breaks("error"))
    events = stream(engine, call("a longer text", stream=True))
    assert events[-1] == {"error": {"message": "too busy", "type": "overloaded_error", "param": None, "code": None}}
    assert of_target(engine, "claude").endings[Ending.BROKEN] == 1


def test_a_caller_who_leaves_a_stream_closes_the_connection_to_the_server(make: Make, providers: Providers) -> None:
    engine = make(ONE % "")
    providers["a"].faults.append(Breaks("middle", waits=True))

    async def leave() -> None:
        answer = await engine.language_models.answer(call(stream=True))
        assert not isinstance(answer.body, bytes)
        await anext(answer.body)
        await answer.aclose()
        await answer.aclose()
        await gone(providers["a"])

    run(engine, leave())
    assert of_target(engine, "a").endings[Ending.LEFT] == 1
    assert of_target(engine, "a").in_flight == 0


def test_a_caller_who_leaves_before_the_answer_closes_the_connection_to_the_server(
    make: Make, providers: Providers
) -> None:
    engine = make(ONE % "")
    providers["a"].faults.append(Breaks("start", waits=True))

    async def leave() -> None:
        task = asyncio.ensure_future(engine.language_models.answer(call()))
        while not providers["a"].asked:  # noqa: ASYNC110  the provider runs on another loop
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await gone(providers["a"])

    run(engine, leave())
    assert of_target(engine, "a").endings[Ending.LEFT] == 1


def test_a_target_that_keeps_failing_is_left_alone(make: Make, providers: Providers) -> None:
    engine = make(
        (TWO % "      ejection: {failures_max: 2, eject_s: 60, eject_s_max: 60}").replace("weight: 0", "weight: 0.0")
    )
    providers["a"].faults += [Refuses(500)] * 2
    for _ in range(5):
        assert dict(ask(engine).headers)["vireo-target"] == "b"
    assert len(providers["a"].asked) == 2
    assert engine.language_models.problems() == {}


def test_when_no_target_answers_the_caller_is_told_why_each_did_not(make: Make, providers: Providers) -> None:
    engine = make(TWO % "")
    providers["a"].faults.append(Refuses(401, message="Incorrect API key provided: sk-se******1"))
    providers["b"].faults += [Refuses(500, message="oh no")] * 2
    with pytest.raises(Unavailable) as failed:
        ask(engine)
    told_ = failed.value.message
    assert told_ == (
        "model 'chat': tried 3 time(s); target 'a': answered with status 401; "
        "target 'b': answered with status 500: 'oh no'"
    )


# Fallback.

LOCAL = """      fallback: [dead, local]
  dead: {upstream: {targets: {x: {base_url: 'http://127.0.0.1:9/v1'}}, retry: {attempts_max: 1}}}
  local: {call: 'tests.language:Bigrams'}"""


@pytest.mark.parametrize("streams", [False, True])
def test_a_call_that_no_target_answers_is_handed_on_to_the_first_model_that_does(
    make: Make, providers: Providers, streams: bool
) -> None:
    engine = make(TWO % LOCAL)
    providers["a"].faults += [Refuses(500)] * 3
    providers["b"].faults += [Refuses(500)] * 3
    asked = call("the cat sat", max_tokens=2, stream=streams)
    answer = ask(engine, asked)
    assert dict(answer.headers)["vireo-target"] == "local"
    if not streams:
        assert told(answer)["choices"][0]["message"]["content"] == "the cat"
    run(engine, answer.aclose())
    assert counted(engine).fallbacks == {"local": 1}


# Quotas.


def test_a_tenant_that_has_used_its_tokens_is_refused_before_anybody_is_asked(make: Make, providers: Providers) -> None:
    engine = make(ONE % ", quotas: {tenants: {acme: {tokens_per_minute: 60}}, default: {requests_per_minute: 1}}")
    ask(engine, call(tenant="acme", max_tokens=40))
    ask(engine, call(tenant="acme", max_tokens=30))  # the first used 17 of what it had reserved
    with pytest.raises(
        ResourceExhausted, match="the quota of tenant 'acme' of 60 tokens a minute is used up"
    ) as refused:
        ask(engine, call(tenant="acme", max_tokens=40))
    assert refused.value.retry_after_s is not None
    ask(engine)
    with pytest.raises(ResourceExhausted, match="calls without a tenant of 1 requests a minute"):
        ask(engine, call(stream=True))
    ask(engine, call(tenant="other"))
    assert len(providers["a"].asked) == 4
    tenants = counted(engine).tenants
    assert (tenants["acme"].tokens, tenants["acme"].refused) == (34, 1)
    assert (tenants[""].tokens, tenants[""].refused) == (34, 1)


def test_a_call_that_nobody_answers_costs_no_quota(make: Make, providers: Providers) -> None:
    engine = make(ONE % ", retry: {attempts_max: 1}, quotas: {default: {tokens_per_minute: 1000}}")
    for _ in range(3):
        providers["a"].faults.append(Refuses(400))
        assert ask(engine, call(max_tokens=900)).status == 400
    providers["a"].faults.append(Refuses(500))
    with pytest.raises(Unavailable):
        ask(engine, call(max_tokens=900))
    ask(engine, call(max_tokens=900))


# Secrets.


def test_no_secret_is_in_any_log_or_error(
    make: Make, providers: Providers, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("HOSTILE", "sk-secret-1")
    engine = make((ONE % ", retry: {attempts_max: 1}").replace("UP_KEY", "HOSTILE"))
    faults = (Refuses(401, message="wrong key sk-secret-1"), Refuses(500), Breaks("start"), Breaks("error"), None)
    for each in faults:
        providers["a"].faults += [each] if each else []
        try:
            run(engine, _chunks(engine, call(stream=True)))
        except Unavailable as error:
            caplog.records.append(logging.makeLogRecord({"msg": error.message}))
    everything = caplog.text + "".join(each.getMessage() for each in caplog.records) + repr(engine.spec)
    assert "sk-secret" not in everything
    assert len(caplog.records) > 3
