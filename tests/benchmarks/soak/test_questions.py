"""Questions, their forms on the wire, and the judge of answers."""

import json
from random import Random
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from benchmarks.soak.grpc_form import judge, raw_of, request_of
from benchmarks.soak.http_form import HEADER_LENGTH, binary_body, json_body, judge_body, values_of
from benchmarks.soak.outcome import WRONG
from benchmarks.soak.questions import BYTES_MAX, BYTES_MIN, Material, Question, Questions

KINDS = ["fraud", "negate", "fill", "slow", "shout"]


@pytest.fixture
def questions() -> Questions:
    rng = np.random.default_rng(1)
    noise = rng.standard_normal(2 * BYTES_MAX // 4, np.float32)
    return Questions(Random(1), Material(rng.random((50, 4), np.float32), rng.random((50, 1), np.float32), noise))


def grpc_answer(question: Question, **changes: Any) -> Any:  # noqa: ANN401  a protobuf message
    """The right answer, but for `changes`."""
    answer = service_pb2.ModelInferResponse(model_name=question.model, id="7")
    output, expected = changes.get("output", question.output), changes.get("expected", question.expected)
    answer.outputs.add(name=output, datatype=expected.datatype, shape=changes.get("shape", expected.array.shape))
    answer.raw_output_contents.append(raw_of(expected))
    return answer


@pytest.mark.parametrize("kind", KINDS)
def test_right_answer_by_grpc_is_right_and_no_other(questions: Questions, kind: str) -> None:
    question, other = getattr(questions, kind)(), getattr(questions, kind)()
    assert judge(question, grpc_answer(question), "7").fine
    assert judge(question, grpc_answer(question), "8").kind == WRONG
    assert judge(question, grpc_answer(question, expected=other.expected), "7").kind == WRONG
    assert judge(question, grpc_answer(question, output="other"), "7").kind == WRONG
    assert judge(question, grpc_answer(question, shape=[1, 1, *question.expected.array.shape]), "7").kind == WRONG
    assert judge(question, service_pb2.ModelInferResponse(model_name=question.model, id="7"), "7").kind == WRONG


@pytest.mark.parametrize("kind", KINDS)
def test_right_answer_by_http_is_right_in_either_form_and_no_other(questions: Questions, kind: str) -> None:
    question, other = getattr(questions, kind)(), getattr(questions, kind)()
    for said, right in ((question.expected, True), (other.expected, False)):
        about = {"name": question.output, "datatype": said.datatype, "shape": list(said.array.shape)}
        as_json = json.dumps({"outputs": [{**about, "data": values_of(said.array)}]}).encode()
        assert judge_body(question, as_json, None).fine is right
        header = json.dumps({"outputs": [about]}).encode()
        assert judge_body(question, header + raw_of(said), len(header)).fine is right
    assert judge_body(question, b'{"outputs": []}', None).kind == WRONG
    assert judge_body(question, b"nothing", None).kind == WRONG


def test_scores_may_differ_by_the_rounding_of_another_batch_and_no_more(questions: Questions) -> None:
    question = questions.fraud()
    assert question.is_right(question.expected.array + np.float32(5e-7))
    assert not question.is_right(question.expected.array + np.float32(5e-6))


@pytest.mark.parametrize("kind", KINDS)
def test_forms_say_the_same(questions: Questions, kind: str) -> None:
    question = getattr(questions, kind)()
    by_grpc, binary = request_of(question), binary_body(question)
    header = json.loads(binary.content[: int(binary.headers[HEADER_LENGTH])])
    assert b"".join(by_grpc.raw_input_contents) == binary.content[int(binary.headers[HEADER_LENGTH]) :]
    for one in (header["inputs"], json.loads(json_body(question).content)["inputs"]):
        assert [(each["name"], each["datatype"], each["shape"]) for each in one] == [
            (each.name, each.datatype, list(each.shape)) for each in by_grpc.inputs
        ]


def test_sizes_are_spread_over_their_logarithm(questions: Questions) -> None:
    sizes = np.array([questions.any_size() for _ in range(4000)])
    assert sizes.min() >= BYTES_MIN - 4
    assert sizes.max() <= BYTES_MAX
    assert not (sizes % 4).any()
    middle = np.sqrt(BYTES_MIN * BYTES_MAX)
    assert 0.45 < (sizes < middle).mean() < 0.55


def test_same_seed_asks_the_same(questions: Questions) -> None:
    def asked() -> list[str]:
        questions.rng.seed(5)
        return [request_of(questions.any()).SerializeToString(deterministic=True).hex() for _ in range(10)]

    assert asked() == asked()
