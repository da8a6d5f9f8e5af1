"""A chat request in OpenAI's form as Anthropic's Messages API (2023-06-01) takes it. Pure.

What has no counterpart and would change the answer is refused by name, never left out in silence. Sampling parameters
are passed: models that take none say so themselves. System and developer messages that come first become `system`; a
later one stays in its place. What users and tools say in a row becomes one turn, results of tools first, as the API
demands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from engine.errors import InvalidArgument, nearest, quoted
from engine.generation.upstream.anthropic_content import Json, blocks_of, text_blocks
from engine.generation.upstream.checked_json import a_list, a_mapping, a_text, refused

_SAME: Final = frozenset({"temperature", "top_p", "top_k", "thinking", "cache_control"})
"""Passed as they are: the last three are Anthropic's own."""

_WITHOUT_EFFECT: Final = frozenset(
    {
        "metadata",
        "model",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "service_tier",
        "store",
        "stream_options",
    }
)
"""They say how the call is kept, billed or told, not what is answered."""

_NEUTRAL: Final[Mapping[str, tuple[object, ...]]] = {
    "n": (1,),
    "logprobs": (False,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "functions": ([],),
    "verbosity": ("medium",),
}
"""Values that ask for nothing: with them a parameter that has no counterpart is taken."""

_NO_COUNTERPART: Final = frozenset(
    {
        *_NEUTRAL, "audio", "function_call", "moderation", "prediction", "seed", "top_logprobs", "web_search_options",
    }
)  # fmt: skip

_EFFORTS: Final[Mapping[str, str]] = {
    "minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max",
}  # fmt: skip

_PARAMETER_CHARS_MAX: Final = 64


def anthropic_request(body: Mapping[str, Any], model: str, output_tokens_max: int) -> Json:
    """The Messages request of a chat request. `output_tokens_max` is asked for where the caller sets no bound, which
    the API demands.

    Raises InvalidArgument, which names the parameter or message.
    """
    request: Json = {"model": model, "max_tokens": _tokens_max(body, output_tokens_max)}
    system, request["messages"] = _turns(a_list(body.get("messages"), "messages"))
    if system:
        request["system"] = system
    for name, value in body.items():
        if value is None or name in ("messages", "max_tokens", "max_completion_tokens") or name in _WITHOUT_EFFECT:
            continue
        if name in _SAME:
            request[name] = value
        elif (convert := _CONVERTED.get(name)) is not None:
            convert(value, request, body)
        elif not _neutral(name, value):
            raise _unknown(name)
    return request


def _unknown(name: str) -> InvalidArgument:
    if name in _NO_COUNTERPART:
        return InvalidArgument(
            f"{name}: Anthropic's API has no counterpart; leave it out, or list it in 'drop_parameters'"
        )
    known = {*_SAME, *_CONVERTED, *_NO_COUNTERPART, "messages", "max_tokens"}
    return InvalidArgument(f"unknown parameter {quoted(name)}{nearest(name[:_PARAMETER_CHARS_MAX], known)}")


def _neutral(name: str, value: object) -> bool:
    return value in _NEUTRAL.get(name, ())


def _tokens_max(body: Mapping[str, Any], otherwise: int) -> int:
    for name in ("max_completion_tokens", "max_tokens"):
        value = body.get(name)
        if value is not None:
            if type(value) is not int or value < 1:
                raise refused(name, "a whole number from 1", value)
            return value
    return otherwise


# Parameters.


def _stop(value: object, request: Json, _: Mapping[str, Any]) -> None:
    listed = [value] if isinstance(value, str) else a_list(value, "stop")
    request["stop_sequences"] = [a_text(each, f"stop[{index}]") for index, each in enumerate(listed)]


def _stream(value: object, request: Json, _: Mapping[str, Any]) -> None:
    if value is True:
        request["stream"] = True
    elif value is not False:
        raise refused("stream", "true or false", value)


def _user(value: object, request: Json, _: Mapping[str, Any]) -> None:
    request["metadata"] = {"user_id": a_text(value, "user")}


def _effort(value: object, request: Json, _: Mapping[str, Any]) -> None:
    if value == "none":
        request.setdefault("thinking", {"type": "disabled"})
    elif isinstance(value, str) and value in _EFFORTS:
        request.setdefault("output_config", {})["effort"] = _EFFORTS[value]
    else:
        raise refused("reasoning_effort", f"one of none, {', '.join(_EFFORTS)}", value)


def _format(value: object, request: Json, _: Mapping[str, Any]) -> None:
    asked = a_mapping(value, "response_format")
    if asked.get("type") == "text":
        return
    if asked.get("type") != "json_schema":
        raise refused("response_format.type", "'text' or 'json_schema', which Anthropic's API knows", asked.get("type"))
    given = a_mapping(asked.get("json_schema"), "response_format.json_schema")
    schema = a_mapping(given.get("schema"), "response_format.json_schema.schema")
    request.setdefault("output_config", {})["format"] = {"type": "json_schema", "schema": schema}


def _tools(value: object, request: Json, _: Mapping[str, Any]) -> None:
    tools = [_tool(each, f"tools[{index}]") for index, each in enumerate(a_list(value, "tools"))]
    if tools:
        request["tools"] = tools


def _tool(value: object, where: str) -> Json:
    tool = a_mapping(value, where)
    if tool.get("type") != "function":
        raise refused(f"{where}.type", "'function'", tool.get("type"))
    given = a_mapping(tool.get("function"), f"{where}.function")
    told: Json = {"name": a_text(given.get("name"), f"{where}.function.name")}
    if given.get("description") is not None:
        told["description"] = a_text(given["description"], f"{where}.function.description")
    schema = given.get("parameters")
    none: Json = {"type": "object", "properties": {}}
    told["input_schema"] = none if schema is None else a_mapping(schema, f"{where}.function.parameters")
    if given.get("strict") is True:
        told["strict"] = True
    return told


def _tool_choice(value: object, request: Json, body: Mapping[str, Any]) -> None:
    words = {"auto": "auto", "none": "none", "required": "any"}
    if isinstance(value, str):
        if value not in words:
            raise refused("tool_choice", f"one of {', '.join(words)}, or a function", value)
        chosen: Json = {"type": words[value]}
    else:
        asked = a_mapping(value, "tool_choice")
        if asked.get("type") != "function":
            raise refused("tool_choice.type", "'function'", asked.get("type"))
        function = a_mapping(asked.get("function"), "tool_choice.function")
        chosen = {"type": "tool", "name": a_text(function.get("name"), "tool_choice.function.name")}
    request["tool_choice"] = chosen
    _one_at_a_time(body.get("parallel_tool_calls"), request, body)


def _one_at_a_time(value: object, request: Json, body: Mapping[str, Any]) -> None:
    if value is None or value is True or not body.get("tools"):
        return
    if value is not False:
        raise refused("parallel_tool_calls", "true or false", value)
    chosen = request.setdefault("tool_choice", {"type": "auto"})
    if chosen["type"] != "none":
        chosen["disable_parallel_tool_use"] = True


_CONVERTED: Final[Mapping[str, Callable[[object, Json, Mapping[str, Any]], None]]] = {
    "stop": _stop,
    "stream": _stream,
    "user": _user,
    "safety_identifier": _user,
    "reasoning_effort": _effort,
    "response_format": _format,
    "tools": _tools,
    "tool_choice": _tool_choice,
    "parallel_tool_calls": _one_at_a_time,
}


# Messages.


def _turns(messages: list[Any]) -> tuple[list[Json], list[Json]]:
    """The system's text blocks, and the turns."""
    system: list[Json] = []
    turns: list[Json] = []
    for index, each in enumerate(messages):
        where = f"messages[{index}]"
        message = a_mapping(each, where)
        role = message.get("role")
        if role in ("system", "developer"):
            blocks = text_blocks(message.get("content"), f"{where}.content")
            if turns:
                turns.append({"role": "system", "content": blocks})
            else:
                system += blocks
        elif role == "user":
            _add(turns, "user", blocks_of(message.get("content"), f"{where}.content"))
        elif role == "tool":
            _add(turns, "user", [_result(message, where)])
        elif role == "assistant":
            _add(turns, "assistant", _said(message, where))
        else:
            raise refused(f"{where}.role", "one of system, developer, user, assistant, tool", role)
    if not turns:
        raise InvalidArgument("messages: at least one message of a user is needed")
    return system, turns


def _add(turns: list[Json], role: str, blocks: list[Json]) -> None:
    """One more turn, or more of the last one."""
    if not blocks:
        return
    if not turns or turns[-1]["role"] != role:
        turns.append({"role": role, "content": []})
    content: list[Json] = turns[-1]["content"]
    if role == "user" and blocks[0]["type"] == "tool_result":
        results = sum(each["type"] == "tool_result" for each in content)
        content[results:results] = blocks
    else:
        content += blocks


def _result(message: Mapping[str, Any], where: str) -> Json:
    called = a_text(message.get("tool_call_id"), f"{where}.tool_call_id")
    blocks = text_blocks(message.get("content"), f"{where}.content")
    return {"type": "tool_result", "tool_use_id": called, "content": blocks}


def _said(message: Mapping[str, Any], where: str) -> list[Json]:
    content, refusal = message.get("content"), message.get("refusal")
    blocks = [] if content is None else text_blocks(content, f"{where}.content")
    if refusal is not None:
        blocks += text_blocks(refusal, f"{where}.refusal")
    if message.get("function_call") is not None:
        raise InvalidArgument(f"{where}.function_call: Anthropic's API has no counterpart; use tool_calls")
    calls = message.get("tool_calls")
    for index, each in enumerate([] if calls is None else a_list(calls, f"{where}.tool_calls")):
        blocks.append(_call(a_mapping(each, f"{where}.tool_calls[{index}]"), f"{where}.tool_calls[{index}]"))
    return blocks


def _call(call: Mapping[str, Any], where: str) -> Json:
    if call.get("type", "function") != "function":
        raise refused(f"{where}.type", "'function'", call.get("type"))
    function = a_mapping(call.get("function"), f"{where}.function")
    arguments = a_text(function.get("arguments"), f"{where}.function.arguments")
    try:
        given = orjson.loads(arguments) if arguments.strip() else {}
    except orjson.JSONDecodeError as error:
        raise InvalidArgument(f"{where}.function.arguments: not valid JSON: {error}") from error
    return {
        "type": "tool_use",
        "id": a_text(call.get("id"), f"{where}.id"),
        "name": a_text(function.get("name"), f"{where}.function.name"),
        "input": a_mapping(given, f"{where}.function.arguments"),
    }
