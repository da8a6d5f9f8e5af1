"""Graphs by the OpenAI API: called by the unmodified `openai` client, whole and streamed, told late, left, and counted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import openai
import pytest

from protos.vireo.v1 import generation_pb2 as pb
from protos.vireo.v1.generation_pb2_grpc import GenerationStub
from tests.serving import language_functions
from tests.serving.servers import ServerHere, eventually, spec_for

SPEC = """
server: {grpc_port: 0, http_port: 0}
functions:
  answered:
    call: tests.serving.language_functions:answered
    inline_us_max: 0
    inputs:
      messages: {datatype: BYTES, shape: [1]}
      body: {datatype: BYTES, shape: [1]}
      tenant: {datatype: BYTES, shape: [1]}
    outputs:
      text: {datatype: BYTES, shape: [1]}
      reason: {datatype: BYTES, shape: [1]}
      asked: {datatype: INT64, shape: [1]}
      said: {datatype: INT64, shape: [1]}
  spelled:
    call: tests.serving.language_functions:spelled
    inputs: {question: {datatype: BYTES, shape: [-1]}}
    outputs: {answer: {datatype: BYTES, shape: [-1]}}
  lengths:
    call: tests.serving.language_functions:lengths
    inputs: {texts: {datatype: BYTES, shape: [-1]}}
    outputs: {vectors: {datatype: FP32, shape: [-1, 2]}}
    batchable: true
  overlap:
    call: tests.serving.language_functions:overlap
    inputs: {one: {datatype: BYTES, shape: [-1]}, others: {datatype: BYTES, shape: [-1, -1]}}
    outputs: {shared: {datatype: FP32, shape: [-1, -1]}}
    batchable: true
graphs:
  desk:
    inputs: {messages: {datatype: BYTES, shape: [1]}, all: {datatype: BYTES, shape: [1]}, who: {datatype: BYTES, shape: [1]}}
    nodes: {work: {call: answered, inputs: {messages: messages, body: all, tenant: who}}}
    outputs: {text: work.text, reason: work.reason, asked: work.asked, said: work.said}
  speller:
    inputs: {question: {datatype: BYTES, shape: [-1]}}
    nodes: {work: {call: spelled, inputs: {question: question}}}
    outputs: {answer: work.answer}
  measure:
    inputs: {texts: {datatype: BYTES, shape: [-1]}}
    nodes: {work: {call: lengths, inputs: {texts: texts}}}
    outputs: {vectors: work.vectors}
  compare:
    inputs: {one: {datatype: BYTES, shape: [-1]}, others: {datatype: BYTES, shape: [-1, -1]}}
    nodes: {work: {call: overlap, inputs: {one: one, others: others}}}
    outputs: {shared: work.shared}
language_models:
  clerk:
    graph:
      call: desk
      text: {messages: messages, body: all, tenant: who, answer: text, finish_reason: reason, prompt_tokens: asked,
             completion_tokens: said}
  echo: {timeout_ms: 20000, graph: {call: speller, text: {prompt: question}}}
  sizes: {graph: {call: measure, embedding: {text: texts, embedding: vectors}}}
  words: {graph: {call: compare, reranking: {query: one, passage: others, score: shared}}}
"""
HI: Any = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "good day"}]


@pytest.fixture(scope="module")
def running(transport: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerHere]:
    """A server of graphs."""
    made = ServerHere(spec_for(SPEC, tmp_path_factory.mktemp("graphs"), transport))
    assert not made.engine.problems()
    yield made
    language_functions.GOING.set()
    made.stop()


@pytest.fixture
def url(running: ServerHere) -> str:
    """Of its HTTP door."""
    return f"http://127.0.0.1:{running.host.http_port}"


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    """As its users have it."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_a_graph_answers_chats_and_says_what_it_knows_of_tokens(client: openai.OpenAI) -> None:
    made = client.chat.completions.create(
        model="clerk", messages=HI, temperature=0.5, extra_headers={"vireo-tenant": "acme"}
    )
    [choice] = made.choices
    assert choice.message.role == "assistant"
    assert choice.message.content == "acme: 2 at 0.5: good day"
    assert (choice.finish_reason, made.model, made.object) == ("length", "clerk", "chat.completion")
    assert made.usage is not None
    assert (made.usage.prompt_tokens, made.usage.completion_tokens, made.usage.total_tokens) == (2, 6, 8)


def test_a_graph_that_does_not_stream_streams_in_one_piece(client: openai.OpenAI) -> None:
    options: Any = {"include_usage": True}
    chunks = list(client.chat.completions.create(model="clerk", messages=HI, stream=True, stream_options=options))
    assert [each.choices[0].delta.content for each in chunks if each.choices] == [": 2 at None: good day", None]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[1].choices[0].finish_reason == "length"
    assert chunks[2].usage is not None
    assert chunks[2].usage.total_tokens == 8
    assert len({each.id for each in chunks}) == 1


def test_a_graph_that_streams_gives_each_piece_as_it_comes(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model="echo", messages=HI, stream=True))
    assert [each.choices[0].delta.content for each in chunks] == ["good ", "day ", None]
    assert client.chat.completions.create(model="echo", messages=HI).choices[0].message.content == "good day "
    whole = client.completions.create(model="echo", prompt="one two")
    assert (whole.choices[0].text, whole.choices[0].finish_reason, whole.usage) == ("one two ", "stop", None)
    pieces = list(client.completions.create(model="echo", prompt="one two", stream=True))
    assert [each.choices[0].text for each in pieces] == ["one ", "two ", ""]


def test_a_caller_who_leaves_stops_the_graph(url: str, running: ServerHere) -> None:
    asked = {"model": "echo", "prompt": "endless talk", "stream": True}
    with httpx.stream("POST", f"{url}/v1/completions", json=asked, timeout=30) as streamed:
        lines = streamed.iter_lines()
        assert next(lines)
    eventually(lambda: "endless talk" in language_functions.LEFT and running.in_flight == 0, "the graph has stopped")
    assert running.engine.language_models.statistics()[1][1].outcomes["cancelled"] >= 1


def test_deadlines_and_failures_of_the_graph_are_told_in_the_apis_form(client: openai.OpenAI) -> None:
    slow: Any = [{"role": "user", "content": "slow"}]
    language_functions.GOING.clear()
    for stream in (False, True):
        with pytest.raises(openai.APIStatusError) as late:
            client.chat.completions.create(
                model="clerk", messages=slow, stream=stream, extra_headers={"x-request-timeout-ms": "50"}
            )
        assert (late.value.status_code, late.value.code) == (504, "timeout")
    language_functions.GOING.set()
    with pytest.raises(openai.InternalServerError, match="it was to fail"):
        client.chat.completions.create(model="clerk", messages=[{"role": "user", "content": "fail"}])


def test_who_asks_is_told_where_the_time_of_the_graph_went(url: str) -> None:
    for stream in (False, True):
        body = {"model": "clerk", "messages": HI, "stream": stream}
        told = httpx.post(f"{url}/v1/chat/completions", json=body, headers={"vireo-ledger": "1"})
        assert "work" in [each["name"] for each in json.loads(told.headers["vireo-ledger"])["stages"]]
    assert "vireo-ledger" not in httpx.post(f"{url}/v1/chat/completions", json=body).headers


def test_vectors_and_scores_of_graphs(client: openai.OpenAI, url: str) -> None:
    made = client.embeddings.create(model="sizes", input=["a red fox", "cold"])
    assert [each.embedding for each in made.data] == [[9, 3], [4, 1]]
    assert made.model_dump()["usage"] is None
    asked = {"model": "words", "query": "red fox", "documents": ["a dog", "the red fox", "red"], "top_n": 2}
    ranked = httpx.post(f"{url}/rerank", json=asked).json()
    assert [(each["index"], each["relevance_score"]) for each in ranked["results"]] == [(1, 2), (2, 1)]
    scored = httpx.post(f"{url}/score", json={"model": "words", "text_1": ["a b", "c"], "text_2": ["b", "d"]}).json()
    assert [each["score"] for each in scored["data"]] == [1, 0]
    with pytest.raises(openai.BadRequestError, match="embeds all texts alike"):
        client.embeddings.create(model="sizes", input="a", extra_body={"input_type": "query"})


def test_graphs_are_listed_and_answer_over_grpc(client: openai.OpenAI, running: ServerHere) -> None:
    assert {each.id for each in client.models.list()} == {"clerk", "echo", "sizes", "words"}
    with grpc.insecure_channel(running.address) as channel:
        stub = GenerationStub(channel)  # type: ignore[no-untyped-call]
        body = json.dumps({"model": "echo", "messages": HI}).encode()
        events = list(stub.Stream(pb.GenerateRequest(kind=pb.GENERATION_KIND_CHAT, body=body)))
    pieces = [json.loads(each.data)["choices"][0]["delta"].get("content") for each in events]
    assert pieces == ["good ", "day ", None]
