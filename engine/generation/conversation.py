"""The body of a chat call as a conversation of texts, for those who answer it without a language model of tokens. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from engine.errors import InvalidArgument, nearest, quoted

_ROLES: Final = ("system", "developer", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a caller said: `system` texts, the turns before, and the `question` that is to be answered."""

    question: str
    system: tuple[str, ...] = ()
    before: tuple[Mapping[str, Any], ...] = field(default_factory=tuple)

    def told(self) -> str:
        """All turns as a text, one a line."""
        turns = [f"{each['role']}: {each['content']}" for each in self.before]
        return "\n".join([*turns, f"user: {self.question}"])


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
            raise InvalidArgument(
                f"{where}.content[{number}]: a part of type 'text' is expected, nothing else can be read"
            )
        texts.append(part["text"])
    return "\n".join(texts)
