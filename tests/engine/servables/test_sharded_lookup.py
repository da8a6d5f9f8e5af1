"""A lookup over shards: whole, or in part where one is lost and the spec says so."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from engine import (
    Answered,
    Deadline,
    Described,
    Engine,
    InvalidArgument,
    LanguageLink,
    LinkCall,
    Request,
    Response,
    Unavailable,
    VireoError,
    monotonic,
)
from engine.features.sharded_view import ShardedView
from engine.features.store import FeatureStore
from engine.log.sharding import rows_by_shard
from engine.servables.linked import Linked
from engine.servables.servable import RemoteCall
from engine.servables.sharded_lookup import ShardedLookup
from tests.engine.features.running import START_US, Running, row, running

CARDS = [f"card-{number}" for number in range(12)]
PARTITIONS, SHARDS = 8, 3


class Way:
    """A link to an engine in this process; `lost` is what its calls fail with instead, `silent`: they are never answered."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.lost: VireoError | None = None
        self.silent = False
        self.asked: list[Request] = []
        self.cancelled = 0

    @property
    def languages(self) -> LanguageLink:
        raise NotImplementedError

    def describe(self, name: str, version: int, declared: str | None = None) -> Described:
        return Described(self._engine.describe(name, version).signature, streams=False)

    def send(
        self, request: Request, declared: str, answered: Answered, *, alone: bool, patient: bool = True
    ) -> RemoteCall:
        self.asked.append(request)
        if not self.silent:
            answered(self.lost or self._engine.infer(request))
        return self

    def flush(self) -> None:
        pass

    def begin(self, request: Request, *, stream: bool) -> LinkCall:
        raise NotImplementedError

    def cancel(self) -> None:
        self.cancelled += 1


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """All cards in one engine: each shard answers from it, so the joined answer must be its own."""
    with running(tmp_path_factory.mktemp("whole")) as found:
        found.push(*(row(number, CARDS[number % 11]) for number in range(40)))  # the last card has none
        yield found


def _sharded(whole: Running, *, partial: bool = False) -> tuple[ShardedLookup, ShardedView, list[Way]]:
    local = whole.view()
    view = ShardedView(local.view, local.entity_type, whole.engine.infer)
    ways = [Way(whole.engine) for _ in range(SHARDS)]
    shards = [
        Linked("spending", 1, f"s{at}", way, view.tensors.signature, monotonic, "") for at, way in enumerate(ways)
    ]
    lookup = ShardedLookup(
        view, shards, partitions=PARTITIONS, partial=partial, store=FeatureStore(), clock=monotonic
    )  # fmt: skip
    return lookup, view, ways


def _request(view: ShardedView, cards: list[str]) -> Request:
    now = pa.array(np.arange(len(cards), dtype=float))
    return view.request(pa.array(cards), as_of_us=START_US + 10**7, request={"now_amount": now})


def test_the_joined_answer_is_that_of_one_process_in_the_order_asked(whole: Running) -> None:
    lookup, view, ways = _sharded(whole)
    for cards in (CARDS[::-1], CARDS[:1], [CARDS[3]] * 4):
        request = _request(view, cards)
        found = view.rows(Response("spending", 1, lookup.execute(request.inputs, ()), None))  # type: ignore[arg-type]
        wanted = whole.view().lookup(
            pa.array(cards),
            as_of_us=START_US + 10**7,
            request={"now_amount": pa.array(np.arange(len(cards), dtype=float))},
        )
        assert np.array_equal(found.values, wanted.values, equal_nan=True)
        assert (found.texts, found.status.tolist()) == (wanted.texts, wanted.status.tolist())
        assert found.event_time_us.tolist() == wanted.event_time_us.tolist()
    assert all(way.asked for way in ways)


def test_a_lost_shard_fails_the_lookup_or_is_told_by_entity(whole: Running) -> None:
    mine = rows_by_shard(pa.array(CARDS), PARTITIONS, SHARDS)[1]
    lookup, view, ways = _sharded(whole)
    ways[1].lost = Unavailable("deployment 's1' lost the call")
    with pytest.raises(Unavailable, match="'s1' lost"):
        lookup.execute(_request(view, CARDS).inputs, ())
    lookup, view, ways = _sharded(whole, partial=True)
    ways[1].lost = Unavailable("deployment 's1' lost the call")
    inputs = _request(view, CARDS).inputs
    found = lookup.execute(inputs, ("status", "features"))
    assert set(found) == {"status", "features"}
    assert np.flatnonzero(found["status"].array == 3).tolist() == mine.tolist()
    assert np.isnan(found["features"].array[mine]).all()
    ways[1].lost = InvalidArgument("no such thing")
    with pytest.raises(InvalidArgument, match="no such thing"):
        lookup.execute(inputs, ())


def test_a_view_that_was_to_replace_another_and_failed_leaves_it(whole: Running) -> None:
    store, spec = whole.engine.features, whole.engine.spec.feature_views["spending"]
    first, partitions = store.show_sharded("spending", spec)
    second, _ = store.show_sharded("spending", spec)
    assert (store.shown("spending"), partitions) == (second, 1)
    store.show_no_more(second)
    assert store.shown("spending") is first
    store.show_no_more(first)
    assert store.shown("spending") is whole.view()


def test_columns_are_chosen_and_what_is_unknown_is_refused_here(whole: Running) -> None:
    _, view, _ = _sharded(whole)
    rows = view.lookup(pa.array(CARDS[:2]), as_of_us=START_US + 10**7, features=["last_shop", "n"])
    assert (rows.names, rows.values[:, 1].tolist()) == (("last_shop", "n"), [4.0, 4.0])
    assert len(view.lookup(pa.array([], pa.string())).status) == 0
    with pytest.raises(InvalidArgument, match="has no feature 'm'; known: "):
        view.lookup(pa.array(CARDS[:1]), features=["m"])
    with pytest.raises(InvalidArgument, match="has no request input 'now'; "):
        view.request(pa.array(CARDS[:1]), request={"now": pa.array([1.0])})
    assert view.request(pa.array(CARDS[:1]), after={}, deadline=Deadline.NEVER).after is None


def test_who_leaves_calls_off_every_shard_and_one_failure_calls_off_the_others(whole: Running) -> None:
    lookup, view, ways = _sharded(whole)
    for way in ways:
        way.silent = True
    request = _request(view, CARDS)
    outcomes: list[object] = []
    lookup.send(request, Deadline.NEVER.at_ns, lambda outcome, stages=(): outcomes.append(outcome)).cancel()
    assert [way.cancelled for way in ways] == [1, 1, 1]
    ways[2].silent, ways[2].lost = False, Unavailable("gone")
    lookup.send(request, Deadline.NEVER.at_ns, lambda outcome, stages=(): outcomes.append(outcome))
    assert outcomes == [ways[2].lost]
    assert [way.cancelled for way in ways] == [2, 2, 2]


def test_each_shard_gets_the_offsets_of_its_partitions_and_in_part_less_time_than_there_is(whole: Running) -> None:
    lookup, view, ways = _sharded(whole, partial=True)
    request = _request(view, CARDS)
    request.after = {0: 1, 3: 1, 5: 2}
    until_ns = monotonic() + 10**11
    for way in ways:
        way.silent = True
    lookup.send(request, until_ns, lambda outcome, stages=(): None)
    assert [way.asked[0].after for way in ways] == [{0: 1, 3: 1}, None, {5: 2}]
    assert {way.asked[0].deadline.at_ns for way in ways} == {until_ns - 20_000_000}
