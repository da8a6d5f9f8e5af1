"""Drivers measure what they say, on few points: their recall is that of what they found, their times are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.vectors import drive_during, drive_filtered, drive_inprocess, drive_load
from benchmarks.vectors.places import cases, places, truths_of
from benchmarks.vectors.touched import touched
from benchmarks.workloads.retrieval.vectors import clustered, exact

ROWS, SIZE, QUERIES, K, SHARE, SEED = 3_000, 32, 12, 10, 0.2, 5


@pytest.fixture
def order(tmp_path: Path) -> dict[str, Any]:
    vectors, queries = clustered(ROWS, SIZE, QUERIES)
    final = touched(vectors, SHARE, SEED).final
    arrays: dict[str, npt.NDArray[Any]] = {"vectors": vectors, "queries": queries, "truth": exact(final, queries, K)}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    files = {name: str(tmp_path / f"{name}.npy") for name in arrays}
    return {**files, "share": SHARE, "k": K, "rounds": 2, "seed": SEED, "folder": str(tmp_path / "collection")}


def test_a_collection_that_was_touched_finds_what_bare_faiss_finds(order: dict[str, Any]) -> None:
    names = ["FAISS PQfs, refine f32", "FAISS PQfs, refine SQ8", "FAISS IVF,PQfs,RFlat"]
    more = {"candidates": [400], "efforts": [1, 2], "rivals": names, "lists": 4, "probed": [4]}
    told = drive_inprocess.drive({**order, **more})
    assert [each.who for each in told["curves"]] == ["Vireo", "Vireo, effort 2", *names[:2], f"{names[2]}, 4 lists"]
    for curve in told["curves"]:
        assert curve.points[0].recall > 0.9, curve.who
        assert curve.points[0].exactly_k == 1.0
        assert len(curve.points[0].rounds) == 2


def test_filters_find_what_brute_force_finds(order: dict[str, Any], tmp_path: Path) -> None:
    vectors, queries = np.load(order["vectors"]), np.load(order["queries"])
    of_points, of_queries = places(vectors, queries, SEED)
    columns = {"place": of_points, "chance": np.random.default_rng(SEED).permutation(ROWS) % 1_000}
    points = touched(vectors, SHARE, SEED)
    asked = [each for each in cases(of_queries, SEED) if each.share in (0.001, 0.5)]
    truths = truths_of(points.final, queries, {name: each[points.alive] for name, each in columns.items()}, asked, K)
    told = []
    for at, (case, truth) in enumerate(zip(asked, truths, strict=True)):
        np.save(tmp_path / f"bounds-{at}.npy", case.bounds)
        np.save(tmp_path / f"truth-{at}.npy", truth)
        files = {"bounds": str(tmp_path / f"bounds-{at}.npy"), "truth": str(tmp_path / f"truth-{at}.npy")}
        told.append({"kind": case.kind, "share": case.share, "column": case.column, **files})
    for name, column in columns.items():
        np.save(tmp_path / f"{name}.npy", column)
    more = {"columns": {name: str(tmp_path / f"{name}.npy") for name in columns}, "cases": told, "candidates": 400}
    found = drive_filtered.drive({**order, **more})["found"]
    assert [each["who"] for each in found] == ["Vireo", "FAISS"] * len(asked)
    for each in found:
        assert each["point"].exactly_k == 1.0
        assert each["point"].recall > 0.95
        assert (each["first_us"] is None) == (each["who"] == "FAISS")


def test_what_is_loaded_point_by_point_is_seen_by_the_next_search(order: dict[str, Any]) -> None:
    told = drive_load.drive({**order, "singles": 20})
    assert told["points"] == ROWS - 20
    assert told["seen"] == len(told["took_us"]) == 20


def test_searches_go_on_while_points_arrive_and_segments_merge(order: dict[str, Any]) -> None:
    phases = drive_during.drive(
        {**order, "rounds": 1, "searches_per_s": 500, "per_s": 100, "writers": 2, "seconds": 0.5}
    )
    assert [each["phase"] for each in phases] == ["quiet", "upserts", "upserts and a merge"]
    assert all(each["took_us"] for each in phases)
    assert [each["upserts"] > 0 for each in phases] == [False, True, True]
    assert phases[2]["merges"] > 0
