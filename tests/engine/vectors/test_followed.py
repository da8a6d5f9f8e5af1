"""A collection that follows a topic of a real broker: the answers of one with a log of its own, wherever it begins."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from engine import Deadline, DeadlineExceeded, Unavailable, Unimplemented, fingerprint_of
from engine.log.declaration import KafkaLogSpec
from engine.vectors.collection import Collection
from engine.vectors.declaration import CollectionSpec, PublishedSpec
from engine.vectors.entries import entry
from engine.vectors.filter import Filter, HasId
from engine.vectors.followed import FollowedCollection
from engine.vectors.query import DenseLeg, GroupBy, Leg, Query, SearchParams, TextLeg
from engine.vectors.rows import UPSERT
from tests.engine.log.broker import Tansu, tansu
from tests.engine.vectors.core import OWNED, SPEC, points
from tests.serving.servers import eventually

PARTITIONS = 5
PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def broker() -> Iterator[Tansu]:
    with tansu() as found:
        yield found


def on_topic(broker: Tansu, spec: CollectionSpec = SPEC, store: Path | None = None) -> CollectionSpec:
    """`spec`, its log a new topic."""
    kafka = KafkaLogSpec(broker.address, broker.topic(PARTITIONS), format="arrow")
    snapshot = None if store is None else PublishedSpec(f"file://{store}", every="1s")
    return replace(spec, kafka=kafka, snapshot=snapshot)


def followed(folder: Path, spec: CollectionSpec) -> FollowedCollection:
    """Open, and as far as its topic."""
    found = FollowedCollection("points", folder, spec)
    assert found.await_ready(PATIENCE_S), found.problem
    return found


def everything(collection: Collection | FollowedCollection) -> list[object]:
    """What it has and finds."""
    found, _ = collection.scroll(limit=1000, payload=tuple(collection.spec.fields))
    answers: list[object] = [(each.id, dict(each.payload)) for each in found]
    source = np.random.default_rng(7)
    legs = [DenseLeg("v", source.standard_normal(4).astype(np.float32)) for _ in range(5)]
    return [*answers, *(scores(collection, each) for each in legs)]


def scores(collection: Collection | FollowedCollection, leg: Leg) -> list[float]:
    """Of the best hits, without an index."""
    found = collection.search(Query((leg,), 10, params=SearchParams(exact=True)))
    return [round(hit.score, 5) for hit in found.hits]


def test_it_answers_as_a_collection_with_a_log_of_its_own_and_after_a_restart_too(
    broker: Tansu, tmp_path: Path
) -> None:
    spec, source = on_topic(broker), random.Random(1)
    collection = followed(tmp_path / "followed", spec)
    with Collection("points", tmp_path / "plain", SPEC) as plain:
        assert collection.upsert(points(range(200))).count == plain.upsert(points(range(200))).count
        words = TextLeg("body", "word1 common")
        assert scores(collection, words) == scores(plain, words), (
            "statistics are of all partitions, while nothing is dead"
        )
        for number in range(30):
            some = source.sample(range(200), 17)
            if number % 3:
                batch = points(some, number)
                assert collection.upsert(batch).count == plain.upsert(batch).count
            else:
                assert collection.delete(some).count == plain.delete(some).count
        assert collection.wait_indexed(PATIENCE_S)
        assert everything(collection) == everything(plain)
        wanted = source.sample(range(200), 40)
        hits = (each.get(wanted, payload=("n",), vectors=("v",)) for each in (collection, plain))
        first, second = ([(hit.id, dict(hit.payload), hit.vectors["v"].tolist()) for hit in each] for each in hits)
        assert first == second
        grouped = Query((DenseLeg("v", np.ones(4, np.float32)),), 3, group_by=GroupBy("tag", 4))
        assert [hit.score for hit in collection.search(grouped).hits] == [
            hit.score for hit in plain.search(grouped).hits
        ]
        answers = everything(plain)
    for _ in range(2):
        collection.close()
        collection = followed(tmp_path / "followed", spec)
        assert everything(collection) == answers
    assert collection.info().points == collection.count()
    collection.close()
    collection = followed(tmp_path / "elsewhere", spec)  # from the first entry of the topic
    assert everything(collection) == answers
    collection.close()


def test_who_comes_elsewhere_begins_with_the_published_snapshot(broker: Tansu, tmp_path: Path) -> None:
    spec = on_topic(broker, store=tmp_path / "store")
    collection = followed(tmp_path / "one", spec)
    collection.upsert(points(range(100)))
    collection.delete(range(20))
    pointers = (tmp_path / "store").glob
    eventually(lambda: len([*pointers("*.newest")]) == PARTITIONS, "every partition is published", PATIENCE_S)
    answers = everything(collection)
    collection.close()
    other = followed(tmp_path / "two", spec)
    assert everything(other) == answers
    assert other.info().replay_from == other.info().offset, "it read the topic"
    other.upsert(points([1], n=5))
    assert other.get([1], payload=("n",))[0].payload == {"n": 5}
    other.close()


def test_a_damaged_snapshot_is_passed_over_where_the_topic_keeps_enough(
    broker: Tansu, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = on_topic(broker, store=tmp_path / "store")
    collection = followed(tmp_path / "one", spec)
    collection.upsert(points(range(100)))
    pointers = (tmp_path / "store").glob
    eventually(lambda: len([*pointers("*.newest")]) == PARTITIONS, "every partition is published", PATIENCE_S)
    answers = everything(collection)
    collection.close()
    whole, torn = sorted((tmp_path / "store").glob("*.tar"))[:2]
    whole.write_bytes(whole.read_bytes().replace(b"common", b"c0mm0n"))
    torn.write_bytes(torn.read_bytes()[:700])
    other = followed(tmp_path / "two", spec)
    assert everything(other) == answers
    assert caplog.text.count("it goes on from 0") == 2
    other.close()


def test_a_state_from_past_the_end_of_the_topic_is_refused(broker: Tansu, tmp_path: Path) -> None:
    spec = on_topic(broker, store=tmp_path / "store")
    collection = followed(tmp_path / "one", spec)
    for number in range(5):
        collection.upsert(points(range(100), number))
    pointers = (tmp_path / "store").glob
    eventually(lambda: len([*pointers("*.newest")]) == PARTITIONS, "every partition is published", PATIENCE_S)
    collection.close()
    assert spec.kafka is not None
    anew = replace(spec, kafka=replace(spec.kafka, topic=broker.topic(PARTITIONS)))
    for each in (tmp_path / "store").iterdir():  # as if the topic had been made anew under its name
        prefix = each.name.partition("-")[0]
        content = each.read_bytes().replace(prefix.encode(), _prefix(anew).encode())
        each.with_name(each.name.replace(prefix, _prefix(anew))).write_bytes(content)
    for folder in ("one", "two"):
        refused = FollowedCollection("points", tmp_path / folder, anew)
        assert not refused.await_ready(PATIENCE_S)
        with pytest.raises(Unavailable, match="past the end of its topic"):
            refused.count()
        refused.close()


def _prefix(spec: CollectionSpec) -> str:
    """Of its snapshots."""
    assert spec.kafka is not None
    return fingerprint_of(("points", spec.kafka.topic))


def test_a_read_with_a_token_waits_for_what_another_wrote(broker: Tansu, tmp_path: Path) -> None:
    spec = on_topic(broker)
    writer, reader = followed(tmp_path / "one", spec), followed(tmp_path / "two", spec)
    for number in range(20):
        written = writer.upsert(points(range(number, number + 10), number))
        reading = reader.reading(written.offsets or {}, Deadline.NEVER)
        assert [hit.payload for hit in reading.get([number], payload=("n",))] == [{"n": number}]
    with pytest.raises(DeadlineExceeded, match="does not show yet what comes before 0:9999"):
        reader.reading({0: 9999}, Deadline.after(0.05, reader._clock()))
    writer.close()
    reader.close()


def test_tenants_see_their_own_points_alone(broker: Tansu, tmp_path: Path) -> None:
    collection = followed(tmp_path, on_topic(broker, OWNED))
    for tenant, n in (("a", 1), ("b", 2)):
        collection.upsert(points([1, 2, 3], n, OWNED), tenant=tenant)
    collection.delete([1], tenant="a")
    assert [collection.count(tenant=each) for each in ("a", "b")] == [2, 3]
    assert [hit.payload["n"] for hit in collection.get([1, 2], payload=("n",), tenant="b")] == [2, 2]
    collection.close()


def test_a_row_that_is_none_is_left_out_alone(broker: Tansu, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    collection = followed(tmp_path, on_topic(broker))
    rows = entry(UPSERT, points(range(9)))
    vectors = rows.column("vector.v").to_pylist()
    vectors[4] = [float("nan")] * 4
    at = rows.schema.get_field_index("vector.v")
    broken = rows.set_column(at, rows.schema.field(at), pa.array(vectors, rows.schema.field(at).type))
    offsets = collection._log().append(broken).offsets
    strange = rows.set_column(0, rows.schema.field(0), pa.array([7] * 9, pa.int8()))
    offsets |= collection._log().append(strange).offsets
    shown = collection.reading(offsets, Deadline.after(PATIENCE_S, collection._clock()))
    assert [hit.id for hit in shown.scroll(limit=20)[0]] == [0, 1, 2, 3, 5, 6, 7, 8]
    assert "(id 4): vector 'v'" in caplog.text
    assert "9 rows" not in caplog.text
    assert "neither 0 (upsert) nor 1 (delete)" in caplog.text
    collection.close()


def test_what_would_read_before_it_writes_is_refused(broker: Tansu, tmp_path: Path) -> None:
    collection = followed(tmp_path, on_topic(broker))
    for refused in (
        lambda: collection.delete_matching(Filter.of(HasId((1,)), collection.spec)),
        lambda: collection.set_payload({"n": 1}, ids=[1]),
        lambda: collection.clear_payload(ids=[1]),
        lambda: collection.snapshot(tmp_path / "snapshot"),
    ):
        with pytest.raises(
            Unimplemented, match="collection 'points': its log is on Kafka, where others write too; it "
        ):
            refused()
    collection.close()
