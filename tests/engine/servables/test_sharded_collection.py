"""A collection in shards, each an engine on a real broker: the answers of one process, or less where that is declared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from engine import (
    Answered,
    AnyFound,
    Deadline,
    DeploymentSpec,
    Engine,
    FailedPrecondition,
    NotFound,
    Request,
    ShardedCollection,
    ShardSpec,
    Spec,
    SpecError,
    Tensor,
    Unavailable,
    Unimplemented,
    parse_filter,
    parse_spec,
    shard_name,
)
from engine.declaration import TensorDeclaration
from engine.graph.declaration import GraphSpec, NodeSpec
from engine.log.declaration import KafkaLogSpec
from engine.servables.servable import RemoteCall
from engine.tensor import FP32
from engine.vectors.declaration import VectorSearchSpec, VectorStoreSpec
from engine.vectors.followed import FollowedCollection
from engine.vectors.query import (
    DenseLeg,
    Diversity,
    GroupBy,
    Query,
    RankFusion,
    RecommendLeg,
    ScoreFusion,
    SearchParams,
    SparseLeg,
    TextLeg,
)
from tests.engine.log.broker import Tansu, tansu
from tests.engine.servables.test_sharded_lookup import Way
from tests.engine.vectors.core import SPEC, points
from tests.serving.servers import eventually

PARTITIONS, SHARDS, PATIENCE_S = 5, 2, 30.0
QUERY = np.array([0.3, -0.2, 0.9, 0.1], np.float32)


class Waiting(Way):
    """Such a way, whose other end waits for a token as replicas do."""

    def send(
        self, request: Request, declared: str, answered: Answered, *, alone: bool, patient: bool = True
    ) -> RemoteCall:
        if request.after:
            self._engine.vectors.collection(request.model).reading(request.after, Deadline.NEVER)
        return super().send(request, declared, answered, alone=alone, patient=patient)


@dataclass(slots=True)
class Running:
    """The doors' engine, whose shards are engines at the ends of `ways`; `whole` follows all partitions."""

    door: Engine
    ways: list[Waiting]
    whole: FollowedCollection
    spec: Spec

    @property
    def collection(self) -> ShardedCollection:
        """As the doors have it."""
        found = self.door.vectors.collection("points")
        assert isinstance(found, ShardedCollection)
        return found

    def shown(self, token: dict[int, int]) -> tuple[ShardedCollection, FollowedCollection]:
        """Both, once they show a write."""
        deadline = Deadline.after(PATIENCE_S, self.door.clock())
        return self.collection.reading(token, deadline), self.whole.reading(token, deadline)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("sharded")
    with tansu() as broker:
        spec = _spec(broker, folder)
        parts = [spec.part("apart", ShardSpec(number, SHARDS)) for number in range(SHARDS)]
        shards = [_started(Engine(part)) for part in (*parts, parts[0])]  # a replica more of the first
        ways = [Waiting(each) for each in shards[:SHARDS]]
        links = {shard_name("apart", number, SHARDS): way for number, way in enumerate(ways)}
        door = _started(Engine(spec, links=links))
        whole = FollowedCollection("points", folder / "whole", spec.vectors.collections["points"])  # type: ignore[union-attr]
        assert whole.await_ready(PATIENCE_S)
        found = Running(door, ways, whole, spec)
        for reader in found.shown(dict(found.collection.upsert(points(range(300))).offsets or {})):
            assert reader.count() == 300
        yield found
        whole.close()
        for each in (door, *shards):
            each.close(0)
    assert {each.name for each in (folder / "collections" / "0-of-2").iterdir()} == {"0", "1"}, "a folder a replica"


def _spec(broker: Tansu, folder: Path) -> Spec:
    kafka = KafkaLogSpec(broker.address, broker.topic(PARTITIONS), format="arrow")
    return Spec(
        vectors=VectorStoreSpec("collections", {"points": replace(SPEC, kafka=kafka)}, fixed=True),
        searches={"near": VectorSearchSpec("points", 5, payload={"n": -1})},
        graphs={
            "page": GraphSpec(
                {"query": TensorDeclaration("FP32", (-1, 4))},
                {"found": NodeSpec("near", {"query": "query"})},
                {"ids": "found.ids"},
            )
        },
        placement={"apart": DeploymentSpec(("points",), shards=SHARDS, on_lost="partial")},
        folder=folder,
    )


def _started(engine: Engine) -> Engine:
    engine.start()
    eventually(lambda: engine.ready, "it answers", PATIENCE_S)
    return engine


@pytest.fixture
def lose(running: Running) -> Iterator[Callable[..., None]]:
    def at(*numbers: int) -> None:
        for number in numbers:
            running.ways[number].lost = Unavailable("deployment lost the call")

    yield at
    for each in running.ways:
        each.lost = None


def _told(found: AnyFound, *, ids: bool = True) -> list[object]:
    return [(each.id if ids else None, round(each.score, 5), each.group, dict(each.payload)) for each in found.hits]


DENSE = DenseLeg("v", QUERY)
OTHER = DenseLeg("v", np.array([-0.5, 0.4, 0.2, 0.6], np.float32))
SPARSE = SparseLeg("s", np.array([1, 3, 5], np.uint32), np.array([1.0, 0.5, 2.0], np.float32))
EXACT = SearchParams(exact=True)


@pytest.mark.parametrize(
    "query",
    [
        Query((DENSE,), 10, payload=("n", "tag"), vectors=("v",)),
        Query((DENSE,), 7, offset=5),
        Query((DENSE,), 50, score_threshold=1.5),
        Query((DENSE,), 400),
        Query((SPARSE,), 400),
        Query((DENSE, OTHER), 10, offset=2, payload=("n",)),
        Query((DENSE, OTHER), 10, fusion=RankFusion(k=5, weights=(2.0, 1.0)), score_threshold=0.05),
        Query((DENSE, OTHER), 10, fusion=ScoreFusion(depth=30)),
        Query((DENSE,), 3, group_by=GroupBy("tag"), payload=("tag",)),
        Query((RecommendLeg("v", (3, 4), (5,)),), 10),
        Query((DENSE,), 8, offset=1, diversity=Diversity("v", 0.4), payload=("n",)),
        Query((DENSE, OTHER), 8, diversity=Diversity("v", candidates=40), vectors=("v",)),
    ],
)  # fmt: skip
def test_the_answer_is_that_of_one_process(running: Running, query: Query) -> None:
    query = replace(query, params=EXACT)
    found, wanted = running.collection.search(query), running.whole.search(query)
    assert len(found) == len(wanted) > 0
    assert [each[1:] for each in _told(found, ids=False)] == [each[1:] for each in _told(wanted, ids=False)]  # type: ignore[index]
    assert set(map(str, _told(found))) == set(map(str, _told(wanted)))
    for hit, other in zip(found.hits, wanted.hits, strict=True):
        assert hit.vectors.keys() == other.vectors.keys()
    assert found.missing == ()


def test_a_filter_and_many_searches_at_once_are_answered_so_too(running: Running) -> None:
    filter_ = parse_filter({"must": [{"key": "tag", "match": {"value": "t1"}}]}, running.collection.spec)
    queries = [Query((DenseLeg("v", QUERY * each),), 4, filter=filter_, params=EXACT) for each in (1, -1, 2)]
    found, wanted = running.collection.search_many(queries), running.whole.search_many(queries)
    assert [_told(each) for each in found] == [_told(each) for each in wanted]
    assert running.collection.count(filter_) == running.whole.count(filter_)
    explained = running.collection.search(queries[0], explain=True)
    assert {each.partition(":")[0] for each in explained.plans} == {"apart-0-of-2", "apart-1-of-2"}


def test_points_are_found_by_their_ids_and_page_by_page(running: Running) -> None:
    asked = [250, 3, 999_999, 17, 3]
    both = (running.collection, running.whole)
    hits = ([(hit.id, dict(hit.payload)) for hit in each.get(asked, payload=("n",))] for each in both)
    first, second = hits
    assert first == second
    assert [each for each, _ in first] == [250, 3, 17]
    for limit in (7, 100, 299, 300, 301):
        pages = [each.scroll(limit=limit, after=None) for each in both]
        assert [hit.id for hit in pages[0][0]] == [hit.id for hit in pages[1][0]]
        assert pages[0][1] == pages[1][1]
    assert running.collection.info().points == 300


def test_a_read_with_the_token_of_a_write_shows_it(running: Running) -> None:
    for number in range(10):
        written = running.collection.upsert(points(range(1000, 1040), number))
        here, _ = running.shown(dict(written.offsets or {}))
        assert [hit.payload["n"] for hit in here.get(range(1000, 1040), payload=("n",))] == [number] * 40
    gone = running.collection.delete(range(1000, 1040))
    here, whole = running.shown(dict(gone.offsets or {}))
    assert here.count() == whole.count() == 300


def test_a_lost_shard_is_left_out_of_searches_and_told_and_fails_what_must_be_whole(
    running: Running, lose: Callable[..., None]
) -> None:
    query = Query((DENSE,), 300, params=EXACT)
    near = Request("near", {"query": Tensor(FP32, QUERY.reshape(1, 4))})
    assert running.door.infer(near).marks == ()
    lose(1)
    found = running.collection.search(query)
    assert found.missing == ("apart-1-of-2",)
    assert 0 < len(found) < 300
    answer = running.door.infer(near)
    assert answer.marks == ("missing: apart-1-of-2",)
    assert running.door.infer(replace(near, model="page")).marks == ("found/missing: apart-1-of-2",)
    assert answer.outputs["count"].array.tolist() == [5]
    for whole in (running.collection.count, running.collection.scroll, lambda: running.collection.get(range(50))):
        with pytest.raises(Unavailable, match="lost the call"):
            whole()
    assert running.collection.info().problem == "deployment lost the call"
    lose(0)
    with pytest.raises(Unavailable, match="collection 'points': no shard answers: deployment lost the call"):
        running.collection.search(query)


def test_what_cannot_be_merged_or_changed_is_refused(running: Running) -> None:
    for told, query in (
        ("group_by", Query((DENSE,), 3, group_by=GroupBy("tag", 2))),
        ("k", Query((DENSE, TextLeg("body", "word1")), 5_000)),
    ):
        with pytest.raises(Unimplemented, match=f"^{told}: .*over shards"):
            running.collection.search(query)
    with pytest.raises(NotFound, match="example 999999"):
        running.collection.search(Query((RecommendLeg("v", (999_999,)),), 3))
    with pytest.raises(Unimplemented, match="'points': its points are in shards"):
        running.collection.export()
    with pytest.raises(FailedPrecondition, match="are in shards, and are what the spec says"):
        running.door.vectors.drop("points")


BROKEN = """
vectors:
  path: collections
  fixed: FIXED
  collections:
    one: {vectors: {v: {size: 4}}, kafka: {bootstrap_servers: 'a:1', topic: one, format: arrow}}
    two: {vectors: {v: {size: 4}}}
placement:
  apart: {serves: [SERVED], shards: 2}
"""


@pytest.mark.parametrize(
    ("fixed", "served", "told"),
    [
        ("true", "one", "collections.two: is in no deployment with 'shards', and others are"),
        ("true", "one, two", "'two' cannot have shards: its log is one process's folder"),
        ("false", "one, two", "vectors.fixed: must be true"),
        ("true", "three", "'three' is no feature view or collection"),
    ],
)
def test_a_spec_says_what_keeps_collections_from_shards(fixed: str, served: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=told):
        parse_spec(BROKEN.replace("FIXED", fixed).replace("SERVED", served), folder=tmp_path)


def test_doors_to_shards_may_be_several(tmp_path: Path) -> None:
    text = BROKEN.replace("FIXED", "true").replace("SERVED", "one").replace("    two: {vectors: {v: {size: 4}}}\n", "")
    text += "  ingress: {replicas: 2}\n"
    assert parse_spec(text, folder=tmp_path).placement["ingress"].replicas == 2
    with pytest.raises(SpecError, match="several replicas cannot share the folders of 'vectors'"):
        parse_spec(text.replace("  apart: {serves: [one], shards: 2}\n", ""), folder=tmp_path)
