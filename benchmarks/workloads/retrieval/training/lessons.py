"""What a cross-encoder learns from: example sentences, each with the text of the meaning it shows, and texts mistaken for it.

Held out is whatever is asked in the end: its sentences, its meanings, and every meaning that shares a word with one of them.
"""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.workloads.retrieval.embedding import Floats
from benchmarks.workloads.retrieval.vectors import exact
from benchmarks.workloads.retrieval.wordnet import Labelled, Synset, labelled

OTHERS = 3
"""Mistaken texts beside the right one."""
NEAR = 40
"""Mistaken texts are drawn of so many nearest vectors; the others have a word of the sentence."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A query, and passages of which the first is right."""

    query: str
    passages: tuple[str, ...]


def teaching(found: Sequence[Synset], held_out: Sequence[Labelled], count: int, *, seed: int) -> list[Labelled]:
    """`count` labelled sentences at random that have nothing in common with those held out: no meaning, no word."""
    words = {lemma.lower() for each in held_out for lemma in found[each.row].lemmas}
    everything = labelled(list(found), len(found), seed=seed)
    free = [each for each in everything if not words & {lemma.lower() for lemma in found[each.row].lemmas}]
    return free[:count]


def lessons(
    found: Sequence[Synset], vectors: Floats, labels: Sequence[Labelled], asked: Floats, *, seed: int
) -> list[Lesson]:
    """One of each label. `vectors` [n, d] of `found`; `asked` [m, d] of the labels' sentences. Half of the queries begin with the
    word, as half of those asked in the end do."""
    near, drawing = exact(vectors, asked, NEAR), random.Random(seed)
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, each in enumerate(found):
        for lemma in each.lemmas:
            rows_of[lemma.lower()].append(row)
    return [_lesson(found, label, near[at].tolist(), rows_of, drawing) for at, label in enumerate(labels)]


def _lesson(
    found: Sequence[Synset], label: Labelled, near: list[int], rows_of: dict[str, list[int]], drawing: random.Random
) -> Lesson:
    shared = {row for word in label.sentence.lower().split() for row in rows_of.get(word.strip(".,;!?'\""), ())}
    mistaken = [row for row in near if row != label.row]
    chosen = drawing.sample(mistaken, (OTHERS + 1) // 2)
    worded = sorted((shared | set(rows_of[found[label.row].lemmas[0].lower()])) - {label.row, *chosen})
    chosen += drawing.sample(worded, min(OTHERS - len(chosen), len(worded)))
    chosen += drawing.sample([row for row in mistaken if row not in chosen], OTHERS - len(chosen))
    query = label.with_lemma if drawing.random() < 0.5 else label.sentence
    return Lesson(query, tuple(found[row].text for row in (label.row, *chosen)))


def rows(lesson: Sequence[Lesson]) -> list[tuple[str, str]]:
    """Pairs, those of a lesson after each other."""
    return [(each.query, passage) for each in lesson for passage in each.passages]


def in_order_of_length(count: int, lengths: Sequence[int], batch: int, *, seed: int) -> list[list[int]]:
    """Places 0 to `count` in batches of alike lengths, the batches shuffled: little is padding."""
    drawing = np.random.default_rng(seed)
    order = np.argsort(np.asarray(lengths) + drawing.random(count), kind="stable")
    batches = [order[begin : begin + batch].tolist() for begin in range(0, count, batch)]
    drawing.shuffle(batches)
    return batches
