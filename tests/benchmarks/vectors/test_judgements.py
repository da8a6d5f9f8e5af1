"""What is promised of collections is judged by the quickest rival, and by no quick run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.features.part import Setting
from benchmarks.vectors.curve import Curve, Point, Times
from benchmarks.vectors.hybrid import BARS, Hybrid
from benchmarks.vectors.hybrid import judgements as of_hybrid
from benchmarks.vectors.inprocess import faiss_judgements, library_judgements

SETTING = Setting(Path(), Path(), Path(), quick=False, seed=1)


def curve(who: str, recall: float, cpu_us: float) -> Curve:
    return Curve(who, [Point(1, recall, 1.0, [Times(cpu_us, cpu_us, cpu_us, cpu_us)])])


def test_the_quickest_of_faiss_that_finds_enough_is_what_counts() -> None:
    curves = [
        curve("Vireo", 0.97, 100),
        curve("FAISS a", 0.96, 90),
        curve("FAISS b", 0.96, 70),
        curve("FAISS c", 0.5, 1),
    ]
    at_95, at_99 = faiss_judgements(SETTING, "points", curves)
    assert (at_95.kept, at_95.said[:6]) == (False, "0.70 x")
    assert (at_99.kept, at_99.said) == (False, "not reached at any setting")
    assert faiss_judgements(SETTING, "points", curves[:2])[0].kept
    assert faiss_judgements(SETTING, "points", [*curves, curve("Vireo, effort 0.5", 0.955, 80)])[0].said[:6] == "0.88 x"
    assert faiss_judgements(replace(SETTING, quick=True), "points", curves)[0].kept is None


def test_a_library_that_does_not_find_enough_is_behind() -> None:
    others = [curve("a", 0.96, 90), curve("b", 0.9, 1)]
    judged = library_judgements(SETTING, curve("Vireo", 0.97, 100), others)
    assert [each.kept for each in judged] == [False, True, False, False]


def test_default_fusion_is_judged_beside_its_better_leg() -> None:
    recall = {"vectors": 0.7, "words": 0.8, "RRF, default": 0.79}
    found = [Hybrid("Vireo", query, by, each, 0.5, 1.0, 1.0, 1.0) for query in BARS for by, each in recall.items()]
    assert [each.kept for each in of_hybrid(found)] == [True, False, False, False]
