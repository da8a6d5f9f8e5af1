"""Encoders and rerankers answer calls for embeddings, reranking and scores in the words that clients know."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import Engine, GenerationCall, GenerationKind, InvalidArgument, Request, SpecError, Tensor, parse_spec
from tests.engine.encoders.small import cross_encoder, encoder, files, texts_of
from tests.fakes import PATIENCE_S

SPEC = """
encoders:
  words: {model: encoder/model.onnx, tokenizer: encoder/tokenizer.json, encoding: {prompts: {query: "query : "}}}
rerankers:
  pairs: {model: pairs/model.onnx, tokenizer: pairs/tokenizer.json}
language_models:
  embedding: {encoder: words}
  ranking: {reranker: pairs}
"""
DOCUMENTS = ["the sea", "a red fox", "cold"]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One with both."""
    folder = tmp_path_factory.mktemp("encoding")
    files(folder / "encoder", encoder())
    files(folder / "pairs", cross_encoder())
    made = Engine(parse_spec(SPEC, folder=folder))
    made.start()
    assert made.problems() == {}
    yield made
    made.close(1.0)


def ask(engine: Engine, kind: GenerationKind, **body: Any) -> Any:  # noqa: ANN401  JSON
    """The body of the answer."""
    model = "embedding" if kind is GenerationKind.EMBEDDING else "ranking"
    call = GenerationCall(kind, model, {"model": model, **body}, id="call-1")
    answer = engine.home.run(engine.language_models.answer(call), PATIENCE_S)
    assert isinstance(answer.body, bytes)
    assert answer.status == 200
    return json.loads(answer.body)


def direct(engine: Engine, texts: list[str], prompt: str = "") -> np.ndarray[Any, Any]:
    """What the encoder gives by the inference protocol."""
    inputs = {"text": texts_of(texts), "prompt": texts_of([prompt] * len(texts))}
    return engine.infer(Request("words", inputs)).outputs["embedding"].array


def test_embeddings_are_the_encoders(engine: Engine) -> None:
    found = ask(engine, GenerationKind.EMBEDDING, input=DOCUMENTS)
    assert found["object"] == "list"
    assert found["model"] == "embedding"
    assert [(each["object"], each["index"]) for each in found["data"]] == [("embedding", at) for at in range(3)]
    np.testing.assert_allclose([each["embedding"] for each in found["data"]], direct(engine, DOCUMENTS), rtol=1e-6)
    assert found["usage"] == {"prompt_tokens": 4 + 5 + 3, "total_tokens": 12}


def test_one_text_as_base64_with_a_prompt(engine: Engine) -> None:
    found = ask(
        engine, GenerationKind.EMBEDDING, input="cold", encoding_format="base64", input_type="query", dimensions=5
    )
    [each] = found["data"]
    assert np.array_equal(
        np.frombuffer(base64.b64decode(each["embedding"]), "<f4"), direct(engine, ["cold"], "query")[0]
    )


def scores_of(engine: Engine, query: str) -> list[float]:
    """Of DOCUMENTS, by the inference protocol."""
    passages = texts_of(DOCUMENTS)
    inputs = {"query": texts_of([query]), "passage": Tensor(passages.datatype, passages.array[None])}
    found: list[float] = engine.infer(Request("pairs", inputs)).outputs["score"].array[0].tolist()
    return found


def test_documents_come_in_the_order_of_their_scores(engine: Engine) -> None:
    scores = scores_of(engine, "the deep sea")
    given: list[Any] = [DOCUMENTS[0], {"text": DOCUMENTS[1]}, DOCUMENTS[2]]
    found = ask(engine, GenerationKind.RERANK, query="the deep sea", documents=given)
    order = sorted(range(3), key=lambda at: -scores[at])
    assert [each["index"] for each in found["results"]] == order
    assert [each["relevance_score"] for each in found["results"]] == [scores[at] for at in order]
    assert [each["document"]["text"] for each in found["results"]] == [DOCUMENTS[at] for at in order]
    assert found["id"] == "call-1"
    best = ask(
        engine, GenerationKind.RERANK, query="the deep sea", documents=DOCUMENTS, top_n=1, return_documents=False
    )
    assert best["results"] == [{"index": order[0], "relevance_score": scores[order[0]]}]


def test_scores_are_of_one_text_with_many_or_of_pairs(engine: Engine) -> None:
    many = ask(engine, GenerationKind.SCORE, text_1="the deep sea", text_2=DOCUMENTS)
    assert [each["score"] for each in many["data"]] == scores_of(engine, "the deep sea")
    pairs = ask(engine, GenerationKind.SCORE, text_1=["cold", "red", "sea"], text_2=DOCUMENTS)
    assert [each["score"] for each in pairs["data"]] == [
        scores_of(engine, q)[at] for at, q in enumerate(["cold", "red", "sea"])
    ]
    assert many["usage"]["total_tokens"] == sum(5 + len(text.split()) + 1 for text in DOCUMENTS)


@pytest.mark.parametrize(
    ("kind", "body", "told"),
    [
        ("embedding", {}, "input: expected a text or a list of texts, got nothing"),
        ("embedding", {"input": []}, "input: expected a text or a list of texts, got a list"),
        ("embedding", {"input": ["a", 3]}, r"input\[1\]: expected a text, got '3'"),
        ("embedding", {"input": [1, 2]}, "input: expected a text or a list of texts, got tokens"),
        ("embedding", {"input": [[1, 2], [3]]}, "input: expected a text or a list of texts, got tokens"),
        ("embedding", {"input": ["a"] * 4_097}, "input: 4097 texts, at most 4096 are allowed"),
        ("embedding", {"input": "\ud800"}, "input: is no Unicode text"),
        (
            "embedding",
            {"input": "a", "encoding_format": "int8"},
            "encoding_format: expected float or base64, got 'int8'",
        ),
        ("embedding", {"input": "a", "dimensions": 2}, "dimensions: the model's vectors have 5, got '2'"),
        ("embedding", {"input": "a", "input_type": "passage"}, "there is no prompt 'passage'"),
        ("rerank", {"documents": ["a"]}, "query: expected a text, got nothing"),
        ("rerank", {"query": "a", "documents": "a"}, "documents: expected a list of texts, got a text"),
        ("rerank", {"query": "a", "documents": [{}]}, r"documents\[0\]: expected a text, got nothing"),
        (
            "rerank",
            {"query": "a", "documents": ["a"], "top_n": 0},
            "top_n: expected a whole number of 1 or more, got '0'",
        ),
        ("score", {"text_1": ["a", "b"], "text_2": ["a"]}, "text_1: expected one text, or 1, as text_2 has, got 2"),
    ],
)
def test_what_is_no_call_is_told(kind: str, body: dict[str, Any], told: str, engine: Engine) -> None:
    with pytest.raises(InvalidArgument, match=told):
        ask(engine, GenerationKind(kind), **body)


def test_only_an_encoder_of_the_spec_embeds() -> None:
    with pytest.raises(SpecError, match="there is no encoder 'pairs'"):
        parse_spec(SPEC.replace("{encoder: words}", "{encoder: pairs}"), folder=Path())
    with pytest.raises(SpecError, match="there is no reranker 'words'"):
        parse_spec(SPEC.replace("{reranker: pairs}", "{reranker: words}"), folder=Path())
