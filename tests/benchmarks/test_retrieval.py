"""The data that collections are judged on: WordNet's lines, brute force, synthetic vectors."""

from __future__ import annotations

import numpy as np

from benchmarks.workloads.retrieval.vectors import clustered, exact
from benchmarks.workloads.retrieval.wordnet import Synset, labelled, parsed

LINE = (
    "00005815 29 v 02 cough 0 clear_up(p) 1 001 @ 00004227 v 0000 01 + 02 00 "
    '| exhale abruptly; as when ill; "The patient coughs", "He coughed up"  '
)


def test_a_line_of_wordnet_becomes_words_a_definition_and_examples() -> None:
    found = parsed(LINE, "verb")
    examples = ("The patient coughs", "He coughed up")
    assert found == Synset("verb", 29, ("cough", "clear up"), "exhale abruptly; as when ill", examples)
    assert found.text == "cough, clear up: exhale abruptly; as when ill"


def test_sentences_are_labelled_with_the_row_they_show() -> None:
    found = [Synset("noun", 3, ("thing",), "what is", ()), parsed(LINE, "verb")]
    labels = labelled(found, 10)
    assert {each.row for each in labels} == {1}
    assert sorted(each.sentence for each in labels) == ["He coughed up", "The patient coughs"]
    assert all(each.with_lemma == f"cough: {each.sentence}" for each in labels)
    assert labels == labelled(found, 10)


def test_brute_force_in_slices_is_a_full_sort() -> None:
    vectors, queries = clustered(20_000, 9, 5)
    assert vectors.shape == (20_000, 9)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.array_equal(exact(vectors, queries, 7), np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :7])
    assert exact(vectors[:3], queries, 7).shape == (5, 3)
