"""What a spec may say of language models that are graphs."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import SpecError, parse_spec

FUNCTIONS = """
functions:
  talk:
    call: m:talk
    inputs: {question: {datatype: BYTES, shape: [1]}, who: {datatype: BYTES, shape: [1], optional: true}}
    outputs: {answer: {datatype: BYTES, shape: [-1]}, odd: {datatype: FP32, shape: [1]}, used: {datatype: UINT16, shape: [1]}}
  vector:
    call: m:vector
    inputs: {text: {datatype: BYTES, shape: [-1]}, weight: {datatype: FP32, shape: [-1]}}
    outputs: {embedding: {datatype: FP32, shape: [-1]}}
graphs:
  desk:
    inputs: {question: {datatype: BYTES, shape: [1]}}
    nodes: {work: {call: talk, inputs: {question: question}}}
    outputs: {answer: work.answer}
"""


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("{call: desk}", "app.yaml:2: language_models.m.graph: exactly one of text, embedding, reranking"),
        ("{call: desk, text: {prompt: question}, embedding: {}}", "says what it answers, got text and embedding"),
        ("{call: dask, text: {prompt: question}}", "m.graph.call: nothing is called 'dask'; nearest: 'desk'"),
        ("{call: desk, text: {}}", "m.graph.text: at least one of prompt, messages and body names the input"),
        (
            "{call: desk, text: {prompt: qestion}}",
            "text.prompt: graph 'desk' has no input 'qestion'; nearest: 'question'",
        ),
        ("{call: desk, text: {prompt: question, answer: said}}", "text.answer: graph 'desk' has no output 'said'"),
        ("{call: talk, text: {prompt: question, answer: odd}}", "output 'odd': expected datatype BYTES, got FP32"),
        (
            "{call: talk, text: {prompt: question, prompt_tokens: odd}}",
            "output 'odd': expected datatype INT32, got FP32",
        ),
        ("{call: talk, text: {prompt: question, body: question}}", "input 'question' is named by 'prompt' already"),
        (
            "{call: talk, text: {prompt: who}}",
            "graph.text: function 'talk' needs input 'question', which nothing here gives",
        ),
        ("{call: vector, embedding: {}}", "output 'embedding': expected shape [-1, -1], got [-1]"),
        ("{call: vector, embedding: {}}", "function 'vector'"),
        ("{call: talk, reranking: {query: question, passage: who, score: odd}}", "reranking.passage: function 'talk'"),
    ],
)
def test_a_wrong_declaration_is_refused_with_its_place(model: str, told: str) -> None:
    with pytest.raises(SpecError) as raised:
        parse_spec(f"language_models:\n  m: {{graph: {model}}}\n{FUNCTIONS}", folder=Path(), source="app.yaml")
    assert told in raised.value.message


def test_counts_are_whole_numbers_of_any_kind_and_optional_inputs_may_be_left_out() -> None:
    text = "language_models:\n  m: {graph: {call: talk, text: {prompt: question, completion_tokens: used}}}\n"
    spec = parse_spec(text + FUNCTIONS, folder=Path())
    assert spec.language_models["m"].source == "graph talk"


def test_tensors_that_only_loading_tells_are_not_asked_for() -> None:
    text = "repository: {path: r}\nmodels: {bert: {}}\nlanguage_models: {m: {graph: {call: bert, embedding: {}}}}"
    assert parse_spec(text, folder=Path()).language_models["m"].source == "graph bert"
