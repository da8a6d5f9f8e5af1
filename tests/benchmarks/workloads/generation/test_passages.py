"""Passages of documents say what the documents say, and where."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.workloads.generation.passages import CHARS_MAX, passages_of

ROOT = Path(__file__).parents[4]
PAGE = (
    """# A title
First **paragraph**, with
a [link](there.md).

Second.

| a | table |
|---|---|

## Next
```
code = 1
```
"""
    + "long " * 200
)


def test_paragraphs_below_a_heading_are_taken_together(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    first, *rest = passages_of(page, "page.md")
    assert (first.id, first.title, first.text) == ("page.md#0", "A title", "First paragraph, with a link. Second.")
    assert PAGE[first.start : first.end].startswith("First **")
    assert PAGE[first.start : first.end].endswith("Second.")
    assert {each.title for each in rest} == {"Next"}
    assert " ".join(each.text for each in rest) == PAGE[PAGE.index("long") :].strip()


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda page: page.name
)
def test_passages_of_a_page_are_in_it_in_order_and_apart(page: Path) -> None:
    text, found = page.read_text(), passages_of(page, "p")
    assert found
    assert len({each.id for each in found}) == len(found)
    assert all(first.end <= second.start for first, second in pairwise(found))
    for each in found:
        assert each.text
        words = {word for word in each.text.split() if word.isalpha()}
        assert words <= set(
            text[each.start : each.end].replace("*", " ").replace("[", " ").replace("]", " ").replace("`", " ").split()
        )
        assert "```" not in text[each.start : each.end]
        assert each.end - each.start <= CHARS_MAX
