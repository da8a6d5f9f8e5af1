"""Views over a real broker: every entry folded once, across restarts, members that are killed, and a broker that goes away."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

from engine import Engine, VireoError, parse_spec
from tests.engine.features.running import START_US, VIEW, batch, row
from tests.engine.log.broker import Cut, Tansu, make_topic, tansu

pytest.importorskip("confluent_kafka")
CARDS = tuple(f"c{number}" for number in range(24))


@pytest.fixture(scope="module")
def broker() -> Iterator[Tansu]:
    with tansu() as found:
        yield found


def _spec(address: str, topic: str, *, group: bool, every: str = "1h") -> str:
    shared = ", group: g" if group else ""
    return (
        "logs:\n  tx:\n    schema: {card: string, at: timestamp, id: string, amount: float64, shop: string}\n"
        f"    kafka: {{bootstrap_servers: '{address}', topic: {topic}, key: card{shared}, format: json,\n"
        "            settings: {session.timeout.ms: '6000', heartbeat.interval.ms: '500'}}\n"
        f"feature_views:{VIEW.replace('every: 1h', f'every: {every}').replace('    event_id: id', '')}"
    )


@contextmanager
def _engine(folder: Path, spec: str, letters: str = "dead.jsonl") -> Iterator[Engine]:
    engine = Engine(parse_spec(spec.replace("dead.jsonl", letters), folder=folder))
    engine.start()
    try:
        yield engine
    finally:
        engine.close(drain_s=5)


def _until(holds: Callable[[], bool], seconds: float = 60) -> None:
    pause = threading.Event()
    for _ in range(int(seconds / 0.05)):
        if holds():
            return
        pause.wait(0.05)
    raise AssertionError("it did not come to be")


def _counts(engine: Engine) -> dict[str, float]:
    try:
        found = engine.features.view("spending").lookup(pa.array(CARDS), as_of_us=START_US, features=["n"])
    except VireoError:  # amid a rebalance
        return {}
    return {card: value for card, value in zip(CARDS, found.values[:, 0].tolist(), strict=True) if value == value}


def _push(engine: Engine, first: int, count: int) -> None:
    features = engine.features
    rows = [row(number, CARDS[number % len(CARDS)], at_s=number / 1000) for number in range(first, first + count)]
    features.push("tx", batch(rows, features.schema("tx")))


def _sum(*engines: Engine) -> float:
    return sum(sum(_counts(each).values()) for each in engines)


def test_a_view_reads_all_partitions_and_goes_on_from_its_snapshot(tmp_path: Path, broker: Tansu) -> None:
    spec = _spec(broker.address, broker.topic(3), group=False)
    for first in (0, 480):
        with _engine(tmp_path, spec) as engine:
            _until(lambda: engine.is_ready("spending", None))
            _push(engine, first, 480)
            _until(lambda total=first + 480: _sum(engine) == total)  # type: ignore[misc]
            assert _counts(engine) == dict.fromkeys(CARDS, (first + 480) / len(CARDS))
            assert engine.features.view("spending").statistics().applied == first + 480


def test_members_of_a_group_fold_each_entry_once_while_they_come_and_go(tmp_path: Path, broker: Tansu) -> None:
    spec = _spec(broker.address, broker.topic(4), group=True)
    with _engine(tmp_path, spec, "one.jsonl") as one:
        _push(one, 0, 480)
        _until(lambda: _sum(one) == 480)
        with _engine(tmp_path, spec, "two.jsonl") as two:
            _until(lambda: 0 < len(_counts(two)) < len(CARDS) and 0 < len(_counts(one)) < len(CARDS))
            _push(two, 480, 480)
            _until(lambda: _sum(one, two) == 960)
            assert not _counts(one).keys() & _counts(two).keys()
        _push(one, 960, 480)
        _until(lambda: _sum(one) == 1440)
        assert _counts(one) == dict.fromkeys(CARDS, 60)


def test_reads_go_on_while_the_broker_is_away_and_what_came_is_folded_after(tmp_path: Path) -> None:
    cut = Cut()
    behind = Tansu(advertised=cut.address)
    cut.target_port = behind.port
    try:
        with _engine(tmp_path, _spec(cut.address, make_topic(cut.address, 1), group=False)) as engine:
            _until(lambda: engine.is_ready("spending", None))
            _push(engine, 0, 240)
            _until(lambda: _sum(engine) == 240)
            cut.pull()
            _until(lambda: engine.features.view("spending").statistics().error != "")
            assert _sum(engine) == 240
            cut.plug()
            _until(lambda: engine.features.view("spending").statistics().error == "")
            _push(engine, 240, 240)
            _until(lambda: _sum(engine) == 480)
    finally:
        behind.stop()
        cut.close()


def test_what_cannot_be_decoded_is_a_dead_letter_and_what_follows_is_folded(tmp_path: Path, broker: Tansu) -> None:
    import confluent_kafka as kafka

    topic = broker.topic(1)
    producer = kafka.Producer({"bootstrap.servers": broker.address})
    producer.produce(topic, b"no json")
    producer.flush(10)
    with _engine(tmp_path, _spec(broker.address, topic, group=False)) as engine:
        _until(lambda: engine.is_ready("spending", None))
        _push(engine, 0, 24)
        _until(lambda: _sum(engine) == 24)
        assert engine.features.view("spending").statistics().dead == 1
    (line,) = (tmp_path / "dead.jsonl").read_text().splitlines()
    assert (json.loads(line)["offset"], json.loads(line)["payload"]) == (0, "no json")
