"""The check of a request against what a servable takes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import InvalidArgument, Signature, Tensor, TensorSpec, datatype_named
from tests.fakes import FP32, tensor

INT32 = datatype_named("INT32", of="test")
SIGNATURE = Signature(
    (TensorSpec("image", FP32, (-1, 3)), TensorSpec("hint", FP32, (-1, 1), optional=True)),
    (TensorSpec("score", FP32, (-1, 1)), TensorSpec("label", INT32, (-1, 1))),
    batchable=True,
    rows_max=4,
)


def _image(rows: int, width: int = 3) -> Tensor:
    return Tensor(FP32, np.zeros((rows, width), np.float32))


def test_rows_are_counted_on_dimension_0() -> None:
    assert SIGNATURE.check("m", {"image": _image(3)}, ()) == 3
    assert SIGNATURE.check("m", {"image": _image(2), "hint": tensor(1.0, 2.0)}, ("label", "score")) == 2


def test_rows_of_what_does_not_batch_are_one() -> None:
    signature = Signature(SIGNATURE.inputs, SIGNATURE.outputs)
    assert signature.check("m", {"image": _image(7)}, ()) == 1


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ({}, (), "model 'm': missing input 'image'"),
        ({"hint": tensor(1.0)}, (), "model 'm': missing input 'image'"),
        ({"imagee": _image(1)}, (), "model 'm' has no input 'imagee'; nearest: 'image'"),
        ({"image": Tensor(INT32, np.zeros((1, 3), np.int32))}, (), "expected datatype FP32, got INT32"),
        ({"image": _image(1, 4)}, (), r"input 'image': expected shape \[-1, 3\], got \[1, 4\]"),
        ({"image": Tensor(FP32, np.zeros(3, np.float32))}, (), r"expected shape \[-1, 3\], got \[3\]"),
        ({"image": Tensor(FP32, np.zeros((), np.float32))}, (), r"got \[\]"),
        ({"image": _image(1)}, ("scor",), "model 'm' has no output 'scor'; nearest: 'score'"),
        ({"image": _image(2), "hint": tensor(1.0)}, (), "inputs disagree on the number of rows"),
        ({"image": _image(0)}, (), "zero rows, at least 1 is needed"),
        ({"image": _image(5)}, (), "5 rows, at most 4 are allowed"),
    ],
)
def test_every_breach_of_the_signature_says_what_was_expected(
    inputs: dict[str, Tensor], outputs: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        SIGNATURE.check("m", inputs, outputs)


sizes = st.lists(st.integers(0, 3), max_size=3)


@given(sizes, st.lists(st.integers(-1, 3), max_size=3))
def test_shapes_fit_as_a_plain_comparison_says(got: list[int], want: list[int]) -> None:
    naive = len(got) == len(want) and all(w in (-1, g) for g, w in zip(got, want, strict=True))
    assert TensorSpec("x", FP32, tuple(want)).takes(tuple(got)) == naive


def test_names_of_a_hostile_caller_are_cut() -> None:
    with pytest.raises(InvalidArgument) as caught:
        SIGNATURE.check("m" * 9999, {"x" * 99999: _image(1)}, ())
    assert len(caught.value.message) < 1000
