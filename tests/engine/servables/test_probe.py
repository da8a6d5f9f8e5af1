"""Made-up inputs, and what they can show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from engine import DATATYPES, Signature, Tensor, TensorSpec
from engine.servables.probe import PROBE_ROWS, rows_are_independent, sample_inputs
from engine.servables.servable import Tensors, Traits
from tests.fakes import ROWS, RecordingServable


@pytest.mark.parametrize("name", list(DATATYPES))
def test_samples_fit_the_signature_and_their_rows_differ(name: str) -> None:
    spec = TensorSpec("x", DATATYPES[name], (-1, 2, -1))
    signature = Signature((spec,), (), batchable=True)
    for seed in (None, 0, 1):
        sample = sample_inputs(signature, 3, seed)
        assert signature.check("m", sample, ()) == 3
        array = sample["x"].array
        assert array.dtype == spec.datatype.dtype
        if seed is not None:
            assert all((array[0] != array[1]).ravel())


def test_samples_without_a_seed_are_zeros() -> None:
    assert sample_inputs(ROWS, 4)["x"].array.tolist() == [[0.0]] * 4


def test_free_dimensions_of_what_does_not_batch_become_one() -> None:
    signature = Signature((TensorSpec("x", DATATYPES["FP32"], (-1, 3)), TensorSpec("s", DATATYPES["FP32"], ())), ())
    assert {name: each.shape for name, each in sample_inputs(signature, 5).items()} == {"x": (1, 3), "s": ()}


def test_independent_rows_are_seen_as_such() -> None:
    independent, seen = rows_are_independent(RecordingServable())
    assert independent
    assert "bit for bit" in seen


class CentredServable(RecordingServable):
    """Every row depends on every other."""

    traits = Traits("fake", "")

    def execute(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        """x - mean(x)."""
        array = inputs["x"].array
        return {"y": Tensor(DATATYPES["FP32"], array - np.mean(array, axis=0))}


def test_dependent_rows_are_seen_as_such() -> None:
    independent, seen = rows_are_independent(CentredServable())
    assert not independent
    assert seen == "output 'y' of rows computed together differs from the rows one by one"


def test_servable_that_fails_on_made_up_values_keeps_its_claim() -> None:
    def broken(_: list[float]) -> None:
        raise KeyError("unknown merchant")

    independent, seen = rows_are_independent(RecordingServable(before=broken))
    assert independent
    assert "made-up inputs fail on it (KeyError)" in seen


def test_probe_runs_rows_together_and_each_alone() -> None:
    servable = RecordingServable()
    rows_are_independent(servable)
    assert [len(each) for each in servable.calls] == [PROBE_ROWS] + [1] * PROBE_ROWS
    assert servable.calls[0] == [each[0] for each in servable.calls[1:]]
