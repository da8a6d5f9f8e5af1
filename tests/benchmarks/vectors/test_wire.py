"""What is asked over the wire, how a setting is chosen, and what is promised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.features.part import Setting
from benchmarks.vectors.wire import CALLERS, OURS, RECALL, THEIRS, Asked, judgements, least_of, search_request

SETTING = Setting(Path(), Path(), Path(), quick=False, seed=1)


def asked(who: str, p99_ms: float, cpu_ms: float) -> list[Asked]:
    return [Asked(who, 40, 0.96, callers, 1.0, 1.0, p99_ms, cpu_ms) for callers in CALLERS]


def test_a_query_travels_as_it_lies_in_memory() -> None:
    query = np.arange(4, dtype=np.float32)
    request = search_request(query, 32)
    assert np.array_equal(np.frombuffer(request.vector.packed, "<f4"), query)
    assert (request.k, request.candidates) == (10, 32)


def test_the_least_thorough_setting_that_finds_enough_is_taken() -> None:
    tried: list[int] = []
    truth = np.arange(200, dtype=np.int64).reshape(20, 10)

    def find(setting: int) -> npt.NDArray[np.int64]:
        tried.append(setting)
        return np.where(np.arange(10) < setting, truth, -1)

    assert least_of((8, 10, 12), find, truth) == (10, 1.0)
    assert tried == [8, 10]
    last, recall = least_of((1, 2), find, truth)
    assert last == 2
    assert recall == pytest.approx(0.2)
    assert RECALL > 0.8


def test_p99_is_judged_beside_the_rivals_and_cpu_at_most_callers() -> None:
    found = [*asked(OURS, 2.0, 0.2), *asked(THEIRS, 3.0, 0.1)]
    assert [each.kept for each in judgements(SETTING, found)] == [False, True, True]
    assert [each.kept for each in judgements(SETTING, asked(OURS, 2.0, 0.1))] == [True]
