"""Python functions as servables."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from engine import (
    BYTES,
    Array,
    Internal,
    InvalidArgument,
    ModelLoadError,
    Signature,
    Tensor,
    TensorSpec,
    Unimplemented,
)
from engine.servables.function import FunctionServable, StreamingFunctionServable, load_function
from engine.servables.servable import Servable, StreamingServable
from tests.engine.servables.contract import ServableContract, floats
from tests.fakes import FP32, tensor

HERE = __name__
ONE = Signature((TensorSpec("x", FP32, (-1, 1)),), (TensorSpec("y", FP32, (-1, 1)),), batchable=True)
TEXT = Signature((TensorSpec("x", BYTES, (-1,)),), (TensorSpec("y", BYTES, (-1,)),), batchable=True)
SCALAR = Signature((TensorSpec("x", FP32, ()),), (TensorSpec("y", FP32, ()),))
STREAM_LOG: list[str] = []


def both(x: Array) -> Mapping[str, Array]:
    """Two outputs of one input."""
    return {"double": x * 2, "half": x / 2}


def shout(x: Array) -> Mapping[str, object]:
    """Text and bytes, as the function likes."""
    return {"y": [each.decode().upper() for each in x]}


def countdown(x: Array) -> Iterator[Mapping[str, Array]]:
    """x, x-1, ... 1."""
    try:
        for value in range(int(x[0, 0]), 0, -1):
            yield {"y": np.array([[value]], np.float32)}
    finally:
        STREAM_LOG.append("closed")


def stops_midway(x: Array) -> Iterator[Mapping[str, Array]]:
    """One answer and then a fault."""
    yield {"y": x}
    raise ValueError("midway")


def _function(function: Callable[..., Any], signature: Signature = ONE) -> FunctionServable:
    return FunctionServable("f", function, signature)


class TestFunctionServable(ServableContract):
    """The contract, on a function of two outputs."""

    @pytest.fixture
    def servable(self) -> Servable:
        """Double and half."""
        outputs = (TensorSpec("double", FP32, (-1, 3)), TensorSpec("half", FP32, (-1, 3)))
        return load_function("f", f"{HERE}:both", Signature((TensorSpec("x", FP32, (-1, 3)),), outputs, True))

    def inputs(self, rows: int, seed: int) -> dict[str, Tensor]:
        """One matrix."""
        return {"x": Tensor(FP32, floats(rows, 3, seed))}


class TestFunctionOfText(ServableContract):
    """The contract, on strings."""

    @pytest.fixture
    def servable(self) -> Servable:
        """Upper case."""
        return load_function("f", f"{HERE}:shout", TEXT)

    def inputs(self, rows: int, seed: int) -> dict[str, Tensor]:
        """Text of any length."""
        return {"x": Tensor.from_values("x", BYTES, [rows], ["ä" * each + str(seed) for each in range(rows)])}


# Finding the function.


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no.such.module:f", "cannot import 'no.such.module:f': No module named 'no'"),
        (f"{HERE}:gone", "has no attribute 'gone'"),
        (f"{HERE}:HERE", "is not callable"),
        ("tests.engine.servables.broken_module:f", "cannot import"),
    ],
)
def test_function_that_cannot_be_had_is_a_load_error(target: str, message: str) -> None:
    with pytest.raises(ModelLoadError, match=message):
        load_function("f", target, ONE)


def test_module_that_exits_when_imported_is_a_load_error(
    tmp_path: Any,  # noqa: ANN401
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "exits_when_imported.py").write_text("import sys; sys.exit(3)")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelLoadError, match="cannot import"):
        load_function("f", "exits_when_imported:f", ONE)
    assert "exits_when_imported" not in sys.modules


def test_function_inside_a_class_is_found() -> None:
    servable = load_function("f", f"{HERE}:TestFunctionServable.__name__.upper", ONE)
    assert isinstance(servable, FunctionServable)


def test_generator_functions_stream_and_others_do_not() -> None:
    assert isinstance(load_function("f", f"{HERE}:countdown", ONE), StreamingServable)
    assert not isinstance(load_function("f", f"{HERE}:both", ONE), StreamingServable)


# Answers.


def test_inputs_come_by_name_and_answers_are_cast_to_the_declared_datatype() -> None:
    output = _function(lambda x: {"y": (x * 2).astype(np.float64).tolist(), "extra": 1}).execute({"x": tensor(3.0)}, ())
    assert list(output) == ["y"]
    assert output["y"].array.dtype == np.float32
    assert output["y"].array.tolist() == [[6.0]]


def test_answer_without_dimensions_keeps_none() -> None:
    servable = _function(lambda x: {"y": float(x) + 1}, SCALAR)
    assert servable.execute({"x": Tensor(FP32, np.array(1, np.float32))}, ())["y"].shape == ()


def test_text_and_bytes_become_bytes() -> None:
    servable = _function(lambda x: {"y": ["ß", b"\xff"]}, TEXT)
    inputs = {"x": Tensor.from_values("x", BYTES, [2], ["", ""])}
    assert servable.execute(inputs, ())["y"].array.tolist() == ["ß".encode(), b"\xff"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "must return a mapping of arrays, got NoneType"),
        ([1], "must return a mapping of arrays, got list"),
        ({}, "returned no output 'y'"),
        ({"y": [[1], [2, 3]]}, "returned a wrong array as output 'y'"),
        ({"y": "text"}, "returned a wrong array as output 'y'"),
        ({"y": [1.0, 2.0]}, r"returned output 'y' of shape \[2\], declared is \[-1, 1\] with 2 row"),
        ({"y": [[1.0]]}, r"returned output 'y' of shape \[1, 1\], declared is \[-1, 1\] with 2 row"),
        ({"y": [[1.0, 2.0]] * 2}, r"returned output 'y' of shape \[2, 2\]"),
    ],
)
def test_wrong_answer_is_the_functions_fault_and_says_what_was_declared(answer: object, message: str) -> None:
    with pytest.raises(Internal, match=f"function 'f' {message}"):
        _function(lambda x: answer).execute({"x": tensor(1.0, 2.0)}, ())


def test_text_output_that_is_no_text_is_the_functions_fault() -> None:
    with pytest.raises(Internal, match=r"wrong array as output 'y': .*must be a string, got int"):
        _function(lambda x: {"y": [1]}, TEXT).execute({"x": Tensor.from_values("x", BYTES, [1], [""])}, ())


def test_error_raised_on_purpose_passes_and_any_other_is_internal() -> None:
    def fussy(x: Array) -> object:
        raise InvalidArgument("x must be odd")

    def broken(x: Array) -> object:
        return 1 // 0

    def leaves(x: Array) -> object:
        sys.exit(1)

    with pytest.raises(InvalidArgument, match="x must be odd"):
        _function(fussy).execute({"x": tensor(1.0)}, ())
    with pytest.raises(Internal, match="function 'f' raised ZeroDivisionError"):
        _function(broken).execute({"x": tensor(1.0)}, ())
    with pytest.raises(Internal, match="function 'f' raised SystemExit"):
        _function(leaves).execute({"x": tensor(1.0)}, ())


def test_function_that_does_not_take_the_inputs_is_internal() -> None:
    with pytest.raises(Internal, match="raised TypeError"):
        _function(lambda z: {"y": z}).execute({"x": tensor(1.0)}, ())


# Streams.


def test_stream_gives_each_answer_checked() -> None:
    servable = StreamingFunctionServable("f", countdown, ONE)
    assert [float(each["y"].array[0, 0]) for each in servable.stream({"x": tensor(3.0)}, ())] == [3, 2, 1]


def test_closing_a_stream_stops_the_function() -> None:
    STREAM_LOG.clear()
    stream = StreamingFunctionServable("f", countdown, ONE).stream({"x": tensor(1e9)}, ())
    next(stream)
    assert STREAM_LOG == []
    stream.close()
    assert STREAM_LOG == ["closed"]


def test_stream_that_fails_midway_is_internal_after_its_first_answer() -> None:
    stream = StreamingFunctionServable("f", stops_midway, ONE).stream({"x": tensor(1.0)}, ())
    assert next(stream)["y"].array.tolist() == [[1.0]]
    with pytest.raises(Internal, match="function 'f' raised ValueError: midway"):
        next(stream)


def test_unary_call_of_a_stream_needs_exactly_one_answer_and_does_not_wait_for_more() -> None:
    servable = StreamingFunctionServable("f", countdown, ONE)
    assert servable.execute({"x": tensor(1.0)}, ())["y"].array.tolist() == [[1.0]]
    with pytest.raises(Unimplemented, match="gave no response; a unary call needs exactly 1"):
        servable.execute({"x": tensor(0.0)}, ())
    with pytest.raises(Unimplemented, match="gave more than one response"):
        servable.execute({"x": tensor(1e9)}, ())
