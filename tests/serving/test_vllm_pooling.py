"""Models that make vectors and scores under a real vLLM, held to the same weights under onnxruntime and transformers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
import onnx
import openai
import pytest

from benchmarks.workloads.retrieval.export import INPUTS, body
from tests.serving.servers import ServerHere, spec_for
from tests.serving.vllm_server import PATIENCE_S, client_of, server_of, skip_unless_wanted
from tests.test_docs import ROOT

skip_unless_wanted()

SPEC = """
server: {grpc_port: 0, http_port: 0}
encoders:
  body: {model: body.onnx, tokenizer: minilm/tokenizer.json, encoding: {tokens_max: 256}}
language_models:
  onnx: {encoder: body}
  minilm: {vllm: {model: minilm, args: {runner: pooling, dtype: float32, enforce-eager: true}}}
  pairs: {vllm: {model: pairs, args: {runner: pooling, dtype: float32, enforce-eager: true}}}
"""
TEXTS: Final = ("The sea is cold today.", "a red fox", "cough, clear up: exhale abruptly; as when ill", "tide " * 80)
QUERY: Final = "Which animal is red?"
SPREAD: Final = 50.0
"""The random head of the cross-encoder is made so much stronger: its scores are all near one half otherwise."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MiniLM for vLLM and as ONNX, and a cross-encoder on its body with a head of random weights."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from benchmarks.workloads.retrieval.training.cross_encoder import body_folder, body_weights  # which loads torch

    made, cache = tmp_path_factory.mktemp("pooling"), ROOT / ".cache" / "retrieval"
    shutil.copytree(body_folder(cache), made / "minilm")
    draw, hidden = body(body_weights(cache))
    onnx.save(draw.model("minilm", INPUTS, hidden, ["rows", "tokens", 384]), made / "body.onnx")
    torch.manual_seed(7)
    pairs = AutoModelForSequenceClassification.from_pretrained(made / "minilm", num_labels=1)
    with torch.no_grad():
        pairs.classifier.weight.mul_(SPREAD)
    pairs.save_pretrained(made / "pairs")
    AutoTokenizer.from_pretrained(made / "minilm").save_pretrained(made / "pairs")
    return made


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerHere]:
    """One with both engines of vLLM."""
    made = server_of(spec_for(SPEC, folder, "native"))
    yield made
    made.stop()


@pytest.fixture
def client(server: ServerHere) -> Iterator[openai.OpenAI]:
    """The vendor's client."""
    with client_of(server) as made:
        yield made


@pytest.fixture
def http(server: ServerHere) -> Iterator[httpx.Client]:
    """For what the vendor's client has no call."""
    with httpx.Client(base_url=f"http://127.0.0.1:{server.host.http_port}", timeout=PATIENCE_S, verify=False) as made:
        yield made


def vectors(client: openai.OpenAI, model: str, texts: Any, **more: Any) -> np.ndarray[Any, Any]:  # noqa: ANN401
    """The vectors of `texts`, a row each."""
    return np.array([each.embedding for each in client.embeddings.create(model=model, input=texts, **more).data])


def expected_scores(folder: Path) -> list[float]:
    """Of QUERY with each of TEXTS, by transformers, one by one."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "pairs")
    model = AutoModelForSequenceClassification.from_pretrained(folder / "pairs", dtype=torch.float32)
    with torch.no_grad():
        logits = [model(**tokenizer(QUERY, text, return_tensors="pt")).logits[0, 0] for text in TEXTS]
    return [float(torch.sigmoid(each)) for each in logits]


def test_vllm_embeds_as_the_encoder_on_onnx_does(client: openai.OpenAI) -> None:
    texts = list(TEXTS)
    found, wanted = vectors(client, "minilm", texts), vectors(client, "onnx", texts)
    assert found.shape == (len(TEXTS), 384)
    assert np.abs(found - wanted).max() < 1e-3
    assert np.abs(vectors(client, "minilm", texts, encoding_format="float") - found).max() < 1e-6
    assert np.abs(vectors(client, "minilm", TEXTS[1]) - found[1]).max() < 1e-3


def test_tokens_of_the_models_own_vocabulary_are_embedded_and_others_refused(
    client: openai.OpenAI, http: httpx.Client
) -> None:
    tokens = [http.post("/tokenize", json={"model": "minilm", "prompt": each}).json()["tokens"] for each in TEXTS[:2]]
    assert np.abs(vectors(client, "minilm", tokens) - vectors(client, "onnx", list(TEXTS[:2]))).max() < 1e-3
    with pytest.raises(openai.BadRequestError, match="vocabulary"):
        client.embeddings.create(model="minilm", input=[[101, 99_999, 102]])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"input": "tide " * 300}, "256"),
        ({"input": []}, ""),
        ({"input": 3}, "input"),
        ({"encoding_format": "bytes"}, "encoding_format"),
        ({"dimensions": 5}, "dimension"),
    ],
)
def test_what_cannot_be_embedded_is_refused_in_the_form_of_the_api(
    http: httpx.Client, wrong: dict[str, Any], said: str
) -> None:
    told = http.post("/v1/embeddings", json={"model": "minilm", "input": "x", **wrong})
    assert told.status_code == 400, told.text
    assert set(told.json()["error"]) >= {"message", "type", "param", "code"}
    assert said in told.json()["error"]["message"]


def test_scores_of_an_embedder_are_the_cosines_of_its_vectors(client: openai.OpenAI, http: httpx.Client) -> None:
    told = http.post("/score", json={"model": "minilm", "text_1": QUERY, "text_2": list(TEXTS)}).json()
    asked, *others = vectors(client, "onnx", [QUERY, *TEXTS])
    assert [each["score"] for each in told["data"]] == pytest.approx([float(asked @ each) for each in others], abs=1e-3)


def test_a_cross_encoder_scores_and_ranks_as_transformers_has_it(http: httpx.Client, folder: Path) -> None:
    wanted = expected_scores(folder)
    assert max(wanted) - min(wanted) > 0.05, "the scores tell the texts apart"
    told = http.post("/score", json={"model": "pairs", "text_1": QUERY, "text_2": list(TEXTS)}).json()
    assert [each["score"] for each in told["data"]] == pytest.approx(wanted, abs=1e-3)
    ranked = http.post("/rerank", json={"model": "pairs", "query": QUERY, "documents": list(TEXTS), "top_n": 2}).json()
    best = sorted(range(len(TEXTS)), key=lambda at: -wanted[at])[:2]
    assert [each["index"] for each in ranked["results"]] == best
    assert [each["document"]["text"] for each in ranked["results"]] == [TEXTS[at] for at in best]
    assert [each["relevance_score"] for each in ranked["results"]] == pytest.approx(
        [wanted[at] for at in best], abs=1e-3
    )


def test_each_answers_its_own_kinds_of_call_only(client: openai.OpenAI, server: ServerHere) -> None:
    with pytest.raises(openai.BadRequestError, match="answers no chat calls"):
        client.chat.completions.create(model="minilm", messages=[{"role": "user", "content": "hi"}])
    with pytest.raises(openai.BadRequestError, match="answers no embedding calls"):
        client.embeddings.create(model="pairs", input="x")
    kinds = {name: {each.value for each in server.engine.language_models.kinds(name)} for name in ("minilm", "pairs")}
    assert kinds == {"minilm": {"embedding", "rerank", "score", "tokenize"}, "pairs": {"rerank", "score", "tokenize"}}
