"""Answers and errors of Anthropic's Messages API in OpenAI's form. Pure.

Text blocks become one text, `thinking` becomes `reasoning_content` (as vLLM and others name it), `tool_use` becomes a
tool call whose arguments are JSON text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from engine.errors import Internal, InvalidArgument
from engine.generation.upstream.anthropic_content import Json
from engine.generation.upstream.checked_json import a_list, a_mapping, a_text
from engine.generation.upstream.usage import Usage

_FINISHED: Final[Mapping[str, str]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def finish_reason(stop_reason: object) -> str:
    """OpenAI's word for why an answer ended; an unknown reason is an ordinary end."""
    return _FINISHED.get(stop_reason, "stop") if isinstance(stop_reason, str) else "stop"


def anthropic_usage(counted: object) -> Usage:
    """Tokens as the API counts them: those read from and written to its cache are not among its `input_tokens`."""
    given = counted if isinstance(counted, Mapping) else {}
    read = _count(given, "cache_read_input_tokens")
    prompt = _count(given, "input_tokens") + _count(given, "cache_creation_input_tokens") + read
    return Usage(prompt, _count(given, "output_tokens"), read)


def openai_counts(usage: Usage, counted: object) -> Json:
    """`usage` as OpenAI's answers have it, with what else was `counted`."""
    counts: Json = {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.total,
        "prompt_tokens_details": {"cached_tokens": usage.cached_input},
    }
    details = counted.get("output_tokens_details") if isinstance(counted, Mapping) else None
    if isinstance(details, Mapping):
        counts["completion_tokens_details"] = {"reasoning_tokens": _count(details, "thinking_tokens")}
    return counts


def _count(counted: Mapping[str, Any], name: str) -> int:
    value = counted.get(name)
    return value if type(value) is int and 0 <= value < 1 << 53 else 0


def openai_answer(answer: Mapping[str, Any], created_s: int) -> tuple[Json, Usage]:
    """A chat completion, and its tokens. Raises Internal where `answer` is none of the API's."""
    try:
        blocks = [a_mapping(each, "content") for each in a_list(answer.get("content"), "content")]
        message = _message(blocks)
    except InvalidArgument as error:
        raise Internal(f"not an answer of Anthropic's API: {error.message}") from error
    usage = anthropic_usage(answer.get("usage"))
    finished = finish_reason(answer.get("stop_reason"))
    completion: Json = {
        "id": str(answer.get("id")),
        "object": "chat.completion",
        "created": created_s,
        "model": answer.get("model"),
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finished}],
        "usage": openai_counts(usage, answer.get("usage")),
    }
    return completion, usage


def _message(blocks: list[Json]) -> Json:
    said = [a_text(each.get("text"), "text") for each in blocks if each.get("type") == "text"]
    thought = [a_text(each.get("thinking"), "thinking") for each in blocks if each.get("type") == "thinking"]
    calls = [_call(each) for each in blocks if each.get("type") == "tool_use"]
    message: Json = {"role": "assistant", "content": "".join(said) if said or not calls else None, "refusal": None}
    if thought:
        message["reasoning_content"] = "".join(thought)
    if calls:
        message["tool_calls"] = calls
    return message


def _call(block: Json) -> Json:
    arguments = orjson.dumps(a_mapping(block.get("input"), "input")).decode()
    function = {"name": a_text(block.get("name"), "name"), "arguments": arguments}
    return {"id": a_text(block.get("id"), "id"), "type": "function", "function": function}
