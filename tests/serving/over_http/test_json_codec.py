"""The JSON form of inference: what a request says, and what a response is written as."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from engine import BF16, BYTES, DATATYPES, Array, Deadline, InvalidArgument, Ledger, Response, Tensor, VireoError
from serving.json_codec import Wanted, decode_body, encode_body, raw_body
from tests.serving.models import edge_values
from tests.serving.over_http.bodies import asking, binary_body, raw_content, raw_input, tensor

BINARY = Wanted(by_default=True)


def _response(**outputs: Tensor) -> Response:
    return Response("m", 7, outputs, Ledger(0), "an id")


def _decoded(body: object) -> Tensor:
    return decode_body(json.dumps(body).encode(), None).inputs["x"]


def _told(**outputs: Tensor) -> list[dict[str, Any]]:
    body, header_bytes = encode_body(_response(**outputs), Wanted())
    assert header_bytes is None
    found: list[dict[str, Any]] = json.loads(body)["outputs"]
    return found


def _tensor_of(datatype: str) -> Tensor:
    values = edge_values(datatype)
    return Tensor.from_raw("x", DATATYPES[datatype], values.shape, raw_content(values))


# There and back.


@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_is_written_and_read_back_the_same(datatype: str) -> None:
    sent = _tensor_of(datatype)
    (told,) = _told(x=sent)
    assert (told["datatype"], told["shape"]) == (datatype, [2, 2])
    got = _decoded(asking(told))
    assert got.datatype is sent.datatype
    np.testing.assert_array_equal(got.array, sent.array)


@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_travels_raw_and_back_the_same(datatype: str) -> None:
    sent = _tensor_of(datatype)
    body, header_bytes = encode_body(_response(x=sent), BINARY)
    assert header_bytes is not None
    asked = asking(*json.loads(body[:header_bytes])["outputs"])
    again, length = binary_body(asked, body[header_bytes:])
    got = decode_body(again, int(length)).inputs["x"]
    np.testing.assert_array_equal(got.array, sent.array)


@given(arrays.arrays(np.float32, (3, 2), elements=st.floats(width=32)))
def test_any_float_is_read_back_as_the_same_value(values: Array) -> None:
    (told,) = _told(x=Tensor(DATATYPES["FP32"], values))
    np.testing.assert_array_equal(_decoded(asking(told)).array, values)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20))
def test_any_wide_integer_is_read_back_as_the_same(values: list[int]) -> None:
    (told,) = _told(x=Tensor(DATATYPES["INT64"], np.array(values, np.int64)))
    assert _decoded(asking(told)).array.tolist() == values


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=10))
def test_any_text_is_read_back_as_the_same(texts: list[str]) -> None:
    sent = _decoded(asking(tensor("x", "BYTES", [len(texts)], texts)))
    assert [each.decode() for each in sent.array] == texts
    assert _told(x=sent)[0]["data"] == texts


@given(arrays.arrays(np.int16, arrays.array_shapes(min_dims=1, max_dims=5, max_side=3)))
def test_nested_and_flat_data_are_the_same(values: Array) -> None:
    nested, flat = (
        _decoded(asking(tensor("x", "INT16", values.shape, each)))
        for each in (values.tolist(), values.ravel().tolist())
    )
    np.testing.assert_array_equal(nested.array, values)
    np.testing.assert_array_equal(flat.array, values)


def test_json_and_raw_inputs_mix_and_raw_content_goes_in_order() -> None:
    body, length = binary_body(
        asking(
            raw_input("a", "INT8", [2], 2), tensor("b", "INT8", [1], [3]), raw_input("c", "INT16", [1], 2),
            parameters={"binary_data_output": True}, outputs=[{"name": "o", "parameters": {"binary_data": False}}],
        ),
        b"\x01\x02\x05\x00",
    )  # fmt: skip
    asked = decode_body(body, int(length))
    assert {name: each.array.tolist() for name, each in asked.inputs.items()} == {"a": [1, 2], "b": [3], "c": [5]}
    assert asked.outputs == ("o",)
    assert asked.wanted == Wanted(by_default=True, binary={"o": False})


def test_unaligned_raw_content_is_read_right() -> None:
    values = np.array([1.5, -2.0], np.float64)
    for pad in range(8):
        body, length = binary_body(asking(raw_input("x", "FP64", [2], 16), id="i" * pad), values.tobytes())
        np.testing.assert_array_equal(decode_body(body, int(length)).inputs["x"].array, values)


def test_request_takes_model_version_and_deadline_from_elsewhere() -> None:
    asked = decode_body(json.dumps(asking(tensor("x", "INT8", [1], [1]), id="i", parameters={"p": 1})).encode(), None)
    request = asked.request("m", 3, Deadline(5))
    assert (request.model, request.version, request.id, request.deadline) == ("m", 3, "i", Deadline(5))
    assert request.parameters == {"p": 1}


def test_raw_body_wants_raw_answers() -> None:
    sent = _tensor_of("FP32")
    asked = raw_body("x", sent)
    assert asked.inputs == {"x": sent}
    assert asked.wanted == BINARY


# What is written.


def test_answer_in_json_has_no_length_and_names_everything() -> None:
    body, header_bytes = encode_body(_response(y=_tensor_of("INT8")), Wanted())
    assert header_bytes is None
    assert json.loads(body) == {
        "model_name": "m",
        "model_version": "7",
        "id": "an id",
        "outputs": [{"name": "y", "datatype": "INT8", "shape": [2, 2], "data": [-128, 127, 0, 1]}],
    }


def test_each_output_comes_in_the_form_wanted() -> None:
    sent = _tensor_of("INT8")
    body, header_bytes = encode_body(_response(a=sent, b=sent), Wanted(by_default=True, binary={"a": False}))
    assert header_bytes is not None
    a, b = json.loads(body[:header_bytes])["outputs"]
    assert a["data"] == [-128, 127, 0, 1]
    assert ("data" in b, b["parameters"]) == (False, {"binary_data_size": 4})
    assert body[header_bytes:] == b"\x80\x7f\x00\x01"


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
def test_nan_and_infinities_are_literals(datatype: str) -> None:
    values = np.array([np.nan, np.inf, -np.inf, 0.5], DATATYPES[datatype].dtype)
    body, _ = encode_body(_response(y=Tensor(DATATYPES[datatype], values)), Wanted())
    assert b"NaN,Infinity,-Infinity,0.5" in body
    got = _decoded(asking(tensor("x", datatype, [4], json.loads(body)["outputs"][0]["data"])))
    np.testing.assert_array_equal(got.array, values)


def test_bits_of_bf16_are_written_as_their_values() -> None:
    assert _told(y=Tensor(BF16, np.array([0x3F80, 0xC000], np.uint16)))[0]["data"] == [1.0, -2.0]


def test_array_that_is_not_contiguous_is_written_row_by_row() -> None:
    turned = np.arange(6, dtype=np.int32).reshape(2, 3).T
    assert _told(y=Tensor(DATATYPES["INT32"], turned))[0]["data"] == [0, 3, 1, 4, 2, 5]


def test_bytes_that_are_no_text_are_refused_in_json_and_given_raw() -> None:
    response = _response(y=Tensor(BYTES, np.array([b"\xff"], object)))
    with pytest.raises(InvalidArgument, match=r"output 'y' is not UTF-8 and cannot be JSON; ask .* binary_data: true"):
        encode_body(response, Wanted())
    body, header_bytes = encode_body(response, BINARY)
    assert body[header_bytes:] == b"\x01\0\0\0\xff"


# What is refused.


@given(st.binary(max_size=200), st.none() | st.integers(0, 250))
def test_no_bytes_raise_anything_but_our_own_errors(body: bytes, header_bytes: int | None) -> None:
    with pytest.raises(VireoError):
        decode_body(body, header_bytes)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(
    st.sampled_from(["BYTES", "BOOL", "INT8", "UINT64", "FP16", "BF16"]),
    st.lists(st.integers(-1, 4), max_size=3),
    _VALUES,
)
def test_no_data_raises_anything_but_our_own_errors(datatype: str, shape: list[int], data: object) -> None:
    body = json.dumps(asking(tensor("x", datatype, shape, data))).encode()
    try:
        got = decode_body(body, None).inputs["x"].array
    except VireoError:
        return
    assert list(got.shape) == shape


@pytest.mark.parametrize("key", ["shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"])
def test_shared_memory_is_refused_for_inputs_and_outputs(key: str) -> None:
    sized = {"parameters": {key: 1}}
    for body in (
        asking(tensor("x", "INT8", [1], [1], **sized)),
        asking(tensor("x", "INT8", [1], [1]), outputs=[{"name": "x", **sized}]),
    ):
        with pytest.raises(VireoError, match=f"put 'x': parameter '{key}' is not supported"):
            _decoded(body)
