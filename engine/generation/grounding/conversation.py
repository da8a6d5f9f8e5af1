"""The body of a chat call as a conversation that passages can answer. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from engine.errors import InvalidArgument, nearest, quoted
from engine.generation.grounding.prompt import Conversation

_ROLES: Final = ("system", "developer", "user", "assistant")
_OWN: Final = frozenset(("model", "messages", "stream", "stream_options", "n"))
_REFUSED: Final = {
    "tools": "it calls no tools",
    "functions": "it calls no functions",
    "logprobs": "its text is not the model's alone",
    "top_logprobs": "its text is not the model's alone",
}


def conversation_of(body: Mapping[str, Any]) -> Conversation:
    """What was said. Raises InvalidArgument, naming the message."""
    messages = body.get("messages")
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise InvalidArgument("messages: a list with at least one message is expected")
    system: list[str] = []
    turns: list[dict[str, Any]] = []
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        if not isinstance(message, Mapping):
            raise InvalidArgument(f"{where}: an object with role and content is expected")
        role, text = message.get("role"), _text(where, message.get("content"))
        if role not in _ROLES:
            near = nearest(role, _ROLES) if isinstance(role, str) else ""
            raise InvalidArgument(
                f"{where}.role: one of {', '.join(_ROLES)} is expected, got {quoted(str(role))}{near}"
            )
        if role in ("system", "developer"):
            system.append(text)
        else:
            turns.append({"role": role, "content": text})
    if not turns or turns[-1]["role"] != "user":
        raise InvalidArgument("messages: the last must be the user's, for it is the question")
    if not turns[-1]["content"].strip():
        raise InvalidArgument(f"messages[{len(messages) - 1}].content: the question is empty")
    return Conversation(turns[-1]["content"].strip(), tuple(system), tuple(turns[:-1]))


def _text(where: str, content: object) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        raise InvalidArgument(f"{where}.content: a text or a list of parts is expected")
    texts = []
    for number, part in enumerate(content):
        if not isinstance(part, Mapping) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise InvalidArgument(f"{where}.content[{number}]: only parts of type 'text' can be answered from passages")
        texts.append(part["text"])
    return "\n".join(texts)


def sampling_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """How the answer is to be worded: what of the body the wording model gets as it is. Raises InvalidArgument for what an answer
    from passages cannot have."""
    for key, why in _REFUSED.items():
        if body.get(key):
            raise InvalidArgument(f"{key}: {why}")
    if body.get("n") not in (None, 1):
        raise InvalidArgument(f"n: one answer is given, got {quoted(str(body['n']))}")
    form = body.get("response_format")
    if form is not None and (not isinstance(form, Mapping) or form.get("type") != "text"):
        raise InvalidArgument("response_format: an answer with citations is a text")
    return {key: value for key, value in body.items() if key not in _OWN and key not in _REFUSED}
