"""A slate is the greedy choice that its twin makes, within caps, and says what it cannot take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine import DATATYPES, Engine, InvalidArgument, Request, SpecError, Tensor, parse_spec
from engine.candidates.declaration import SlateSpec
from engine.servables.servable import Servable
from engine.servables.slate import Slate
from kernels.reference_vectors import diverse_within
from kernels.relevance import scaled
from tests.engine.servables.contract import ServableContract, floats
from tests.fakes import FP32

INT64 = DATATYPES["INT64"]
SPEC = """
slates:
  plain: {k: 3}
  top: {k: 8, relevance: 0.6, size: 4, caps: {category: 2, brand: 3}}
  of_rows: {k: 8, relevance: 0.6, size: 4, first: 2, width: 7, caps: {category: 2, brand: 3}}
"""


def candidates(rows: int, seed: int) -> dict[str, Tensor]:
    rng = np.random.default_rng(seed)
    return {
        "scores": Tensor(FP32, rng.random(rows).astype(np.float32)),
        "vectors": Tensor(FP32, floats(rows, 4, seed)),
        "category": Tensor(INT64, rng.integers(-1, 4, rows)),
        "brand": Tensor(INT64, rng.integers(0, 3, rows)),
    }


class TestSlate(ServableContract):
    """The contract."""

    @pytest.fixture
    def servable(self) -> Servable:
        return Slate(SlateSpec(8, relevance=0.6, size=4, caps={"category": 2, "brand": 3}))

    def inputs(self, rows: int, seed: int) -> dict[str, Tensor]:
        """Of one request."""
        return candidates(rows, seed)


@pytest.mark.parametrize("rows", [0, 1, 5, 100])
def test_it_chooses_as_its_twin_does(rows: int, tmp_path: Path) -> None:
    engine = Engine(parse_spec(SPEC, folder=tmp_path))
    engine.start()
    try:
        given = candidates(rows, rows)
        scores, vectors = given["scores"].array, given["vectors"].array
        groups = np.stack([given["category"].array, given["brand"].array], axis=1)
        chosen = engine.infer(Request("top", given)).outputs["chosen"].array.tolist()
        assert chosen == diverse_within(vectors, scaled(scores), 0.6, groups, (2, 3), 8)
        table = np.full((rows, 7), np.nan, np.float32)
        table[:, 2:6] = vectors
        of_rows = engine.infer(Request("of_rows", {**given, "vectors": Tensor(FP32, table)})).outputs["chosen"].array
        assert of_rows.tolist() == chosen, "of what is not compared nothing is asked"
        plain = engine.infer(Request("plain", {"scores": given["scores"]})).outputs["chosen"].array.tolist()
        assert plain == np.argsort(-scores, kind="stable")[:3].tolist()
    finally:
        engine.close()


def test_what_it_cannot_take_is_told() -> None:
    slate = Slate(SlateSpec(3, caps={"category": 1}))
    with pytest.raises(InvalidArgument, match="input 'category': 2 candidates, 'scores' has 3"):
        slate.execute(
            {"scores": Tensor(FP32, np.zeros(3, np.float32)), "category": Tensor(INT64, np.zeros(2, np.int64))}, ()
        )
    with pytest.raises(InvalidArgument, match="input 'scores': expected finite numbers"):
        slate.execute(
            {"scores": Tensor(FP32, np.array([np.nan], np.float32)), "category": Tensor(INT64, np.zeros(1, np.int64))},
            (),
        )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("k: 3", "k: 0", "slates.plain.k: must be from 1 to 10000, got 0"),
        ("relevance: 0.6", "relevance: 0", "slates.top.relevance: must be above 0 and at most 1, got 0.0"),
        (", size: 4", "", "slates.top.size: is given where 'relevance' is below 1"),
        ("category: 2", "scores: 2", "slates.top.caps.scores: is the name of another input"),
        ("first: 2", "first: 4", "slates.of_rows.first: must be from 0 to 3, so that 4 of 7 columns follow"),
        ("width: 7", "width: 0", "slates.of_rows.width: must be from 1 to"),
        (", width: 7", "", "slates.of_rows.first: is given with 'width' alone"),
        ("plain: {k: 3}", "plain: {k: 3, width: 3}", "slates.plain.width: is of vectors that are compared"),
        ("category: 2", "category: 0", "slates.top.caps.category: must be 1 or more, got 0"),
    ],
)
def test_what_a_slate_cannot_be_is_told_with_its_place(old: str, new: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(SPEC.replace(old, new, 1), folder=tmp_path)
    assert message in str(caught.value)
