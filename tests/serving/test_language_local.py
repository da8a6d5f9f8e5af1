"""Encoders, rerankers and grounded models over HTTP, called by the unmodified `openai` client where it has a call for them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from tests.engine.encoders.small import cross_encoder, encoder, files
from tests.engine.generation.grounding import test_grounded
from tests.serving.servers import ServerHere, spec_for

SPEC = (
    """
server: {grpc_port: 0, http_port: 0}
encoders:
  words:
    model: encoder/model.onnx
    tokenizer: encoder/tokenizer.json
    encoding: {tokens_max: 8, truncate: false}
    cache_bytes_max: 100000
rerankers:
  pairs: {model: pairs/model.onnx, tokenizer: pairs/tokenizer.json}
"""
    + test_grounded.SPEC
    + """
  embedding: {encoder: words}
  ranking: {reranker: pairs}
  smol: {call: 'tests.language:Bigrams'}
"""
)
TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorials" / "language-models.md"


@pytest.fixture(scope="module")
def running(transport: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerHere]:
    """A server of all of them."""
    folder = tmp_path_factory.mktemp("local")
    files(folder / "encoder", encoder())
    files(folder / "pairs", cross_encoder())
    made = ServerHere(spec_for(SPEC, folder, transport))
    assert not made.engine.problems()
    yield made
    made.stop()


@pytest.fixture
def client(running: ServerHere) -> Iterator[openai.OpenAI]:
    """As its users have it."""
    url = f"http://127.0.0.1:{running.host.http_port}/v1"
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as made:
        yield made


def test_embeddings_come_as_numbers_and_as_the_client_asks_for_them(client: openai.OpenAI) -> None:
    texts = ["the sea", "a red fox"]
    plain = client.embeddings.create(model="embedding", input=texts, encoding_format="float")
    packed = client.embeddings.create(model="embedding", input=texts)  # base64, unasked
    assert [each.index for each in plain.data] == [0, 1]
    assert [each.embedding for each in packed.data] == [pytest.approx(each.embedding, abs=1e-6) for each in plain.data]
    assert plain.usage.prompt_tokens == 9


def test_vectors_that_are_kept_are_counted(client: openai.OpenAI, running: ServerHere) -> None:
    for _ in range(2):
        client.embeddings.create(model="embedding", input=["tide", "bell"])
    told = httpx.get(f"http://127.0.0.1:{running.host.http_port}/metrics").text
    hits = re.search(r'vireo_encoder_cache_hits_total\{model="words",version="1"\} (\d+)', told)
    assert hits is not None
    assert int(hits[1]) >= 2
    assert 'vireo_encoder_cache_bytes{model="words",version="1"}' in told


def test_what_cannot_be_embedded_is_a_bad_request_that_says_why(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="tokens"):
        client.embeddings.create(model="embedding", input="the sea is deep bright cold and a red fox")
    with pytest.raises(openai.BadRequestError, match="answers no chat calls"):
        client.chat.completions.create(model="embedding", messages=[{"role": "user", "content": "hi"}])
    with pytest.raises(openai.NotFoundError, match="embeding"):
        client.embeddings.create(model="embeding", input="cold")


def test_documents_are_ranked_and_scored(running: ServerHere) -> None:
    texts = ["the sea", "a red fox", "cold"]
    with httpx.Client(base_url=f"http://127.0.0.1:{running.host.http_port}") as client:
        body = {"model": "ranking", "query": "red fox", "documents": texts, "top_n": 2}
        ranked = client.post("/rerank", json=body).json()["results"]
        scored = client.post("/score", json={"model": "ranking", "text_1": "red fox", "text_2": texts}).json()["data"]
        wrong = client.post("/rerank", json={"model": "ranking", "query": "red fox"})
    scores = [each["score"] for each in scored]
    best = sorted(range(3), key=lambda at: -scores[at])[:2]
    assert [each["index"] for each in ranked] == best
    assert [each["relevance_score"] for each in ranked] == pytest.approx([scores[at] for at in best])
    assert wrong.status_code == 400
    assert "documents" in wrong.json()["error"]["message"]


def test_an_answer_from_passages_streams_and_brings_what_it_rests_on(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="birds", messages=[{"role": "user", "content": "where do vireos hang their nests?"}], stream=True
    )
    chunks = list(stream)
    text = "".join(each.choices[0].delta.content or "" for each in chunks)
    assert text.startswith(f"{test_grounded.NESTS}. [1] ")
    grounding = (chunks[-1].model_extra or {})["grounding"]
    assert {each["passage"] for each in grounding["citations"]} == {"f-2"}
    whole = client.chat.completions.create(
        model="birds", messages=[{"role": "user", "content": "where do vireos hang their nests?"}]
    )
    assert whole.choices[0].message.content == text
    assert (whole.model_extra or {})["grounding"] == grounding


def test_every_model_is_told(client: openai.OpenAI) -> None:
    assert {each.id for each in client.models.list()} == {
        "writer",
        "birds",
        "ordered",
        "wide",
        "embedding",
        "ranking",
        "smol",
    }


def test_the_tutorials_program_runs(running: ServerHere, capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```", TUTORIAL.read_text(), re.MULTILINE | re.DOTALL)
    program = program.replace("127.0.0.1:8000", f"127.0.0.1:{running.host.http_port}")
    exec(compile(program, TUTORIAL.name, "exec"), {"__name__": TUTORIAL.stem})
    assert "hello." in capsys.readouterr().out
