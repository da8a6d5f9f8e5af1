"""Requests decoded by their layout, beside the codec, which reads each one in full: both must say the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from engine import Deadline, InvalidArgument, Request, VireoError, limits
from serving.codec import decode_request, parse

plans = pytest.importorskip("serving.native.infer_plans", reason="the native transport is not built")


def _clock() -> int:
    return 0


def _message(**changes: object) -> pb.ModelInferRequest:
    made = pb.ModelInferRequest(model_name="m", model_version="3", id="first")
    made.inputs.add(name="x", datatype="FP32", shape=[2, 3])
    made.inputs.add(name="n", datatype="INT64", shape=[2])
    made.outputs.add(name="y")
    made.raw_input_contents.append(np.arange(6, dtype=np.float32).tobytes())
    made.raw_input_contents.append(np.arange(2, dtype=np.int64).tobytes())
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def _told(request: Request) -> tuple[object, ...]:
    inputs = [(name, each.datatype, each.array.tolist(), each.array.shape) for name, each in request.inputs.items()]
    return (request.model, request.version, request.id, request.outputs, dict(request.parameters), inputs)


def _both(decoder: object, message: bytes) -> tuple[object, object]:
    """What the plans and the codec make of a message: what the request says, or the error's text."""

    def outcome(decode: object) -> object:
        try:
            return _told(decode())  # type: ignore[operator]
        except VireoError as error:
            return (type(error), error.message)

    by_plan = outcome(lambda: decoder.decode(message, Deadline.NEVER))  # type: ignore[attr-defined]
    by_codec = outcome(lambda: decode_request(parse(pb.ModelInferRequest, message), Deadline.NEVER, _clock))
    return by_plan, by_codec


def test_second_request_of_a_layout_is_read_by_its_layout_and_says_the_same() -> None:
    decoder = plans.RequestPlans(_clock)
    first = decoder.decode(_message().SerializeToString(), Deadline.NEVER)
    second = decoder.decode(_message(id="second").SerializeToString(), Deadline.NEVER)
    third = decoder.decode(_message(id="third").SerializeToString(), Deadline.NEVER)
    assert first.layout is None
    assert second.layout is third.layout is not None
    assert _told(second) == (*_told(first)[:2], "second", *_told(first)[3:])


def test_tensors_are_views_of_the_message() -> None:
    decoder = plans.RequestPlans(_clock)
    message = _message().SerializeToString()
    decoder.decode(message, Deadline.NEVER)
    low = np.frombuffer(message, np.uint8).__array_interface__["data"][0]
    for each in decoder.decode(message, Deadline.NEVER).inputs.values():
        address = each.array.__array_interface__["data"][0]
        assert low <= address < low + len(message) or not address % each.array.itemsize


@pytest.mark.parametrize(
    "damage",
    [
        lambda m: m.raw_input_contents.pop(),
        lambda m: m.raw_input_contents.append(b"more"),
        lambda m: m.raw_input_contents.__setitem__(0, b"short"),
        lambda m: m.parameters["timeout"].__setattr__("int64_param", 5),
        lambda m: m.parameters["sequence_id"].__setattr__("int64_param", 5),
        lambda m: setattr(m, "id", "i" * (limits.ID_CHARS_MAX + 1)),
        lambda m: setattr(m, "model_version", "x"),
        lambda m: m.inputs[0].shape.__setitem__(0, 1 << 50),
        lambda m: m.inputs[0].shape.__setitem__(0, -1),
        lambda m: m.inputs[0].parameters["shared_memory_region"].__setattr__("string_param", "r"),
        lambda m: setattr(m.inputs[1], "name", "x"),
        lambda m: setattr(m.inputs[1], "datatype", "BYTES"),
        lambda m: m.inputs[0].contents.fp32_contents.append(1.0),
        lambda m: m.outputs.add(name="y"),
        lambda m: m.outputs[0].parameters["classification"].__setattr__("int64_param", 2),
        lambda m: setattr(m, "model_name", "n" * 5000),
        lambda m: m.ClearField("raw_input_contents"),
    ],
)
def test_every_oddity_is_judged_as_the_codec_judges_it(damage: object) -> None:
    decoder = plans.RequestPlans(_clock)
    decoder.decode(_message().SerializeToString(), Deadline.NEVER)
    odd = _message()
    damage(odd)  # type: ignore[operator]
    for _ in range(3):
        by_plan, by_codec = _both(decoder, odd.SerializeToString())
        assert by_plan == by_codec
    assert _both(decoder, _message().SerializeToString())[0] == _both(decoder, _message().SerializeToString())[1]


@given(st.data())
def test_damaged_messages_are_judged_as_the_codec_judges_them(data: st.DataObject) -> None:
    decoder = plans.RequestPlans(_clock)
    good = bytearray(_message().SerializeToString())
    decoder.decode(bytes(good), Deadline.NEVER)
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(good[: data.draw(st.integers(0, len(good)))])
    for message in (bytes(good), cut):
        by_plan, by_codec = _both(decoder, message)
        assert repr(by_plan) == repr(by_codec)  # NaN is not itself, but reads alike


def test_layouts_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LAYOUTS_MAX", 4)
    decoder = plans.RequestPlans(_clock)
    for number in range(20):
        for _ in range(2):
            decoder.decode(_message(model_name=f"m{number}").SerializeToString(), Deadline.NEVER)
    assert len(decoder._plans) <= 4


def test_what_is_not_a_message_is_an_invalid_argument() -> None:
    with pytest.raises(InvalidArgument, match="not a valid ModelInferRequest"):
        plans.RequestPlans(_clock).decode(b"\xff\xff\xff", Deadline.NEVER)
