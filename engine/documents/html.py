"""HTML as a document, by selectolax (Lexbor), which this file alone knows. Its text is what a reader sees: scripts, styles and
navigation are left out, and each block is a paragraph of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from engine.documents.document import Block, Document, Headings
from engine.documents.limits import DOCUMENT_NESTING_MAX
from engine.documents.plain_text import characters
from engine.errors import InvalidArgument

_CHARSET: Final = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE)
_TAG: Final = re.compile(
    r"<!--.*?(?:-->|\Z)|<(script|style|svg|math)\b.*?(?:</\1\b|\Z)|<(?P<end>/?)(?P<name>[a-z][a-z0-9]*)",
    re.DOTALL | re.IGNORECASE,
)
"""One that may nest elements: not what looks like it in comments and scripts, nor drawings, whose elements end by themselves."""

_UNSEEN: Final = frozenset((
    "script", "style", "noscript", "template", "svg", "math", "head", "nav", "iframe", "object", "select", "button", "textarea",
))  # fmt: skip
_BLOCKS: Final = frozenset((
    "address", "article", "aside", "blockquote", "body", "dd", "details", "dialog", "div", "dl", "dt", "fieldset", "figcaption",
    "figure", "footer", "form", "header", "hr", "li", "main", "ol", "p", "pre", "section", "summary", "table", "ul",
    "h1", "h2", "h3", "h4", "h5", "h6",
))  # fmt: skip
_LEVELS: Final = {f"h{level}": level for level in range(1, 7)}
_LINES: Final = frozenset(("pre", "table"))
_INLINE: Final = {"br": "\n", "tr": "\n", "td": " | ", "th": " | "}
"""What stands behind them."""
_UNENDED: Final = frozenset((
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr",
    "p", "li", "dt", "dd", "tr", "td", "th", "thead", "tbody", "tfoot", "option", "optgroup", "rp", "rt", "html", "head", "body",
))  # fmt: skip
"""Elements without an end tag, or that may leave it out."""


def read_html(content: bytes, encoding: str) -> Document:
    """Its title is what its head says, else its first heading. Raises InvalidArgument where it is no text, or elements stand in
    each other deeper than DOCUMENT_NESTING_MAX: the parser's time grows with the square of that."""
    from selectolax.lexbor import LexborHTMLParser

    told = _CHARSET.search(content[:4096])
    text = characters(content, _known(told[1].decode("ascii")) if told is not None else encoding)
    _check_nesting(text)
    parsed = LexborHTMLParser(text)
    title = parsed.css_first("title")
    reading = _Reading()
    for node in _opened_and_closed(parsed.root):
        reading.take(*node)
    found = reading.end()
    named = None if title is None else " ".join(title.text().split())
    first = next((each.headings[-1] for each in found.blocks if each.headings), None)
    return Document(found.text, found.blocks, named or first)


def _known(name: str) -> str:
    try:
        "".encode(name)
    except (LookupError, ValueError) as error:  # there is one called "undefined"
        raise InvalidArgument(f"says that its encoding is '{name}', which is not known") from error
    return name


def _check_nesting(text: str) -> None:
    depth = 0
    for each in _TAG.finditer(text):
        if each["name"] is not None and each["name"].lower() not in _UNENDED:
            depth = max(0, depth - 1) if each["end"] else depth + 1
        if depth > DOCUMENT_NESTING_MAX:
            raise InvalidArgument(
                f"elements in each other, deeper than {DOCUMENT_NESTING_MAX}, at character {each.start()}"
            )


def _opened_and_closed(root: Any) -> Iterator[tuple[Any, bool]]:  # noqa: ANN401  nodes of the library
    """Each node that is seen, in order, and once more, with True, when all in it has been told."""
    node = root
    while node is not None:
        yield node, False
        child = None if node.tag in _UNSEEN else node.child
        if child is not None:
            node = child
            continue
        yield node, True
        while node.next is None:
            node = node.parent
            if node is None:
                return
            yield node, True
            if node.mem_id == root.mem_id:
                return
        node = node.next


class _Reading:
    """The text so far, block by block."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._length = 0
        self._blocks: list[Block] = []
        self._part: list[str] = []
        self._headings = Headings()
        self._lines = 0
        self._pre = 0

    def take(self, node: Any, closed: bool) -> None:  # noqa: ANN401
        """What the walk comes to."""
        tag = node.tag
        if tag == "-text":
            if not closed:
                self._part.append(node.text(deep=False) if self._pre else re.sub(r"\s+", " ", node.text(deep=False)))
        elif tag in _INLINE:
            self._part.append(_INLINE[tag] if closed else "")
        elif tag in _BLOCKS and not (self._lines and tag not in _LINES):
            self._border(tag, closed=closed)

    def _border(self, tag: str, *, closed: bool) -> None:
        """A block begins or ends: so does what was being read."""
        self._finish(tag if closed else "")
        if tag in _LINES:
            self._lines += -1 if closed else 1
        if tag == "pre":
            self._pre += -1 if closed else 1

    def _finish(self, tag: str) -> None:
        part = "".join(self._part)
        self._part = []
        if not self._pre:
            part = "\n".join(line.strip().removesuffix(" |") for line in part.split("\n")).strip()
        part = part.strip("\n").rstrip()
        if not part:
            return
        kind = "prose"
        if tag in _LEVELS:
            self._headings.enter(_LEVELS[tag], " ".join(part.split()))
            kind = "heading"
        elif self._lines:
            kind = "lines"
        if self._text:
            self._add("\n\n")
        start = self._length
        self._add(part)
        self._blocks.append(Block(start, self._length, kind, self._headings.path))  # type: ignore[arg-type]

    def _add(self, text: str) -> None:
        self._text.append(text)
        self._length += len(text)

    def end(self) -> Document:
        """All of it."""
        self._finish("")
        return Document("".join(self._text), tuple(self._blocks))
