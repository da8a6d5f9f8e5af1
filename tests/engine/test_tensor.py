"""Tensors: raw content, values, shapes, and everything a hostile client may send."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import (
    BF16,
    BYTES,
    DATATYPES,
    Array,
    DataType,
    InvalidArgument,
    Tensor,
    TooLarge,
    datatype_named,
    element_count,
    limits,
)
from engine.tensor import check_strings, join_bytes, split_bytes

FIXED = [each for each in DATATYPES.values() if each is not BYTES]
NUMBERS = [each for each in FIXED if each is not BF16]
shapes = st.lists(st.integers(0, 4), max_size=4)


def _some_raw(datatype: DataType, count: int) -> bytes:
    assert datatype.size is not None
    if datatype.name == "BOOL":
        return bytes(index % 2 for index in range(count))
    return np.arange(count).astype(datatype.dtype).tobytes()


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


@pytest.mark.parametrize("datatype", FIXED, ids=str)
@given(shape=shapes)
def test_raw_content_of_every_fixed_datatype_comes_back_as_it_went_in(datatype: DataType, shape: list[int]) -> None:
    raw = _some_raw(datatype, math.prod(shape))
    tensor = Tensor.from_raw("x", datatype, shape, raw)
    assert tensor.shape == tuple(shape)
    assert tensor.array.dtype == datatype.dtype
    assert bytes(tensor.to_raw()) == raw
    assert tensor.bytes_size == len(raw)


@pytest.mark.parametrize("datatype", NUMBERS, ids=str)
def test_extreme_values_of_every_datatype_survive_values_and_raw(datatype: DataType) -> None:
    kind = datatype.dtype.kind
    if kind == "b":
        values: list[float] = [True, False]
    elif kind == "f":
        limit = np.finfo(datatype.dtype)
        values = [float(limit.min), float(limit.max), float(limit.tiny), 0.0]
    else:
        bounds = np.iinfo(datatype.dtype)
        values = [int(bounds.min), int(bounds.max), 0]
    tensor = Tensor.from_values("x", datatype, [len(values)], values)
    again = Tensor.from_raw("x", datatype, [len(values)], bytes(tensor.to_raw()))
    assert tensor.array.tolist() == values
    assert again.array.tolist() == values


@given(st.lists(st.integers(-(1 << 66), 1 << 66), max_size=5), st.sampled_from(NUMBERS))
def test_whole_numbers_either_come_through_unchanged_or_are_refused(values: list[int], datatype: DataType) -> None:
    """The naive twin: Python's own integers."""
    try:
        tensor = Tensor.from_values("x", datatype, [len(values)], values)
    except InvalidArgument:
        if datatype.dtype.kind in "iu":
            bounds = np.iinfo(datatype.dtype)
            assert any(not bounds.min <= each <= bounds.max for each in values)
        return
    if datatype.dtype.kind in "iub":
        assert [int(each) for each in tensor.array] == values


@pytest.mark.parametrize("values", [[1.5], ["5"], [None], [math.nan], [1e300]], ids=str)
def test_what_is_no_whole_number_is_refused_for_integers_and_not_cut(values: list[object]) -> None:
    with pytest.raises(InvalidArgument, match="input 'x': a value does not fit INT32"):
        Tensor.from_values("x", DATATYPES["INT32"], [1], values)


@pytest.mark.parametrize("values", [["5"], [None], [1e39], [[1.0, 2.0]]], ids=str)
def test_what_is_no_float_of_the_size_is_refused(values: list[object]) -> None:
    with pytest.raises(InvalidArgument, match="input 'x': a value does not fit FP32"):
        Tensor.from_values("x", DATATYPES["FP32"], [1], values)


def test_infinite_and_undefined_floats_are_values_like_others() -> None:
    tensor = Tensor.from_values("x", DATATYPES["FP32"], [3], [math.inf, -math.inf, math.nan])
    assert np.array_equal(tensor.array, np.array([math.inf, -math.inf, math.nan], np.float32), equal_nan=True)


def test_whole_floats_are_taken_for_integers_and_small_numbers_for_truth() -> None:
    assert Tensor.from_values("x", DATATYPES["INT8"], [2], [1.0, -2.0]).array.tolist() == [1, -2]
    assert Tensor.from_values("x", DATATYPES["BOOL"], [2], [1, 0]).array.tolist() == [True, False]
    with pytest.raises(InvalidArgument):
        Tensor.from_values("x", DATATYPES["BOOL"], [1], [2])


def test_array_elements_that_do_not_fit_are_refused_and_not_wrapped() -> None:
    with pytest.raises(InvalidArgument, match="does not fit INT8"):
        Tensor.from_values("x", DATATYPES["INT8"], [1], np.array([300]))
    with pytest.raises(InvalidArgument, match="does not fit UINT64"):
        Tensor.from_values("x", DATATYPES["UINT64"], [1], np.array([-1]))


def test_values_are_copied_out_of_an_array_that_may_change_later() -> None:
    source = np.array([1.0, 2.0], np.float32)
    tensor = Tensor.from_values("x", DATATYPES["FP32"], [2], source)
    source[:] = 9
    assert tensor.array.tolist() == [1.0, 2.0]


def test_wrong_number_of_values_is_refused_with_both_numbers() -> None:
    with pytest.raises(InvalidArgument, match=r"shape \[2, 2\] takes 4 elements, got 3"):
        Tensor.from_values("x", DATATYPES["FP32"], [2, 2], [1, 2, 3])


@pytest.mark.parametrize("datatype", FIXED, ids=str)
def test_aligned_raw_content_is_not_copied_in_either_direction(datatype: DataType) -> None:
    raw = bytearray(_some_raw(datatype, 64))
    home = np.frombuffer(raw, np.uint8)
    tensor = Tensor.from_raw("x", datatype, [8, 8], raw)
    assert _address(tensor.array) == _address(home)
    assert _address(np.frombuffer(tensor.to_raw(), np.uint8)) == _address(home)


def test_unaligned_raw_content_is_copied_to_an_aligned_place() -> None:
    raw = memoryview(b"\0" + np.arange(3.0).tobytes())[1:]
    tensor = Tensor.from_raw("x", DATATYPES["FP64"], [3], raw)
    assert tensor.array.flags.aligned
    assert tensor.array.tolist() == [0.0, 1.0, 2.0]


def test_raw_content_of_a_transposed_array_is_row_major() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert bytes(Tensor(DATATYPES["FP32"], array).to_raw()) == np.ascontiguousarray(array).tobytes()


def test_a_tensor_without_dimensions_holds_one_element() -> None:
    tensor = Tensor.from_raw("x", DATATYPES["INT32"], [], struct.pack("<i", 7))
    assert tensor.shape == ()
    assert bytes(tensor.to_raw()) == struct.pack("<i", 7)


@pytest.mark.parametrize("length", [0, 3, 5, 8])
def test_raw_content_of_a_wrong_length_is_refused_with_both_lengths(length: int) -> None:
    with pytest.raises(InvalidArgument, match=rf"input 'x': FP32 of shape \[1\] takes 4 bytes, got {length}"):
        Tensor.from_raw("x", DATATYPES["FP32"], [1], bytes(length))


# Shapes.


def test_negative_dimension_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"shape \[2, -1\] has a negative dimension"):
        element_count("x", [2, -1])


def test_too_many_dimensions_are_refused() -> None:
    element_count("x", [1] * limits.TENSOR_DIMENSIONS_MAX)
    with pytest.raises(InvalidArgument, match="33 dimensions, at most 32"):
        element_count("x", [1] * (limits.TENSOR_DIMENSIONS_MAX + 1))


@pytest.mark.parametrize("shape", [[1 << 41], [1 << 21, 1 << 21], [1 << 63, 1 << 63], [0, 1 << 41], [1 << 20] * 30])
def test_shape_that_overflows_is_refused_before_anything_is_allocated(shape: list[int]) -> None:
    with pytest.raises(InvalidArgument, match="overflows"):
        element_count("x", shape)


@given(st.lists(st.sampled_from([0, 1, 2, 3, 1 << 20, 1 << 40, 1 << 62, -1]), max_size=34))
def test_no_shape_at_all_gets_past_with_another_error(shape: list[int]) -> None:
    for datatype in (DATATYPES["FP64"], BYTES):
        try:
            tensor = Tensor.from_raw("x", datatype, shape, b"")
        except InvalidArgument:
            continue
        assert tensor.shape == tuple(shape)


def test_an_unknown_datatype_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidArgument, match=r"input 'x': unknown datatype 'FP31'; known: BOOL, .*BYTES"):
        datatype_named("FP31", of="x")


# BYTES.


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_bytes_elements_come_back_as_they_went_in(elements: list[bytes]) -> None:
    raw = join_bytes(elements)
    tensor = Tensor.from_raw("x", BYTES, [len(elements)], raw)
    assert list(tensor.array) == elements
    assert bytes(tensor.to_raw()) == raw
    assert tensor.bytes_size == len(raw)


@given(st.binary(max_size=40), st.integers(0, 6))
def test_any_bytes_content_is_either_refused_or_exactly_what_it_says(raw: bytes, count: int) -> None:
    """The naive twin: putting the elements together again must give the content, all of it."""
    try:
        elements = split_bytes("x", raw, count)
    except InvalidArgument:
        return
    assert len(elements) == count
    assert join_bytes(elements) == raw


@pytest.mark.parametrize(
    ("raw", "count", "message"),
    [
        (b"", 1, "take at least 4 bytes, got 0"),
        (b"\1\0\0", 1, "take at least 4 bytes, got 3"),
        (b"\2\0\0\0a", 1, "element 0 claims 2 bytes, 1 are left"),
        (b"\xff\xff\xff\xff", 1, "element 0 claims 4294967295 bytes, 0 are left"),
        (b"\4\0\0\0abcd", 2, "ends before element 1 of 2"),
        (b"\1\0\0\0a!", 1, "1 bytes follow the last of 1"),
        (b"\0", 0, "1 bytes follow the last of 0"),
        (b"", 1 << 39, "take at least 2199023255552 bytes"),
    ],
)
def test_malformed_bytes_content_is_refused_and_says_where(raw: bytes, count: int, message: str) -> None:
    with pytest.raises(InvalidArgument, match=f"input 'x': .*{message}"):
        split_bytes("x", raw, count)


def test_one_string_over_the_bound_is_too_large() -> None:
    size = limits.STRING_BYTES_MAX + 1
    with pytest.raises(TooLarge, match=f"BYTES element 0 has {size} bytes"):
        split_bytes("x", struct.pack("<I", size) + bytes(size), 1)
    with pytest.raises(TooLarge, match=f"BYTES element 0 has {size} bytes"):
        check_strings("x", [bytes(size)])


def test_text_becomes_utf_8_and_anything_else_is_refused() -> None:
    tensor = Tensor.from_values("x", BYTES, [2, 1], ["ß", b"\xff"])
    assert tensor.array.tolist() == [["ß".encode()], [b"\xff"]]
    with pytest.raises(InvalidArgument, match="BYTES element 1 must be a string, got int"):
        Tensor.from_values("x", BYTES, [2], ["a", 1])


def test_equally_long_byte_strings_do_not_become_a_matrix() -> None:
    assert Tensor.from_raw("x", BYTES, [2], join_bytes([b"ab", b"cd"])).array.tolist() == [b"ab", b"cd"]
