"""What a spec says of language models that are graphs: which of a graph's tensors the OpenAI API's words are."""

from __future__ import annotations

from dataclasses import dataclass

from engine.encoders.relations import EMBEDDING, PASSAGE, QUERY, SCORE, TEXT


@dataclass(frozen=True, slots=True)
class TextTensors:
    """Of a graph that answers chat and completion calls. Inputs, at least one of the first three, each BYTES [1] of UTF-8:
    `prompt` (of a chat the last message's text), `messages` (JSON; of a completion one message with its prompt), `body`
    (JSON, the whole call), and `tenant` (empty where the call names none).

    Outputs, of one row: `answer` BYTES; where the graph knows them `finish_reason` BYTES, `prompt_tokens` and `completion_tokens`
    whole numbers. Of a graph that streams each response's `answer` is the next piece, and the rest is the last response's.
    """

    prompt: str | None = None
    messages: str | None = None
    body: str | None = None
    tenant: str | None = None
    answer: str = "answer"
    finish_reason: str | None = None
    prompt_tokens: str | None = None
    completion_tokens: str | None = None


@dataclass(frozen=True, slots=True)
class EmbeddingTensors:
    """Of what answers calls for embeddings: input `text` BYTES [n]; outputs `embedding` FP32 [n, d] and, where they are counted,
    `tokens`, whole numbers [n]. `prompt`: input BYTES [n], the name of a prompt, where the call names one."""

    text: str = TEXT
    embedding: str = EMBEDDING
    tokens: str | None = None
    prompt: str | None = None


@dataclass(frozen=True, slots=True)
class RerankingTensors:
    """Of what answers calls for reranking and scores: inputs `query` BYTES [n], `passage` BYTES [n, m]; outputs `score`
    FP32 [n, m] and, where they are counted, `tokens`, whole numbers [n]."""

    query: str = QUERY
    passage: str = PASSAGE
    score: str = SCORE
    tokens: str | None = None


@dataclass(frozen=True, slots=True)
class GraphModelSpec:
    """A graph, a traffic split, a function or a model of the spec, `call` its name; exactly one of `text`, `embedding` and
    `reranking` says what it answers and by which tensors."""

    call: str
    text: TextTensors | None = None
    embedding: EmbeddingTensors | None = None
    reranking: RerankingTensors | None = None
