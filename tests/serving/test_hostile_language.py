"""Bodies that no client should send, to every kind of language model: each is told in the OpenAI API's form, and the next call is
answered."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.engine.encoders.small import cross_encoder, encoder, files
from tests.serving import language_functions, test_language_graph
from tests.serving.servers import ServerHere, eventually, spec_for

SPEC = (
    test_language_graph.SPEC.replace(
        "functions:\n",
        """
encoders:
  vectors: {model: encoder/model.onnx, tokenizer: encoder/tokenizer.json, encoding: {tokens_max: 8, truncate: false}}
rerankers:
  pairs: {model: pairs/model.onnx, tokenizer: pairs/tokenizer.json, tokens_max: 16, truncate: false}
functions:
  facts:
    call: tests.engine.generation.grounding.test_grounded:facts
    inputs: {question: {datatype: BYTES, shape: [-1]}}
    outputs:
      ids: {datatype: BYTES, shape: [-1, -1]}
      text: {datatype: BYTES, shape: [-1, -1]}
      scores: {datatype: FP32, shape: [-1, -1]}
""",
    )
    + """
  birds: {grounded: {retrieval: facts, model: echo}}
  embedding: {encoder: vectors}
  ranking: {reranker: pairs}
"""
)
CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
SAID: Any = {"messages": [{"role": "user", "content": "where do vireos nest?"}]}
PATHS = {
    "clerk": CHAT, "echo": CHAT, "birds": CHAT, "sizes": "/v1/embeddings", "words": "/rerank", "embedding": "/v1/embeddings",
    "ranking": "/rerank",
}  # fmt: skip
GOOD: dict[str, dict[str, Any]] = {
    CHAT: SAID,
    "/v1/embeddings": {"input": "cold"},
    "/rerank": {"query": "cold", "documents": ["the sea"]},
}
TOOL = {"type": "function", "function": {"name": 3, "parameters": "none"}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
BAD_CHATS: list[dict[str, Any]] = [
    {"messages": "hi"},
    {"messages": []},
    {"messages": [{"role": "usr", "content": "a"}]},
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
    {"messages": [{"role": "user", "content": [IMAGE]}]},
    {"messages": [{"role": "user"}]},
    *({**SAID, key: value} for key, value in (
        ("temperature", "hot"), ("temperature", -1), ("top_p", 2), ("max_tokens", 0), ("max_tokens", 1.5), ("n", 3),
        ("presence_penalty", 9), ("seed", "x"), ("stop", [1]), ("stream_options", "all"), ("stream", "yes"),
        ("tools", [TOOL]), ("tools", "weather"), ("response_format", {"type": "json_schema"}), ("logprobs", True),
    )),
]  # fmt: skip
BAD_TEXTS: dict[str, list[dict[str, Any]]] = {
    "/v1/embeddings": [
        {}, {"input": None}, {"input": {}}, {"input": [[1, 2]]}, {"input": "a", "encoding_format": "png"},
        {"input": "a", "dimensions": -1},
    ],
    "/rerank": [
        {}, {"query": "a"}, {"query": [], "documents": ["a"]}, {"query": "a", "documents": [3]},
        {"query": "a", "documents": ["b"], "top_n": "all"},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def running(transport: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerHere]:
    """A server with every kind of model that needs nothing beside it."""
    folder = tmp_path_factory.mktemp("hostile")
    files(folder / "encoder", encoder())
    files(folder / "pairs", cross_encoder())
    language_functions.GOING.set()
    made = ServerHere(spec_for(SPEC, folder, transport))
    assert not made.engine.problems()
    yield made
    made.stop()


@pytest.fixture
def client(running: ServerHere) -> Iterator[httpx.Client]:
    """Of that server."""
    with httpx.Client(base_url=f"http://127.0.0.1:{running.host.http_port}", timeout=30) as made:
        yield made


def is_refused(given: httpx.Response, status: int = 400) -> None:
    """In the API's form, with a message."""
    assert given.status_code == status, given.text
    error = given.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["message"]


def is_answered(client: httpx.Client, model: str) -> None:
    """As if nothing had happened."""
    path = PATHS[model]
    assert client.post(path, json={"model": model, **GOOD[path]}).status_code == 200


@pytest.mark.parametrize("model", PATHS)
def test_bodies_that_mean_nothing_are_refused_and_the_next_is_answered(client: httpx.Client, model: str) -> None:
    path = PATHS[model]
    for body in BAD_CHATS if path == CHAT else BAD_TEXTS[path]:
        is_refused(client.post(path, json={"model": model, **body}))
    is_answered(client, model)


@pytest.mark.parametrize("model", PATHS)
def test_a_megabyte_of_nesting_is_refused_wherever_it_stands(client: httpx.Client, model: str) -> None:
    deep = b"[" * 500_000 + b"]" * 500_000
    for key in (b"messages", b"input", b"documents", b"tools", b"metadata"):
        body = b'{"model": "' + model.encode() + b'", "' + key + b'": ' + deep + b"}"
        is_refused(client.post(PATHS[model], content=body))
    shallow = json.loads("[" * 400 + "]" * 400)
    told = client.post(PATHS[model], json={"model": model, **GOOD[PATHS[model]], "metadata": shallow})
    assert told.status_code in (200, 400)
    is_answered(client, model)


def test_what_is_too_long_or_of_another_kind_is_refused(client: httpx.Client) -> None:
    long = "the sea is deep and cold and bright " * 4
    is_refused(client.post("/v1/embeddings", json={"model": "embedding", "input": ["cold", long]}))
    is_refused(client.post("/rerank", json={"model": "ranking", "query": long, "documents": ["a"]}))
    is_refused(client.post(CHAT, json={"model": "embedding", **SAID}))
    is_refused(client.post("/v1/embeddings", json={"model": "clerk", "input": "a"}))
    is_refused(client.post(COMPLETION, json={"model": "echo", "prompt": [[1, 2]]}))
    is_refused(client.post(COMPLETION, json={"model": "echo", "prompt": ["a", "b"]}))
    is_refused(client.post(COMPLETION, json={"model": "nobody", "prompt": "a"}), 404)


def test_a_connection_that_is_cut_in_the_middle_of_a_stream_leaves_nothing_behind(running: ServerHere) -> None:
    body = json.dumps(
        {"model": "echo", "stream": True, "messages": [{"role": "user", "content": "endless words"}]}
    ).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    assert running.host.http_port is not None
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", running.host.http_port), timeout=30) as raw:
            raw.sendall(head + body)
            assert raw.recv(64).startswith(b"HTTP/1.1 200")
    eventually(lambda: running.in_flight == 0, "nothing is in flight")
    assert sum(each.under_way for _, each in running.engine.language_models.statistics()) == 0
