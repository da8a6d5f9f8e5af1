"""Passages of Markdown documents: runs of whole paragraphs below one heading, with their place in the file."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHARS_MAX = 500
_FENCE = re.compile(r"^```.*?^```[^\n]*$", re.MULTILINE | re.DOTALL)
_PARAGRAPH = re.compile(r"\S.*?(?=\n\s*\n|\Z)", re.DOTALL)
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
    text = path.read_text()
    prose = _FENCE.sub(_as_table, text)
    found: list[Passage] = []
    for title, start, end in _runs(prose):
        plain = " ".join(_LINK.sub(r"\1", prose[start:end]).replace("**", "").replace("`", "").split())
        found.append(Passage(f"{name}#{len(found)}", name, title, plain, start, end))
    return found


def _as_table(block: re.Match[str]) -> str:
    """What is left out like a table, and as long as the block was."""
    return "\n\n|" + re.sub(r"[^\n]", " ", block[0][3:-2]) + "\n\n"


def _runs(prose: str) -> Iterator[tuple[str, int, int]]:
    """(heading, start, end) of paragraphs taken together up to CHARS_MAX; a longer one is alone."""
    title, start, end = "", -1, -1
    for each in _PARAGRAPH.finditer(prose):
        heading = each[0].startswith("#")
        if start >= 0 and (heading or each[0].startswith("|") or each.end() - start > CHARS_MAX):
            yield title, start, end
            start = -1
        if heading:
            title, _, body = each[0].lstrip("# ").partition("\n")
            if body.strip():
                start, end = each.start() + each[0].index(body), each.end()
        elif not each[0].startswith("|"):
            start, end = (each.start() if start < 0 else start), each.end()
    if start >= 0:
        yield title, start, end
