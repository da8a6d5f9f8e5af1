"""Files of text: their characters, and the paragraphs of those that have no markup. Pure."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import Final

from engine.documents.document import Block, Document, without_gaps
from engine.errors import InvalidArgument, quoted

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
)  # fmt: skip
_NOT_TEXT: Final = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\ud800-\udfff]")
_PARAGRAPH: Final = re.compile(r"\S.*?(?=\n\s*\n|\Z)", re.DOTALL)


def characters(content: bytes, encoding: str) -> str:
    """The text of a file: by its byte order mark, which is left out, else by `encoding`.

    Raises InvalidArgument where it is none, or none that can be: what a text never has is there (control characters,
    surrogates).
    """
    mark, encoding = next((each for each in _MARKS if content.startswith(each[0])), (b"", encoding))
    try:
        text = content[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        wrong = quoted(content[error.start : error.start + 4].hex(" "))
        raise InvalidArgument(
            f"is no text in {encoding}: byte {error.start + len(mark)} is {wrong}: {error.reason}"
        ) from error
    if (found := _NOT_TEXT.search(text)) is not None:
        raise InvalidArgument(
            f"is no text: character {found.start()} is U+{ord(found[0]):04X}, as binary files have them"
        )
    return text


def read_text(text: str) -> Document:
    """Paragraphs, parted by empty lines."""
    return Document(text, without_gaps(text, (Block(each.start(), each.end()) for each in _PARAGRAPH.finditer(text))))


def line_starts(text: str) -> list[int]:
    """Where each line begins, and the end."""
    return [0, *_after_lines(text), len(text)]


def _after_lines(text: str) -> Iterator[int]:
    yield from (each.end() for each in re.finditer(r"\r\n?|\n", text))
