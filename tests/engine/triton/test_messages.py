"""Answers of Triton are read alike whether or not one of their form was read before."""

from __future__ import annotations

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from engine import Internal, Signature, TensorSpec, datatype_named
from engine.triton.call import only_message
from engine.triton.messages import ResponseReader, framed

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


def test_what_is_not_one_message_is_told() -> None:
    whole = framed(b"message")
    assert only_message([whole]) == only_message([whole[:3], whole[3:]]) == b"message"
    for broken in (b"", whole[:-1], whole + b"x", b"\1" + whole[1:]):
        with pytest.raises(ValueError, match="not one message"):
            only_message([broken])
