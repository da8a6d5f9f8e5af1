"""Every datatype of the Open Inference Protocol, in typed and in raw contents, there and back bit for bit."""

from __future__ import annotations

import struct
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import serialize_byte_tensor

from engine import BF16, BYTES, DATATYPES, Array
from tests.serving.calls import given, message, refused, stub_of, typed
from tests.serving.models import edge_values, identity_of
from tests.serving.servers import ServerHere

FIELDS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
BEYOND = [
    ("INT8", 128), ("INT8", -129), ("INT16", 1 << 15), ("UINT8", 256), ("UINT16", 1 << 16), ("UINT8", (1 << 32) - 1),
]  # fmt: skip


def _raw(datatype: str, values: Array) -> bytes:
    if datatype == "BYTES":
        return b"".join(struct.pack("<I", len(each)) + each for each in values.ravel())
    return values.tobytes()


def test_every_datatype_is_covered() -> None:
    assert FIELDS.keys() | {"FP16", "BF16"} == DATATYPES.keys()


@pytest.mark.parametrize("datatype", DATATYPES)
def test_raw_contents_come_back_bit_for_bit(server: ServerHere, datatype: str) -> None:
    raw = _raw(datatype, edge_values(datatype))
    with stub_of(server.address) as stub:
        response = stub.ModelInfer(message(identity_of(datatype), ("x", datatype, (2, 2), raw)))
    (output,) = response.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("y", datatype, [2, 2])
    assert list(response.raw_output_contents) == [raw]


@pytest.mark.parametrize("datatype", FIELDS)
def test_typed_contents_mean_the_same_as_raw_ones(server: ServerHere, datatype: str) -> None:
    values = edge_values(datatype)
    contents = {FIELDS[datatype]: values.ravel().tolist()}
    with stub_of(server.address) as stub:
        response = stub.ModelInfer(typed(identity_of(datatype), "x", datatype, (2, 2), **contents))
    assert list(response.raw_output_contents) == [_raw(datatype, values)]


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_datatypes_without_typed_contents_say_so(server: ServerHere, datatype: str) -> None:
    with stub_of(server.address) as stub, refused("INVALID_ARGUMENT", "input 'x'", datatype, "send it raw"):
        stub.ModelInfer(typed(identity_of(datatype), "x", datatype, (1, 2), fp32_contents=[1.0, 2.0]))


@pytest.mark.parametrize(("datatype", "value"), BEYOND)
def test_typed_value_beyond_its_datatype_is_refused(server: ServerHere, datatype: str, value: int) -> None:
    contents = {FIELDS[datatype]: [0, value]}
    with stub_of(server.address) as stub, refused("INVALID_ARGUMENT", "input 'x'", datatype, str(value)):
        stub.ModelInfer(typed(identity_of(datatype), "x", datatype, (1, 2), **contents))


@pytest.mark.parametrize("datatype", FIELDS)
def test_typed_contents_in_the_field_of_another_datatype_are_refused(server: ServerHere, datatype: str) -> None:
    field, values = ("fp64_contents", [1.0, 2.0]) if datatype != "FP64" else ("int_contents", [1, 2])
    with stub_of(server.address) as stub, refused("INVALID_ARGUMENT", "input 'x'", FIELDS[datatype], field):
        stub.ModelInfer(typed(identity_of(datatype), "x", datatype, (1, 2), **{field: values}))


@pytest.mark.parametrize("datatype", DATATYPES)
def test_triton_client_gets_back_what_it_sends(client: InferenceServerClient, datatype: str) -> None:
    values: Any = edge_values(datatype)
    if DATATYPES[datatype] is BF16:
        values = values.view(ml_dtypes.bfloat16)
    result = client.infer(identity_of(datatype), [given("x", values, datatype)])
    got = result.as_numpy("y")
    assert got.dtype == values.dtype
    np.testing.assert_array_equal(got, values)


def test_bytes_are_serialized_as_triton_does(client: InferenceServerClient) -> None:
    values = edge_values("BYTES")
    result = client.infer(identity_of("BYTES"), [given("x", values, "BYTES")])
    assert result.get_response().raw_output_contents[0] == serialize_byte_tensor(values).item()
    assert DATATYPES["BYTES"] is BYTES


def test_not_a_number_and_infinities_pass(client: InferenceServerClient) -> None:
    for datatype in ("FP16", "FP32", "FP64"):
        values = np.array([[np.nan, np.inf], [-np.inf, -0.0]], DATATYPES[datatype].dtype)
        got = client.infer(identity_of(datatype), [given("x", values, datatype)]).as_numpy("y")
        assert got.tobytes() == values.tobytes()
