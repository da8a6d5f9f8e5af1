"""Markdown (CommonMark with tables) as a document, by markdown-it-py, which this file alone knows. The text stays as it is
written: a chunk of it is a piece of the file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from engine.documents.document import Block, Document, Headings, without_gaps
from engine.documents.plain_text import line_starts

_FRONT_MATTER: Final = re.compile(r"---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
_TITLE: Final = re.compile(r"^title:[ \t]*(\S.*)$", re.MULTILINE)
_LINES: Final = frozenset(("fence", "code_block", "table_open", "html_block"))
_LISTS: Final = frozenset(("bullet_list_open", "ordered_list_open"))


def read_markdown(text: str) -> Document:
    """Its title is what its front matter says, else its first heading."""
    from markdown_it import MarkdownIt

    front = _FRONT_MATTER.match(text)
    begin = 0 if front is None else front.end()
    tokens = MarkdownIt("commonmark").enable("table").parse(text[begin:])
    starts = [begin + each for each in line_starts(text[begin:])]
    blocks = without_gaps(text, _blocks(tokens, starts))
    told = None if front is None else _TITLE.search(front[1])
    title = (
        told[1].strip().strip("\"'")
        if told is not None
        else next((each.headings[-1] for each in blocks if each.headings), None)
    )
    return Document(text, blocks, title)


def _blocks(tokens: list[Any], starts: list[int]) -> Iterator[Block]:
    """One for each block of the outermost level, and for each item of a list there."""
    headings = Headings()
    in_list = False
    for at, token in enumerate(tokens):
        if token.level == 0 and token.nesting >= 0:
            in_list = token.type in _LISTS
        wanted = (token.level == 0 and not in_list) or (in_list and token.level == 1 and token.type == "list_item_open")
        if not wanted or token.nesting < 0 or token.map is None:
            continue
        kind = "prose"
        if token.type == "heading_open":
            headings.enter(int(token.tag[1:]), _plain(tokens[at + 1]))
            kind = "heading"
        elif token.type in _LINES:
            kind = "lines"
        first, last = token.map
        yield Block(starts[first], starts[last], kind, headings.path)  # type: ignore[arg-type]


def _plain(inline: Any) -> str:  # noqa: ANN401  a token of the library
    """The words of a heading."""
    return " ".join(
        "".join(each.content if each.type in ("text", "code_inline") else " " for each in inline.children).split()
    )
