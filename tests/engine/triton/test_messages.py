"""Requests to Triton are written, and its answers read, alike whether or not one of their form was before."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from tritonclient.grpc import service_pb2 as pb

from engine import Internal, Layout, Signature, Tensor, TensorSpec, datatype_named
from engine.triton.http2 import only_message
from engine.triton.messages import RequestWriter, ResponseReader, framed
from engine.triton.shared_request import SharedRequest

SIGNATURE = Signature(
    (),
    (
        TensorSpec("score", datatype_named("FP32", of="score"), (-1, 2)),
        TensorSpec("text", datatype_named("BYTES", of="text"), (-1,)),
    ),
)


def answer(*, score: list[float], text: bytes, version: str = "1", shape: tuple[int, ...] = (1, 2)) -> bytes:
    message = pb.ModelInferResponse(model_name="m", model_version=version)
    message.outputs.add(name="score", datatype="FP32", shape=shape)
    message.outputs.add(name="text", datatype="BYTES", shape=[1])
    message.raw_output_contents.append(np.array(score, "<f4").tobytes())
    message.raw_output_contents.append(len(text).to_bytes(4, "little") + text)
    return bytes(message.SerializeToString())


def read(reader: ResponseReader, body: bytes) -> tuple[list[list[float]], list[bytes]]:
    found = reader.read(body, ())
    return found["score"].array.tolist(), found["text"].array.tolist()


def test_answers_of_one_form_differ_in_contents_alone() -> None:
    reader = ResponseReader("m", SIGNATURE)
    for number in range(3):
        body = answer(score=[number, -number], text=b"abc%d" % number)
        assert read(reader, body) == ([[number, -number]], [b"abc%d" % number])


def test_an_answer_as_long_as_another_is_read_by_itself() -> None:
    reader = ResponseReader("m", SIGNATURE)
    assert read(reader, answer(score=[1, 2], text=b"12345678")) == ([[1, 2]], [b"12345678"])
    longer = answer(score=[1, 2, 3, 4], text=b"", shape=(2, 2))
    assert len(longer) == len(answer(score=[1, 2], text=b"12345678"))
    assert read(reader, longer) == ([[1, 2], [3, 4]], [b""])
    with pytest.raises(Internal, match=r"score.*of \[2, 1\]"):
        reader.read(answer(score=[1, 2], text=b"12345678", shape=(2, 1)), ())


def test_texts_that_do_not_add_up_are_the_servers_fault_in_a_form_that_is_known_too() -> None:
    reader = ResponseReader("m", SIGNATURE)
    body = answer(score=[1, 2], text=b"12345678")
    assert read(reader, body) == ([[1, 2]], [b"12345678"])
    with pytest.raises(Internal, match="Triton answered output 'text'"):
        reader.read(body[:-12] + (9).to_bytes(4, "little") + body[-8:], ())


def test_a_remembered_form_is_not_that_of_other_outputs() -> None:
    reader = ResponseReader("m", SIGNATURE)
    body = answer(score=[1, 2], text=b"x")
    assert list(reader.read(body, ())) == ["score", "text"]
    assert list(reader.read(body, ("text",))) == ["text"]


def test_a_server_may_tell_outputs_in_an_order_of_its_own() -> None:
    """As an ensemble's does; of one size, so that nothing but their names tells them apart."""
    fp32 = datatype_named("FP32", of="a")
    reader = ResponseReader("m", Signature((), (TensorSpec("a", fp32, (-1,)), TensorSpec("b", fp32, (-1,)))))
    for number in (1.0, 2.0, 3.0):
        message = pb.ModelInferResponse(model_name="m", model_version="1")
        for name, value in (("b", -number), ("a", number)):
            message.outputs.add(name=name, datatype="FP32", shape=[1])
            message.raw_output_contents.append(np.array([value], "<f4").tobytes())
        found = reader.read(bytes(message.SerializeToString()), ())
        assert {name: each.array.tolist() for name, each in found.items()} == {"a": [number], "b": [-number]}
        assert list(found) == ["a", "b"]


def test_what_is_not_one_message_is_told() -> None:
    whole = framed(b"message")
    assert only_message([whole]) == only_message([whole[:3], whole[3:]]) == b"message"
    for broken in (b"", whole[:-1], whole + b"x", b"\1" + whole[1:]):
        with pytest.raises(ValueError, match="not one message"):
            only_message([broken])


ASKED = Signature(
    (
        TensorSpec("x", datatype_named("FP32", of="x"), (-1, 3)),
        TensorSpec("n", datatype_named("INT64", of="n"), (-1,)),
        TensorSpec("text", datatype_named("BYTES", of="text"), (-1,)),
    ),
    SIGNATURE.outputs,
)


def inputs_of(rows: int, value: float) -> dict[str, Tensor]:
    n: npt.NDArray[np.int64] = np.full(rows, int(value), np.int64)
    return {
        "x": Tensor(datatype_named("FP32", of="x"), np.full((rows, 3), value, np.float32)),
        "n": Tensor(datatype_named("INT64", of="n"), n),
    }


def layout_of(rows: int) -> Layout:
    return Layout(20 * rows, (("x", (3,)), ("n", ())))


@pytest.mark.parametrize("rows", [1, 7, 200])
@pytest.mark.parametrize("timeout_us", [None, 1, 90_000_000])
def test_requests_of_one_layout_are_written_as_any(rows: int, timeout_us: int | None) -> None:
    writer, layout = RequestWriter("m", 3, ASKED, decoupled=False), layout_of(rows)
    writer.write(inputs_of(rows, 0.0), ("score",), None, layout)
    for value in (1.0, 2.0):
        inputs = inputs_of(rows, value)
        written = writer.write(inputs, ("score",), timeout_us, layout)
        assert written == writer.whole(inputs, ("score",), timeout_us)
        assert isinstance(written, bytes)
        told = pb.ModelInferRequest.FromString(only_message([written]))
        assert [each.shape[0] for each in told.inputs] == [rows, rows]
        assert list(told.raw_input_contents) == [each.to_bytes() for each in inputs.values()]
        assert told.parameters["timeout"].int64_param == (timeout_us or 0)


def test_texts_are_written_anew_whatever_the_layout() -> None:
    writer, layout = RequestWriter("m", None, ASKED, decoupled=False), Layout(0, (("text", ()),))
    for texts in (["a"], ["long one"]):
        written = writer.write({"text": Tensor.from_texts(texts)}, (), None, layout)
        assert isinstance(written, bytes)
        raws = pb.ModelInferRequest.FromString(only_message([written])).raw_input_contents
        assert list(raws) == [Tensor.from_texts(texts).to_bytes()]


def test_large_tensors_are_offered_to_shared_memory_whatever_the_layout() -> None:
    writer, layout = RequestWriter("m", None, ASKED, decoupled=False, shared_bytes_min=64), layout_of(100)
    for _ in range(2):
        assert isinstance(writer.write(inputs_of(100, 1.0), (), None, layout), SharedRequest)
