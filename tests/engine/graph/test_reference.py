"""References: which tensor of a graph a text names."""

from __future__ import annotations

import pytest

from engine import SpecError
from engine.graph.reference import Reference, parse_reference


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("amount", Reference(None, "amount")),
        ("score.probability", Reference("score", "probability")),
        ("score.dense/out.0", Reference("score", "dense/out.0")),
        ("score", Reference(None, "score")),
    ],
)
def test_a_reference_names_an_input_or_the_output_of_a_node(text: str, reference: Reference) -> None:
    assert parse_reference(text, {"score"}) == reference
    assert str(reference) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a reference such as"),
        (".p", r"expected a reference such as 'amount' or 'score.probability', got '.p'"),
        ("score.", "expected a reference such as"),
        ("scor.p", r"'scor.p': the graph has no node 'scor'; nearest: 'score'"),
    ],
)
def test_what_names_none_is_refused(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse_reference(text, {"score"})
