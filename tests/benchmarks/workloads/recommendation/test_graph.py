"""The list that is served is the one that plain numpy makes of the same shop, for users that are known, in part, or new."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from benchmarks.workloads.recommendation import application
from benchmarks.workloads.recommendation.application import SLATE
from benchmarks.workloads.recommendation.served import running
from engine import Engine, Response, load_spec
from engine.log.local import LocalLog
from tests.benchmarks.workloads.recommendation.small import NOW_US, RATERS, USERS, Shop, application_at
from tests.engine.graph.recording import kept


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop(seed=5)


@pytest.fixture(scope="module")
def engine(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    served = application_at(tmp_path_factory.mktemp("shop"), shop)
    with running(load_spec(served.spec)) as engine:
        shop.fill(engine)
        assert engine.ready, engine.problems()
        yield engine


def ask(engine: Engine, shop: Shop, user: int, region: int, seen: list[int]) -> Response:
    return application.ask(engine, user, region, shop.history(user), np.array(seen, np.int64), NOW_US, id_=f"u{user}")


@pytest.mark.parametrize(
    ("user", "region"),
    [(0, 3), (7, 0), (RATERS - 1, 9), (RATERS + 2, 5), (USERS - 1, 4)],
    ids=["a user", "another", "a third", "who rated nothing", "of whom nothing is known"],
)
def test_the_served_list_is_that_of_plain_numpy(engine: Engine, shop: Shop, user: int, region: int) -> None:
    seen = shop.item[shop.user == user].tolist()
    expected = shop.listed(user, region, seen)
    found = {name: each.array for name, each in ask(engine, shop, user, region, seen).outputs.items()}
    assert len(expected.items) == SLATE
    assert found["item"].tolist() == expected.items
    np.testing.assert_allclose(found["score"], expected.scores, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found["retrieval"], expected.retrieval, rtol=1e-5, atol=1e-5)
    assert [[each.decode() for each in row] for row in found["reasons"].tolist()] == expected.reasons
    assert not set(found["item"].tolist()) & set(seen)
    _, counts = np.unique(shop.shelf.category[found["item"] - 1], return_counts=True)
    assert counts.max() <= 5


def test_what_a_user_rates_counts_in_the_next_list(engine: Engine, shop: Shop) -> None:
    before = ask(engine, shop, 4, 2, []).outputs["score"].array
    shop.rate(engine, [4], [17], [NOW_US - 1], [5.0])
    expected = shop.listed(4, 2, [])
    found = ask(engine, shop, 4, 2, []).outputs
    assert found["item"].array.tolist() == expected.items
    np.testing.assert_allclose(found["score"].array, expected.scores, rtol=0, atol=1e-6)
    assert not np.allclose(before, expected.scores)


def test_who_has_seen_everything_gets_an_empty_list(engine: Engine, shop: Shop) -> None:
    found = ask(engine, shop, 6, 2, shop.shelf.number.tolist()).outputs
    assert {name: each.array.shape for name, each in found.items()} == {
        "item": (0,), "score": (0,), "retrieval": (0,), "reasons": (0, 2), "effects": (0, 2)
    }  # fmt: skip


def test_what_is_shown_is_recorded_with_its_place(engine: Engine, shop: Shop) -> None:
    shown = ask(engine, shop, 3, 1, []).outputs
    until = time.monotonic() + 30
    while not (rows := [each for each in _impressions(engine) if each["request"] == "u3"]):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert [each["item"] for each in rows] == shown["item"].array.tolist()
    assert [each["position"] for each in rows] == list(range(1, SLATE + 1))
    assert {each["user"] for each in rows} == {3}


def _impressions(engine: Engine) -> list[dict[str, Any]]:
    log = engine.features._named("impressions").log
    assert isinstance(log, LocalLog)
    return kept(log)
