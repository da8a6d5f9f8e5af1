"""Chat requests as Anthropic takes them, and its answers as OpenAI's clients read them, by the types of both
libraries."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import Internal, InvalidArgument
from engine.generation.upstream.anthropic_answer import openai_answer
from engine.generation.upstream.anthropic_request import anthropic_request
from engine.generation.upstream.anthropic_stream import AnthropicStream
from engine.generation.upstream.dialect import openai_error
from engine.generation.upstream.usage import Usage
from tests.engine.generation.upstream.vendor_types import assert_anthropic_takes, chunk, completion

Json = dict[str, Any]
USER = {"role": "user", "content": "hello"}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
PIXEL = "data:image/png;base64,iVBORw0KGgo="


def _request(**body: Any) -> Json:  # noqa: ANN401
    request = anthropic_request({"model": "chat", "messages": [USER], **body}, "claude", 4096)
    assert_anthropic_takes(request)
    return request


def _turns(*messages: Json) -> list[Json]:
    turns: list[Json] = _request(messages=list(messages))["messages"]
    return turns


def _calling(arguments: str) -> Json:
    return {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": arguments}}]}


def _text(text: str) -> Json:
    return {"type": "text", "text": text}


def test_a_plain_request_is_a_turn_and_a_bound_which_the_api_demands() -> None:
    assert _request() == {
        "model": "claude", "max_tokens": 4096, "messages": [{"role": "user", "content": [_text("hello")]}],
    }  # fmt: skip


def test_parameters_have_their_counterparts() -> None:
    request = _request(
        max_completion_tokens=9, stop="end", stream=True, user="u1", reasoning_effort="minimal", temperature=0.5,
        top_p=0.9, tools=[WEATHER], tool_choice="required", parallel_tool_calls=False, n=1, logprobs=False,
        frequency_penalty=0.0, presence_penalty=None, logit_bias={}, store=True, metadata={"a": "b"},
        stream_options={"include_usage": True},
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
    )  # fmt: skip
    del request["messages"]
    function: Json = WEATHER["function"]  # type: ignore[assignment]
    assert request == {
        "model": "claude",
        "max_tokens": 9,
        "stop_sequences": ["end"],
        "stream": True,
        "metadata": {"user_id": "u1"},
        "temperature": 0.5,
        "top_p": 0.9,
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}},
        "tools": [{"name": "weather", "description": "of a city", "input_schema": function["parameters"]}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
    }


@pytest.mark.parametrize(
    ("choice", "chosen"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ({"type": "function", "function": {"name": "weather"}}, {"type": "tool", "name": "weather"}),
    ],
)
def test_a_tool_is_chosen(choice: object, chosen: Json) -> None:
    assert _request(tools=[WEATHER], tool_choice=choice)["tool_choice"] == chosen
    alone = _request(tools=[WEATHER], parallel_tool_calls=False, tool_choice=choice)["tool_choice"]
    assert alone == chosen | ({} if choice == "none" else {"disable_parallel_tool_use": True})


def test_the_system_speaks_first_and_a_later_word_of_it_stays_in_its_place() -> None:
    request = _request(
        messages=[
            {"role": "system", "content": "be brief"},
            {"role": "developer", "content": [_text("and kind")]},
            USER,
            {"role": "system", "content": "now be long"},
        ]
    )
    assert request["system"] == [_text("be brief"), _text("and kind")]
    assert [each["role"] for each in request["messages"]] == ["user", "system"]


def test_images_and_files_are_named_or_carried() -> None:
    (turn,) = _turns(
        {
            "role": "user",
            "content": [
                _text("look"),
                _text(""),
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": PIXEL}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}},
            ],
        }
    )
    assert [each["type"] for each in turn["content"]] == ["text", "image", "image", "document"]
    assert turn["content"][1]["source"] == {"type": "url", "url": "https://example.com/a.png"}
    assert turn["content"][2]["source"] == {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    assert turn["content"][3]["title"] == "a.pdf"


def test_results_of_tools_stand_first_in_one_turn_with_what_the_user_says() -> None:
    called = {
        "role": "assistant",
        "content": "I look",
        "tool_calls": [
            {"id": f"c{each}", "type": "function", "function": {"name": "weather", "arguments": arguments}}
            for each, arguments in enumerate(('{"city": "Oslo"}', ""))
        ],
    }
    results = [{"role": "tool", "tool_call_id": f"c{each}", "content": "rain"} for each in range(2)]
    turns = _turns(USER, called, results[0], {"role": "user", "content": "well?"}, results[1])
    assert [each["role"] for each in turns] == ["user", "assistant", "user"]
    assert [each["type"] for each in turns[1]["content"]] == ["text", "tool_use", "tool_use"]
    assert [each["input"] for each in turns[1]["content"][1:]] == [{"city": "Oslo"}, {}]
    assert [each.get("tool_use_id") for each in turns[2]["content"]] == ["c0", "c1", None]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"n": 2}, r"^n: Anthropic's API has no counterpart"),
        ({"logprobs": True}, "^logprobs: Anthropic's API has no counterpart"),
        ({"seed": 7}, "^seed: .*drop_parameters"),
        ({"temprature": 1}, "^unknown parameter 'temprature'; nearest: 'temperature'"),
        ({"max_tokens": 0}, "^max_tokens: expected a whole number from 1, got a number"),
        ({"stop": 3}, "^stop: expected a list, got a number"),
        ({"stream": "yes"}, "^stream: expected true or false, got 'yes'"),
        ({"response_format": {"type": "json_object"}}, "^response_format.type: .*'json_schema'.*, got 'json_object'"),
        ({"response_format": {"type": "json_schema"}}, "^response_format.json_schema: expected an object, got null"),
        ({"reasoning_effort": "huge"}, "^reasoning_effort: expected one of none"),
        ({"tools": [{"type": "custom"}]}, r"^tools\[0\].type: expected 'function', got 'custom'"),
        ({"tools": [{"type": "function", "function": {"name": 3}}]}, r"^tools\[0\].function.name: expected text"),
        ({"tool_choice": "any"}, "^tool_choice: expected one of auto, none, required"),
        ({"tools": [WEATHER], "parallel_tool_calls": 3}, "^parallel_tool_calls: expected true or false"),
        ({"messages": "hi"}, "^messages: expected a list, got 'hi'"),
        ({"messages": []}, "^messages: at least one"),
        ({"messages": [{"role": "system", "content": "x"}]}, "^messages: at least one"),
        ({"messages": [{"role": "robot", "content": "x"}]}, r"^messages\[0\].role: expected one of system"),
        ({"messages": [{"role": "user", "content": None}]}, r"^messages\[0\].content: expected a list, got null"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, r"content\[0\].type: .*'input_audio'"),
        ({"messages": [{"role": "tool", "content": "x"}]}, r"^messages\[0\].tool_call_id: expected text, got null"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc"}}]}]},
            "expected an https: URL, or a data: URL in base64, got 'file:///etc'",
        ),
        (
            {"messages": [USER, _calling("{")]},
            r"^messages\[1\].tool_calls\[0\].function.arguments: not valid JSON",
        ),
        (
            {"messages": [USER, _calling("[]")]},
            r"arguments: expected an object, got a list",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_said_to_anthropic_is_refused_by_its_place(body: Json, told: str) -> None:
    with pytest.raises(InvalidArgument, match=told):
        anthropic_request({"model": "chat", "messages": [USER], **body}, "claude", 4096)


# Answers.


def _answer(content: list[Json], stop_reason: str = "end_turn", **usage: int) -> Json:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 5, **usage},
    }


def test_an_answer_is_a_chat_completion_with_all_its_tokens() -> None:
    blocks = [{"type": "thinking", "thinking": "hm", "signature": "s"}, _text("Hel"), _text("lo")]
    told, usage = openai_answer(
        _answer(blocks, cache_read_input_tokens=7, cache_creation_input_tokens=3), 1_700_000_000
    )
    assert usage == Usage(input=20, output=5, cached_input=7)
    read = completion(told)
    assert read.choices[0].message.content == "Hello"
    assert read.choices[0].finish_reason == "stop"
    assert read.usage is not None
    assert (read.usage.prompt_tokens, read.usage.total_tokens) == (20, 25)
    assert told["choices"][0]["message"]["reasoning_content"] == "hm"


@pytest.mark.parametrize(
    ("stopped", "finished"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("tool_use", "tool_calls"),
        ("pause_turn", "stop"),
        ("not known yet", "stop"),
    ],
)
def test_every_reason_to_stop_has_openais_word(stopped: str, finished: str) -> None:
    told, _ = openai_answer(_answer([_text("x")], stopped), 1)
    assert completion(told).choices[0].finish_reason == finished


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"content": "x"},
        {"content": [3]},
        {"content": [{"type": "text"}]},
        {"content": [{"type": "tool_use", "id": "a", "name": "f", "input": []}]},
    ],
)
def test_what_is_no_answer_is_not_made_one(answer: Json) -> None:
    with pytest.raises(Internal, match="not an answer of Anthropic's API"):
        openai_answer(answer, 1)


def test_errors_have_openais_shape() -> None:
    told = openai_error({"type": "rate_limit_error", "message": "slow down"})
    assert told == {"message": "slow down", "type": "rate_limit_error", "param": None, "code": None}
    assert openai_error("odd")["type"] == "api_error"


# Round trips.

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(), each, max_size=3),
    max_leaves=8,
)  # fmt: skip
_CALLS = st.lists(
    st.tuples(st.text(min_size=1), st.text(min_size=1), st.dictionaries(st.text(), _JSON, max_size=3)), max_size=4
)


def _tool_calls(calls: list[tuple[str, str, Json]]) -> list[Json]:
    return [
        {"id": identity, "type": "function", "function": {"name": name, "arguments": orjson.dumps(given).decode()}}
        for identity, name, given in calls
    ]


@given(said=st.text(), calls=_CALLS)
def test_tool_calls_come_back_as_they_were_sent(said: str, calls: list[tuple[str, str, Json]]) -> None:
    """A model's turn as a client repeats it, in Anthropic's form, is an answer that gives the client the same turn."""
    turn = {"role": "assistant", "content": said or None, "tool_calls": _tool_calls(calls)}
    messages = [USER, turn] if said or calls else [USER]
    blocks = anthropic_request({"messages": messages}, "claude", 9)["messages"][1:]
    told, _ = openai_answer(_answer(blocks[0]["content"] if blocks else []), 1)
    message = told["choices"][0]["message"]
    assert (message["content"] or "") == said
    assert message.get("tool_calls", []) == _tool_calls(calls)


@given(
    blocks=st.lists(
        st.one_of(
            st.text(min_size=1).map(_text),
            st.text(min_size=1).map(lambda text: {"type": "thinking", "thinking": text, "signature": "s"}),
            st.tuples(st.text(min_size=1), st.dictionaries(st.text(), _JSON, max_size=2)).map(
                lambda pair: {"type": "tool_use", "id": pair[0], "name": "f", "input": pair[1]}
            ),
        ),
        max_size=5,
    ),
    cut=st.integers(1, 5),
)
def test_a_stream_says_what_the_whole_answer_says(blocks: list[Json], cut: int) -> None:
    answer = _answer(blocks, "tool_use", cache_read_input_tokens=2)
    stream = AnthropicStream(1, include_usage=True)
    told = [each for event in _events(answer, cut) for each in stream.feed(event)]
    assert stream.ended
    whole, usage = openai_answer(answer, 1)
    assert stream.usage == usage
    assert told[-1]["usage"] == whole["usage"]
    assert _joined(told) == whole["choices"][0]["message"]
    assert [each["choices"][0]["finish_reason"] for each in told[:-1]][-1] == "tool_calls"
    for each in told:
        chunk(each)


def _events(answer: Json, cut: int) -> list[Json]:
    """A stream of `answer`, its text in pieces of `cut` characters, as the API sends it."""
    start = answer | {"content": [], "stop_reason": None, "usage": answer["usage"] | {"output_tokens": 1}}
    events: list[Json] = [{"type": "message_start", "message": start}, {"type": "ping"}]
    for index, block in enumerate(answer["content"]):
        kind = block["type"]
        empty = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}, "tool_use": {"input": {}}}[kind]
        events.append({"type": "content_block_start", "index": index, "content_block": block | empty})
        name, part = {
            "text": ("text_delta", "text"),
            "thinking": ("thinking_delta", "thinking"),
            "tool_use": ("input_json_delta", "partial_json"),
        }[kind]
        text = (orjson.dumps(block["input"]).decode() if block["input"] else "") if kind == "tool_use" else block[kind]
        for begin in range(0, len(text), cut):
            delta = {"type": name, part: text[begin : begin + cut]}
            events.append({"type": "content_block_delta", "index": index, "delta": delta})
        events.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": answer["stop_reason"], "stop_sequence": None}
    usage = {"output_tokens": answer["usage"]["output_tokens"]}
    return [*events, {"type": "message_delta", "delta": delta, "usage": usage}, {"type": "message_stop"}]


def _joined(chunks: list[Json]) -> Json:
    """The message that a client puts together."""
    message: Json = {"role": "assistant", "content": "", "refusal": None}
    calls: list[Json] = []
    for each in chunks:
        for choice in each["choices"]:
            delta = choice["delta"]
            for name in ("content", "reasoning_content"):
                if delta.get(name):
                    message[name] = message.get(name, "") + delta[name]
            for call in delta.get("tool_calls", []):
                if call["index"] == len(calls):
                    calls.append(
                        {"id": call["id"], "type": "function", "function": {"arguments": ""} | call["function"]}
                    )
                else:
                    calls[call["index"]]["function"]["arguments"] += call["function"]["arguments"]
    if calls:
        message["tool_calls"] = calls
        message["content"] = message["content"] or None
    return message


def test_a_stream_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(Internal, match="began with the event 'content_block_delta'"):
        AnthropicStream(1, include_usage=False).feed({"type": "content_block_delta"})
    begun = AnthropicStream(1, include_usage=False)
    begun.feed({"type": "message_start", "message": _answer([])})
    for wrong in ({"type": "content_block_delta", "delta": {}}, {"type": "content_block_start", "index": 0}):
        with pytest.raises(Internal, match="has no"):
            begun.feed(wrong)
    assert begun.feed({"type": "something new"}) == []


def test_a_provider_that_breaks_off_says_why() -> None:
    stream = AnthropicStream(1, include_usage=False)
    assert stream.feed({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}) == []
    assert stream.error == {"message": "busy", "type": "overloaded_error", "param": None, "code": None}
