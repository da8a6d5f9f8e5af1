"""The reference of graphs is complete, and its example is a spec."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from engine import parse_spec
from engine.graph import declaration
from engine.graph.relations_records import RECORD_WORDS

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "graphs.md").read_text(encoding="utf-8")


def test_reference_names_every_key_and_word() -> None:
    written = [name for name in vars(declaration) if name.endswith("Spec") and name != "EnsembleSpec"]  # of no spec
    kinds = [getattr(declaration, name) for name in written]
    assert len(kinds) == 9
    keys = {each.name for kind in kinds for each in dataclasses.fields(kind)}
    assert not {each for each in keys if not re.search(rf"\b{each}\b", PAGE)}
    assert not {each for each in RECORD_WORDS if f"| `{each}` |" not in PAGE}


def test_example_of_the_reference_uses_every_key() -> None:
    block = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[0]
    spec = parse_spec(block, folder=Path())
    assert list(spec.graphs["decision"].nodes) == ["history", "row", "score", "anomaly", "decide", "explain"]
    written = {each for kind in ("Node", "Fallback", "Cached", "Record", "Graph", "Variant", "Shadow", "Traffic")
               for each in (field.name for field in dataclasses.fields(getattr(declaration, f"{kind}Spec")))}  # fmt: skip
    assert not {each for each in written if f"{each}:" not in block}
