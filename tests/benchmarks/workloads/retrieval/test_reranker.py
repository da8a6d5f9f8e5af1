"""Lessons hold out what is asked in the end; NDCG and reranking are what they say; the ONNX model is plain numpy's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from benchmarks.workloads.retrieval.export import HEADS, LAYERS, cross_encoder
from benchmarks.workloads.retrieval.quality import gain, read_again
from benchmarks.workloads.retrieval.training.lessons import OTHERS, lessons, rows, teaching
from benchmarks.workloads.retrieval.wordnet import Labelled, Synset

SIZE, INNER, WORDS, TOKENS = 24, 16, 11, 6
Floats = npt.NDArray[np.float32]


def weights() -> dict[str, Floats]:
    """Of a body as MiniLM's, but small."""
    rng, found = np.random.default_rng(3), {}

    def add(name: str, *shape: int) -> None:
        found[name] = (0.3 * rng.standard_normal(shape)).astype(np.float32)

    for table, count in (("word", WORDS), ("position", 9), ("token_type", 2)):
        add(f"embeddings.{table}_embeddings.weight", count, SIZE)
    layers = [f"encoder.layer.{layer}" for layer in range(LAYERS)]
    for name in (
        "embeddings.LayerNorm",
        *(f"{each}.{of}LayerNorm" for each in layers for of in ("attention.output.", "output.")),
    ):
        add(f"{name}.weight", SIZE)
        add(f"{name}.bias", SIZE)
    square = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
    shapes = [(each, SIZE, SIZE) for each in square] + [
        ("intermediate.dense", INNER, SIZE),
        ("output.dense", SIZE, INNER),
    ]
    for layer in layers:
        for part, out, into in shapes:
            add(f"{layer}.{part}.weight", out, into)
            add(f"{layer}.{part}.bias", out)
    add("head.weight", 2 * SIZE)
    return found


def logit(held: dict[str, Floats], ids: list[int], segments: list[int]) -> float:
    """Of one pair, without padding."""
    by = {name: each.astype(np.float64) for name, each in held.items()}

    def normed(value: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
        value = (value - value.mean(1, keepdims=True)) / np.sqrt(value.var(1, keepdims=True) + 1e-12)
        return value * by[f"{name}.weight"] + by[f"{name}.bias"]

    def linear(value: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
        return value @ by[f"{name}.weight"].T + by[f"{name}.bias"]

    table = "embeddings.{}_embeddings.weight"
    hidden = (
        by[table.format("word")][ids]
        + by[table.format("position")][: len(ids)]
        + by[table.format("token_type")][segments]
    )
    hidden = normed(hidden, "embeddings.LayerNorm")
    for layer in range(LAYERS):
        name, wide = f"encoder.layer.{layer}", SIZE // HEADS
        query, key, value = (linear(hidden, f"{name}.attention.self.{each}") for each in ("query", "key", "value"))
        seen = np.empty_like(hidden)
        for head in range(HEADS):
            part = slice(head * wide, (head + 1) * wide)
            alike = np.exp(query[:, part] @ key[:, part].T / math.sqrt(wide))
            seen[:, part] = alike / alike.sum(1, keepdims=True) @ value[:, part]
        hidden = normed(hidden + linear(seen, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm")
        inner = linear(hidden, f"{name}.intermediate.dense")
        inner = inner / 2 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
        hidden = normed(hidden + linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")
    one, other = hidden[np.array(segments) == 0].mean(0), hidden[np.array(segments) == 1].mean(0)
    product = one / np.linalg.norm(one) * other / np.linalg.norm(other)
    return float(np.concatenate([product, other]) @ by["head.weight"])


def test_the_exported_model_computes_what_plain_numpy_does() -> None:
    held = weights()
    session = onnxruntime.InferenceSession(cross_encoder(held).SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(5)
    ids, segments = rng.integers(1, WORDS, (4, TOKENS)), np.zeros((4, TOKENS), np.int64)
    sizes = [6, 4, 5, 3]
    mask = (np.arange(TOKENS) < np.array(sizes)[:, None]).astype(np.int64)
    segments[:, 2:] = 1
    segments, ids = segments * mask, ids * mask
    found = session.run(None, {"input_ids": ids, "attention_mask": mask, "token_type_ids": segments})[0]
    wanted = [logit(held, ids[at, :size].tolist(), segments[at, :size].tolist()) for at, size in enumerate(sizes)]
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def synset(lemma: str, sentence: str) -> Synset:
    """One meaning."""
    return Synset("noun", 3, (lemma, f"{lemma}let"), f"what {lemma} is", (sentence,))


def test_lessons_share_no_meaning_and_no_word_with_what_is_held_out() -> None:
    names = [f"w{number}" for number in range(40)]
    found = [synset(name, f"the {name} of it") for name in names]
    found.append(synset("w0", "another w0 here"))
    held_out = [Labelled("the w0 of it", "w0: the w0 of it", 0), Labelled("the w7 of it", "w7: the w7 of it", 7)]
    taught = teaching(found, held_out, 100, seed=1)
    assert {each.row for each in taught} == set(range(40)) - {0, 7}
    vectors = np.random.default_rng(2).standard_normal((len(found), 4)).astype(np.float32)
    made = lessons(found, vectors, taught, vectors[[each.row for each in taught]], seed=1)
    for label, lesson in zip(taught, made, strict=True):
        assert lesson.query in (label.sentence, label.with_lemma)
        assert lesson.passages[0] == found[label.row].text
        assert len(set(lesson.passages)) == 1 + OTHERS
    assert made == lessons(found, vectors, taught, vectors[[each.row for each in taught]], seed=1)
    assert rows(made)[OTHERS + 1][0] == made[1].query


@pytest.mark.parametrize(("place", "worth"), [(0, 1.0), (1, 1 / math.log2(3)), (9, 1 / math.log2(11)), (10, 0.0)])
def test_gain_falls_with_the_place_of_the_right_answer(place: int, worth: float) -> None:
    hits = list(range(20))
    assert gain(hits, hits[place]) == worth
    assert gain(hits, 99) == 0


def test_hits_are_read_again_in_the_order_of_their_scores() -> None:
    texts = ["aaa", "a", "aa"]
    assert read_again("q", [1, 0, 2], texts, lambda pairs: np.array([len(each) for _, each in pairs], np.float32)) == [
        0,
        2,
        1,
    ]
    assert read_again("q", [], texts, lambda pairs: np.empty(0, np.float32)) == []
