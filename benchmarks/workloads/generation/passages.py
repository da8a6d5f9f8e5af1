"""Passages of Markdown documents, as the engine reads and splits them: prose below one heading, with its place in the file."""

import re
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from engine import ChunkBounds, DocumentsSpec, read_document, split_document

CHARS_MAX = 500
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


@dataclass(frozen=True, slots=True)
class Passage:
    """`text`: without links and line breaks. `start`, `end`: of what it was made of, in characters of the file."""

    id: str
    document: str
    title: str
    text: str
    start: int
    end: int


def passages_of(path: Path, name: str) -> list[Passage]:
    """The passages of one file; blocks of code and tables are left out."""
    document = read_document(path.name, path.read_bytes(), DocumentsSpec())
    found: list[Passage] = []
    for (kind, headings), run in groupby(document.blocks, key=lambda each: (each.kind, each.headings)):
        if kind != "prose":
            continue
        for chunk in split_document(replace(document, blocks=tuple(run)), ChunkBounds(CHARS_MAX), lambda _: ""):
            text = _LINK.sub(r"\1", document.text[chunk.start : chunk.end]).replace("**", "").replace("`", "")
            title = headings[-1] if headings else ""
            found.append(Passage(f"{name}#{len(found)}", name, title, " ".join(text.split()), chunk.start, chunk.end))
    return found
