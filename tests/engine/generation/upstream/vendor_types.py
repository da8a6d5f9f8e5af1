"""What the providers' own libraries say of requests and answers, by their published types."""

from __future__ import annotations

from functools import cache
from typing import Any

from anthropic.types import ContentBlockParam
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming, MessageCreateParamsStreaming
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import TypeAdapter

SAMPLING = ("temperature", "top_p", "top_k")
"""Parameters of Anthropic's models up to a generation ago, which the library's types do not have any more."""


_BLOCK: TypeAdapter[Any] = TypeAdapter(ContentBlockParam)


@cache
def _requests(*, stream: bool) -> TypeAdapter[Any]:
    return TypeAdapter(MessageCreateParamsStreaming if stream else MessageCreateParamsNonStreaming)


def assert_anthropic_takes(request: dict[str, Any]) -> None:
    """Every key and value of a Messages request is of Anthropic's types, and none is unknown to them."""
    known = {name: value for name, value in request.items() if name not in SAMPLING}
    _assert_same(_requests(stream=request.get("stream") is True), known | {"messages": []})
    for turn in request["messages"]:
        assert turn.keys() == {"role", "content"}
        assert turn["role"] in ("user", "assistant", "system")
        for block in turn["content"]:  # one by one: what pydantic makes of nested iterables can be read only once
            _assert_same(_BLOCK, block)


def _assert_same(adapter: TypeAdapter[Any], value: object) -> None:
    assert adapter.dump_python(adapter.validate_python(value, strict=True), mode="json") == value


def completion(answer: dict[str, Any]) -> ChatCompletion:
    """A chat completion as the `openai` library reads it. Raises ValidationError where it cannot."""
    return ChatCompletion.model_validate(answer)


def chunk(told: dict[str, Any]) -> ChatCompletionChunk:
    """A chunk of a stream as the `openai` library reads it."""
    return ChatCompletionChunk.model_validate(told)
