"""The data that collections are judged on: WordNet's lines, brute force, synthetic vectors."""

from __future__ import annotations

import numpy as np

from benchmarks.workloads.retrieval.embedding import MODEL, TOKENIZER, TOKENS_MAX, Encoder
from benchmarks.workloads.retrieval.vectors import clustered, exact
from benchmarks.workloads.retrieval.wordnet import Synset, labelled, parsed
from engine import Engine, Request, parse_spec
from tests.engine.encoders.small import texts_of
from tests.test_docs import ROOT

LINE = (
    "00005815 29 v 02 cough 0 clear_up(p) 1 001 @ 00004227 v 0000 01 + 02 00 "
    '| exhale abruptly; as when ill; "The patient coughs", "He coughed up"  '
)


def test_a_line_of_wordnet_becomes_words_a_definition_and_examples() -> None:
    found = parsed(LINE, "verb")
    examples = ("The patient coughs", "He coughed up")
    assert found == Synset("verb", 29, ("cough", "clear up"), "exhale abruptly; as when ill", examples)
    assert found.text == "cough, clear up: exhale abruptly; as when ill"


def test_sentences_with_a_word_of_what_they_show_are_labelled_with_its_row() -> None:
    examples = ("The patient coughs", "A B too", "That is ab")
    found = [Synset("noun", 3, ("thing",), "what is", ()), Synset("noun", 3, ("x y", "b"), "", examples)]
    assert [(each.row, each.sentence, each.with_lemma) for each in labelled(found, 10)] == [
        (1, "A B too", "x y: A B too")
    ]
    more = [*found, Synset("verb", 29, ("patient",), "", examples)]
    assert {each.row for each in labelled(more, 10)} == {1, 2}
    assert labelled(more, 10) == labelled(more, 10)
    assert len(labelled(more, 1)) == 1


def test_brute_force_in_slices_is_a_full_sort() -> None:
    vectors, queries = clustered(20_000, 9, 5)
    assert vectors.shape == (20_000, 9)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.array_equal(exact(vectors, queries, 7), np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :7])
    assert exact(vectors[:3], queries, 7).shape == (5, 3)


def test_the_encoder_that_serves_minilm_gives_what_plain_onnxruntime_and_numpy_give() -> None:
    reference = Encoder(ROOT / ".cache" / "retrieval")
    packages = ROOT / ".cache" / "retrieval" / "packages"
    spec = f"""
encoders:
  minilm: {{model: {packages / MODEL}, tokenizer: {packages / TOKENIZER}, encoding: {{tokens_max: {TOKENS_MAX}}}}}
"""
    texts = ["cough, clear up: exhale abruptly; as when ill", "", "Ünïcode 海", "tide " * 400]
    engine = Engine(parse_spec(spec, folder=ROOT))
    engine.start()
    try:
        assert "texts together equal texts one by one" in engine.describe("minilm", None).traits.batching
        found = engine.infer(Request("minilm", {"text": texts_of(texts)})).outputs["embedding"].array
    finally:
        engine.close()
    np.testing.assert_allclose(found, np.concatenate([reference.encode([each]) for each in texts]), atol=1e-5)
