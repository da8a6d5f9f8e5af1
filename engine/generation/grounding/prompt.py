"""Prompts: texts with named places, checked when they are declared, filled for each question. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from engine.generation.conversation import Conversation
from engine.generation.grounding.passage import Passage
from engine.named_places import place_problems

_SYSTEM: Final = """\
You answer questions from the numbered passages that come with them, and from nothing else.
After each sentence write the numbers of the passages that it rests on, like this: [1].
If the passages do not hold the answer, say so."""
_QUESTION: Final = "{passages}\n\nQuestion: {question}"
_PASSAGE: Final = "[{number}] {text}"
_QUERIES: Final = """\
Write {count} search queries that would find the answer to the last question of this conversation, each understandable by itself,
each in other words, one a line, and nothing else.

{conversation}"""

_PLACES: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "system": ((), ()),
    "question": (("passages", "question"), ()),
    "passage": (("text",), ("number", "id", "document")),
    "queries": (("conversation",), ("count",)),
}
"""What each text must name, and what it may name besides."""


@dataclass(frozen=True, slots=True)
class PromptSpec:
    """The texts of a prompt. Places are named in braces; a brace itself is written twice.

    `system` comes first and is the same for every question, so that engines that keep prefixes compute it once. `question` is the
    last message, of `{passages}` and `{question}`; each passage is `passage`, of `{text}`, `{number}`, `{id}` and `{document}`.
    `queries` asks for more ways to search, of `{conversation}` and `{count}`. `version` is told with each answer.
    """

    version: str = "1"
    system: str = _SYSTEM
    question: str = _QUESTION
    passage: str = _PASSAGE
    queries: str = _QUERIES


def prompt_problems(spec: PromptSpec) -> Iterator[tuple[str, str]]:
    """The key, and what is wrong with its text."""
    for key, (required, optional) in _PLACES.items():
        yield from ((key, problem) for problem in place_problems(getattr(spec, key), required, optional))


def shown_passages(passages: Sequence[Passage], most: int, chars_max: int) -> list[Passage]:
    """The first `most` whose texts have together at most `chars_max` characters; one that is too long for what is left is
    left out, and the first of all is shown whatever its length."""
    shown: list[Passage] = []
    left = chars_max
    for passage in passages:
        if len(shown) == most:
            break
        if not shown or len(passage.text) <= left:
            shown.append(passage)
            left -= len(passage.text)
    return shown


def in_document_order(passages: Sequence[Passage]) -> list[Passage]:
    """By document, place in it, and id: the same passages in the same order, whatever question they were found for."""
    return sorted(passages, key=lambda each: (each.document or each.id, each.start or 0, each.id))


def answer_messages(spec: PromptSpec, asked: Conversation, passages: Sequence[Passage]) -> list[dict[str, Any]]:
    """The messages that ask for an answer, in the form of the OpenAI API. What stood first in the last call of a conversation
    stands first in the next."""
    told = [
        spec.passage.format(number=number, text=each.text, id=each.id, document=each.document or each.id)
        for number, each in enumerate(passages, 1)
    ]
    system = "\n\n".join([spec.system.format(), *asked.system])
    question = spec.question.format(passages="\n".join(told), question=asked.question)
    before = [dict(each) for each in asked.before]
    return [{"role": "system", "content": system}, *before, {"role": "user", "content": question}]


def query_messages(spec: PromptSpec, asked: Conversation, count: int) -> list[dict[str, Any]]:
    """The messages that ask for `count` more ways to search."""
    return [{"role": "user", "content": spec.queries.format(count=count, conversation=asked.told())}]


def queries_in(text: str, count: int) -> list[str]:
    """The search queries of such an answer, at most `count`: its lines, without the numbers or dashes that models put before
    them, each once."""
    lines = (line.strip().lstrip("0123456789.)-*• ").strip().strip('"') for line in text.splitlines())
    return list(dict.fromkeys(line for line in lines if line))[:count]
