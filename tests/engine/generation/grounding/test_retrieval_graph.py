"""A grounded model over a graph that embeds the question and searches by vector and words, while documents change."""

from __future__ import annotations

import hashlib
import json
import random
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import Engine, GenerationCall, GenerationKind, parse_spec, points_of
from tests.fakes import PATIENCE_S

SPEC = """
vectors:
  path: vectors
  collections:
    handbook:
      id: text
      vectors: {meaning: {size: 64}}
      fields: {text: {type: text, stemmer: english}, document: {type: keyword}, start: {type: integer}}
      durability: os
functions:
  embed:
    call: tests.engine.generation.grounding.test_retrieval_graph:embed
    inputs: {text: {datatype: BYTES, shape: [-1]}}
    outputs: {vector: {datatype: FP32, shape: [-1, 64]}}
searches:
  similar:
    collection: handbook
    k: 5
    words: {field: text}
    payload: {text: null, document: null, start: -1}
graphs:
  passages:
    inputs: {question: {datatype: BYTES, shape: [-1]}}
    nodes:
      embedded: {call: embed, inputs: {text: question}}
      found: {call: similar, inputs: {query: embedded.vector, words: question}}
    outputs: {ids: found.ids, text: found.text, scores: found.scores, document: found.document, start: found.start}
language_models:
  writer: {call: 'tests.engine.generation.grounding.test_grounded:Writer'}
  handbook:
    grounded: {retrieval: passages, model: writer, passages: {document: document, start: start}, stemmer: english}
"""
WORDS = ("vireo", "nest", "song", "forest", "winter", "egg", "flight", "insect", "river", "oak", "hawk", "dawn")


def embed(text: np.ndarray[Any, Any]) -> Mapping[str, np.ndarray[Any, Any]]:
    """Each text as the sum of a direction a word."""
    return {"vector": vectors_of(text)}


def vectors_of(text: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """FP32 [n, 64]."""
    return np.stack([sum((_direction(word) for word in each.split()), np.full(64, 1e-3, np.float32)) for each in text])


def _direction(word: bytes) -> np.ndarray[Any, Any]:
    seed = int.from_bytes(hashlib.sha256(word.lower().strip(b".?")).digest()[:4])
    return np.random.default_rng(seed).standard_normal(64).astype(np.float32)


def sentence(seed: random.Random, version: int) -> str:
    """Of which every version differs."""
    return f"The {' '.join(seed.sample(WORDS, 4))} number {version} stands alone."


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """With forty passages."""
    made = Engine(parse_spec(SPEC, folder=tmp_path))
    made.start()
    assert not made.problems()
    yield made
    made.close(1.0)


class Documents:
    """What was ever written, by id."""

    def __init__(self, engine: Engine) -> None:
        self._collection = engine.vectors.collection("handbook")
        self._random = random.Random(7)
        self.texts: dict[str, set[str]] = {}

    def write(self, version: int) -> None:
        """Every document anew."""
        texts = {f"d{at}": sentence(self._random, version * 100 + at) for at in range(40)}
        for key, text in texts.items():
            self.texts.setdefault(key, set()).add(text)
        vectors = vectors_of(np.array([each.encode() for each in texts.values()], object))
        rows = [
            {"id": key, "vector": {"meaning": vector.tolist()}, "payload": {"text": text, "document": key, "start": 3}}
            for (key, text), vector in zip(texts.items(), vectors, strict=True)
        ]
        self._collection.upsert(points_of(self._collection.spec, rows))


def answer(engine: Engine, question: str) -> dict[str, Any]:
    """The whole answer."""
    body = {"messages": [{"role": "user", "content": question}]}

    async def read() -> bytes:
        answered = await engine.language_models.answer(GenerationCall(GenerationKind.CHAT, "handbook", body))
        assert isinstance(answered.body, bytes)
        return answered.body

    found: dict[str, Any] = json.loads(engine.home.run(read(), PATIENCE_S))
    return found


def test_every_citation_names_what_was_retrieved_as_it_was_then(engine: Engine) -> None:
    documents, over = Documents(engine), threading.Event()
    documents.write(0)

    def change() -> None:
        version = 1
        while not over.is_set():
            documents.write(version)
            version += 1

    writing = threading.Thread(target=change)
    writing.start()
    try:
        for seed in range(60):
            asked = " ".join(random.Random(seed).sample(WORDS, 3))
            told = answer(engine, f"{asked}?")
            text, grounding = told["choices"][0]["message"]["content"], told["grounding"]
            shown = {each["id"]: each for each in grounding["passages"]}
            assert len(shown) == 5
            assert all(each["text"] in documents.texts[key] for key, each in shown.items())
            assert all((each["document"], each["start"]) == (key, 3) for key, each in shown.items())
            assert grounding["citations"]
            for each in grounding["citations"]:
                cited = shown[each["passage"]]
                assert cited["number"] == each["number"]
                assert text[each["start"] : each["end"]].rstrip(".") in cited["text"]
    finally:
        over.set()
        writing.join()


def test_a_passage_is_found_by_a_word_that_only_it_has(engine: Engine) -> None:
    documents = Documents(engine)
    documents.write(0)
    told = answer(engine, "What about number 17?")
    assert told["grounding"]["passages"][0]["id"] == "d17"
