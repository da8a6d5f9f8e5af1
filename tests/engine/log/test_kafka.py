"""The Kafka log over a real broker: the contract of every log, keys, groups' partitions, errors."""

from __future__ import annotations

import contextlib
import ssl
import subprocess
import uuid
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from engine import InvalidArgument
from engine.errors import NotFound, OffsetDeleted, SpecError, TooLarge, Unauthenticated, Unavailable, Unimplemented
from engine.log import kafka_settings
from engine.log.declaration import KafkaLogSpec
from engine.log.kafka import DeadLetterTopic, KafkaLog
from engine.log.kafka_settings import consumer_settings, producer_settings, translated
from engine.log.log import Appended, Chunk, DeadLetter, LogReader, Offsets, Owner
from engine.log.payload_json import JsonPayload
from tests.engine.log.broker import Cut, MockCluster, Tansu, free_port, make_topic, tansu
from tests.engine.log.contract import SCHEMA, Collector, LogContract, ids, read_rows, rows


@pytest.fixture(scope="module")
def broker() -> Iterator[Tansu]:
    with tansu() as broker:
        yield broker


class KafkaPlace:
    """A topic of one partition."""

    rows_are_offsets = False
    truncates = False
    checks_evolution = False

    def __init__(self, spec: KafkaLogSpec) -> None:
        self.spec = spec

    def open(self, schema: pa.Schema = SCHEMA) -> KafkaLog:
        """Place."""
        return KafkaLog(self.spec, schema)


class TestKafkaLogOfArrow(LogContract):
    """Each append is a message."""

    @pytest.fixture
    def place(self, broker: Tansu) -> KafkaPlace:
        return KafkaPlace(KafkaLogSpec(broker.address, broker.topic(), format="arrow"))


class TestKafkaLogOfJson(LogContract):
    """Each row is a message. Batches of one message, for this broker's word on where a partition ends."""

    @pytest.fixture
    def place(self, broker: Tansu) -> KafkaPlace:
        return KafkaPlace(KafkaLogSpec(broker.address, broker.topic(), settings={"batch.num.messages": "1"}))


def spec_of(broker: Tansu | MockCluster, topic: str, **more: Any) -> KafkaLogSpec:  # noqa: ANN401
    """Arrow payloads, where nothing else is said."""
    return KafkaLogSpec(**{"bootstrap_servers": broker.address, "topic": topic, "format": "arrow"} | more)


@contextlib.contextmanager
def opened(spec: KafkaLogSpec) -> Iterator[KafkaLog]:
    log = KafkaLog(spec, SCHEMA)
    try:
        yield log
    finally:
        log.close()


@contextlib.contextmanager
def reading(log: KafkaLog, owner: Owner) -> Iterator[LogReader]:
    reader = log.reader(owner)
    try:
        yield reader
    finally:
        reader.close()


def produced(address: str, topic: str, values: list[bytes | None], partition: int = 0) -> None:
    """By another client than ours."""
    import confluent_kafka as kafka

    client = kafka.Producer({"bootstrap.servers": address, "log_level": 0})
    client.produce_batch(topic, [{"value": each} for each in values], partition=partition)
    assert client.flush(20) == 0


SHORT_SESSION = {"session.timeout.ms": "1000", "heartbeat.interval.ms": "200"}
"""Tansu lets a group's first member wait for others for half a session."""


# Keys and partitions.


@pytest.mark.parametrize("kind", ["json", "arrow"])
def test_an_entity_is_always_in_one_partition_and_in_order(broker: Tansu, kind: str) -> None:
    topic = broker.topic(5)
    with opened(spec_of(broker, topic, format=kind, key="card")) as log:
        places = [log.append(rows(first, 50)) for first in range(0, 200, 50)]
        with reading(log, Collector()) as reader:
            chunks = read_rows(reader, 200)
    assert sorted(ids(chunks)) == list(range(200))
    where: dict[str, set[int]] = {}
    for chunk in chunks:
        seen = chunk.batch.column("card").to_pylist()
        for card in seen:
            where.setdefault(card, set()).add(chunk.partition)
        ordered = [each for each, card in zip(ids([chunk]), seen, strict=True) if card is not None]
        for card in set(seen) - {None}:
            mine = [each for each in ordered if f"card-{each % 7}" == card]
            assert mine == sorted(mine)
    assert all(len(partitions) == 1 for card, partitions in where.items() if card is not None)
    assert len(set().union(*where.values())) > 1
    ends: dict[int, int] = {}
    for each in places:
        ends |= each.offsets
    assert ends == {chunk.partition: chunk.next for chunk in chunks}, "who has read up to there has read every row"


def test_appends_without_a_key_take_turns_and_stay_whole(broker: Tansu) -> None:
    topic = broker.topic(3)
    with opened(spec_of(broker, topic, format="json")) as log:
        places = [log.append(rows(10 * turn, 10)) for turn in range(6)]
        assert [each.partition for each in places] == [0, 1, 2, 0, 1, 2]
        assert not any(each.more for each in places)
        assert [(each.first, each.next) for each in places] == [(0, 10)] * 3 + [(10, 20)] * 3
        with reading(log, Collector()) as reader:
            assert sorted(ids(read_rows(reader, 60))) == list(range(60))


def test_a_batch_larger_than_a_message_is_several(broker: Tansu) -> None:
    with opened(spec_of(broker, broker.topic(), settings={"message.max.bytes": "20000"})) as log:
        placed = log.append(rows(0, 5_000))
        assert placed.next - placed.first > 5
        with reading(log, Collector()) as reader:
            assert ids(read_rows(reader, 5_000)) == list(range(5_000))


def test_a_row_larger_than_a_message_is_refused(broker: Tansu) -> None:
    wide = rows(0, 1).set_column(1, SCHEMA.field(1), pa.array(["x" * 30_000]))
    for kind in ("arrow", "json"):
        spec = spec_of(broker, broker.topic(), format=kind, settings={"message.max.bytes": "20000"})
        with opened(spec) as log, pytest.raises(TooLarge, match="bytes"):
            log.append(wide)


# What other clients sent.


def test_bad_messages_are_dead_letters_where_they_lie_and_the_rest_is_read(broker: Tansu) -> None:
    topic = broker.topic()
    good = [b'{"id":%d,"at":"2026-11-26T10:00:00Z"}' % each for each in range(4)]
    produced(broker.address, topic, [good[0], b"{", good[1], None, b'{"id":"5"}', good[2], good[3], b"null"])
    with opened(spec_of(broker, topic, format="json")) as log, reading(log, Collector()) as reader:
        chunks = read_rows(reader, 4)
        while chunks[-1].next < 8:
            chunks += reader.read(100, 20.0)
    assert ids(chunks) == [0, 1, 2, 3]
    dead = [each for chunk in chunks for each in chunk.dead]
    assert [(each.offset, each.payload) for each in dead] == [(1, b"{"), (3, b""), (4, b'{"id":"5"}'), (7, b"null")]
    assert "'id': expected int64, got str" in dead[2].reason


def test_a_message_of_no_rows_moves_the_offset(broker: Tansu) -> None:
    topic = broker.topic()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCHEMA):
        pass
    produced(broker.address, topic, [sink.getvalue().to_pybytes()] * 3)
    with opened(spec_of(broker, topic)) as log, reading(log, Collector()) as reader:
        seen = 0
        while seen < 3:
            (chunk,) = reader.read(100, 20.0)
            assert (chunk.first, chunk.batch.num_rows) == (seen, 0)
            seen = chunk.next


def test_arrival_is_the_messages_timestamp(broker: Tansu) -> None:
    import confluent_kafka as kafka

    topic = broker.topic()
    client = kafka.Producer({"bootstrap.servers": broker.address, "log_level": 0})
    for each in range(3):
        client.produce(topic, b'{"id":%d,"at":0}' % each, partition=0, timestamp=1_700_000_000_000 + each)
    client.flush(20)
    with opened(spec_of(broker, topic, format="json")) as log, reading(log, Collector()) as reader:
        chunks = read_rows(reader, 3)
    arrived = [each for chunk in chunks for each in chunk.appended_us.tolist()]
    assert arrived == [1_700_000_000_000_000 + 1_000 * each for each in range(3)]


def test_dead_letters_go_to_their_topic_with_why_and_whence(broker: Tansu) -> None:
    import confluent_kafka as kafka

    dead = broker.topic()
    letters = DeadLetterTopic(
        spec_of(broker, "events", dead_letter_topic=dead, settings={"message.max.bytes": "20000"})
    )
    letters.write(
        [
            DeadLetter(3, 17, "column 'id': expected int64, got ü", b"\xff{"),
            DeadLetter(0, 1, "x" * 5_000, b"y" * 30_000),
        ]
    )
    letters.flush()
    letters.write([])
    letters.close()
    client = kafka.Consumer({"bootstrap.servers": broker.address, "group.id": "x", "log_level": 0})
    client.assign([kafka.TopicPartition(dead, 0, 0)])
    first, second = client.consume(2, 20.0)
    client.close()
    assert first.value() == b"\xff{"
    assert first.headers() == [
        ("vireo.reason", "column 'id': expected int64, got ü".encode()),
        ("vireo.topic", b"events"),
        ("vireo.partition", b"3"),
        ("vireo.offset", b"17"),
    ]
    assert dict(second.headers() or [])["vireo.bytes"] == b"30000"
    assert second.value() == b"y" * len(second.value() or b"")


# A broker that goes away, places that are gone.


def _reached(call: Callable[[], Appended | list[Chunk]]) -> Any:  # noqa: ANN401  what `call` returns
    """What comes of asking with little patience, on a machine that may be busy; what was given up may have been done."""
    for _ in range(20):
        with contextlib.suppress(Unavailable):
            return call()
    raise AssertionError("the broker can't be reached")


def _read_nothing(reader: LogReader) -> None:
    for _ in range(10):
        assert reader.read(100, 2.0) == []


def test_a_broker_that_goes_away_is_unavailable_and_nothing_is_skipped_when_it_returns() -> None:
    cut = Cut()
    broker = Tansu(advertised=cut.address)
    cut.target_port = broker.port
    quick = {"delivery.timeout.ms": "1500", "request.timeout.ms": "1000", "linger.ms": "0"}
    try:
        topic = make_topic(cut.address, 1)
        with opened(KafkaLogSpec(cut.address, topic, settings=quick)) as log, reading(log, Collector()) as reader:
            before = _reached(lambda: log.append(rows(0, 10))).next
            chunks: list[Chunk] = []
            while not chunks or chunks[-1].next < before:
                chunks += reader.read(100, 5.0)
            assert ids(chunks)[-10:] == list(range(10))
            cut.pull()
            assert reader.read(100, 0.0) == []
            with pytest.raises(Unavailable, match=topic):
                _read_nothing(reader)
            with pytest.raises(Unavailable, match=topic):
                log.append(rows(10, 1))
            with pytest.raises(Unavailable, match=topic):
                log.latest()
            cut.plug()
            after = _reached(lambda: log.append(rows(20, 5))).next
            chunks = []
            while not chunks or chunks[-1].next < after:
                with contextlib.suppress(Unavailable):
                    chunks += reader.read(100, 5.0)
            assert ids(chunks)[-5:] == [20, 21, 22, 23, 24]
            assert set(ids(chunks)[:-5]) <= {10, *range(20, 25)}, "what was not acknowledged may be there"
            assert chunks[0].first == before
    finally:
        broker.stop()
        cut.close()


def test_without_a_broker_everything_says_so() -> None:
    spec = KafkaLogSpec(
        f"127.0.0.1:{free_port()}", "t", settings={"delivery.timeout.ms": "1000", "request.timeout.ms": "900"}
    )
    with opened(spec) as log:
        for call in (
            log.latest,
            log.earliest,
            lambda: log.append(rows(0, 1)),
            lambda: log.reader(Collector()).read(1, 0.0),
        ):
            with pytest.raises(Unavailable, match="topic t"):
                call()


@pytest.fixture(scope="module")
def mock() -> MockCluster:
    return MockCluster()


def test_a_place_that_is_no_longer_kept_is_deleted_and_one_past_the_end_is_wrong(mock: MockCluster) -> None:
    topic = mock.topic()
    with opened(spec_of(mock, topic, key="card")) as log:
        while not any(log.earliest().values()):
            log.append(rows(0, 20_000))
        earliest, latest = log.earliest(), log.latest()
        gone = next(each for each, offset in earliest.items() if offset)
        for start, error in (
            (0, OffsetDeleted),
            (earliest[gone] - 1, OffsetDeleted),
            (latest[gone] + 5, InvalidArgument),
        ):
            with reading(log, Collector({**latest, gone: start})) as reader:
                for _ in range(2):
                    with pytest.raises(error, match=f"offset {start} of partition {gone}"):
                        read_rows(reader, 1)
        with reading(log, Collector({**latest, gone: earliest[gone]})) as reader:
            assert read_rows(reader, 1)[0].first == earliest[gone]
        with reading(log, Collector({each: at for each, at in latest.items() if each != gone})) as reader:
            assert read_rows(reader, 1)[0].first == earliest[gone], "without an offset: from what is kept"


def test_what_the_mark_of_a_transaction_takes_is_passed_and_a_damaged_batch_is_a_dead_letter(mock: MockCluster) -> None:
    import confluent_kafka as kafka

    topic = mock.topic()
    client = kafka.Producer({"bootstrap.servers": mock.address, "transactional.id": topic, "log_level": 0})
    client.init_transactions(20)
    client.begin_transaction()
    client.produce(topic, b'{"id":1,"at":0}', partition=0)
    client.commit_transaction(20)
    spec = spec_of(mock, topic, format="json", settings={"check.crcs": "false"})  # the mock's marks have none
    with opened(spec) as log, reading(log, Collector()) as reader:
        chunks = read_rows(reader, 1)
        end = log.latest()[0]
        while chunks[-1].next < end:
            chunks += reader.read(10, 20.0)
    assert ids(chunks) == [1]
    assert end == 2
    assert not any(chunk.dead for chunk in chunks)
    with opened(replace(spec, settings={})) as log, reading(log, Collector()) as reader:
        chunks = read_rows(reader, 1)
        while chunks[-1].next < end:
            chunks += reader.read(10, 20.0)
    (dead,) = [each for chunk in chunks for each in chunk.dead]
    assert (dead.offset, "CRC" in dead.reason) == (1, True), (
        "a wrong checksum is a dead letter and does not end the reading"
    )


def test_truncating_where_the_broker_does_not_offer_it_says_so(mock: MockCluster) -> None:
    with opened(spec_of(mock, mock.topic())) as log:
        log.append(rows(0, 1))
        log.append(rows(1, 1))
        log.truncate({0: 0})
        with pytest.raises(Unimplemented, match="deleting"):
            log.truncate({0: 1})


def test_partitions_added_later_are_found(broker: Tansu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.log.kafka_reader.PARTITIONS_S", 0.0)
    listed = [0]
    monkeypatch.setattr("engine.log.kafka_reader.partitions_listed", lambda *_: list(listed))
    topic = broker.topic(2)
    with opened(spec_of(broker, topic, format="json")) as log:
        log.append(rows(0, 10))
        log.append(rows(10, 10))
        owner = Collector({1: 4})
        with reading(log, owner) as reader:
            assert ids(read_rows(reader, 10)) == list(range(10))
            assert owner.owned == {0}
            listed.append(1)
            assert ids(read_rows(reader, 6)) == list(range(14, 20))
            assert owner.owned == {0, 1}
            log.append(rows(20, 1))
            assert ids(read_rows(reader, 1)) == [20], "the others keep their place"


# Owners that fail.


class Failing(Collector):
    """Fails the first time it is told anything."""

    failures = 1

    def assigned(self, partitions: Collection[int]) -> Offsets:
        """Owner."""
        if self.failures:
            self.failures -= 1
            raise RuntimeError("the snapshot can't be read")
        return super().assigned(partitions)


@pytest.mark.parametrize("group", [None, "g"])
def test_an_owner_that_fails_is_heard_and_nothing_is_read_without_it(broker: Tansu, group: str | None) -> None:
    with opened(spec_of(broker, broker.topic(), group=group, settings=SHORT_SESSION if group else {})) as log:
        log.append(rows(0, 3))
        reader = log.reader(Failing())
        with pytest.raises(RuntimeError, match="snapshot"):
            reader.read(10, 20.0)
        with contextlib.suppress(RuntimeError):
            reader.close()


def test_a_place_at_the_end_is_right_where_the_broker_is_slow_and_misstates_the_end(
    broker: Tansu, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tansu, asked for the end of these 100 messages, says 1; in its fetches it says 100."""
    monkeypatch.setattr("engine.log.kafka_reader.PROBE_S", 0.0)
    monkeypatch.setattr("engine.log.kafka_reader.WAIT_S", 0.0001)
    with opened(spec_of(broker, broker.topic(), format="json")) as log:
        log.append(rows(0, 100))
        with reading(log, Collector({0: 100})) as reader:
            assert reader.read(10, 0.3) == []
            log.append(rows(100, 1))
            assert ids(read_rows(reader, 1)) == [100]


def test_what_was_taken_when_something_failed_comes_again(broker: Tansu, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(spec_of(broker, broker.topic(), format="json")) as log:
        log.append(rows(0, 100))
        with reading(log, Collector()) as reader:
            seen = ids(reader.read(10, 20.0))
            with monkeypatch.context() as patch:
                patch.setattr(JsonPayload, "decode", lambda *_: 1 / 0)
                with pytest.raises(ZeroDivisionError):
                    reader.read(10, 20.0)
            while len(seen) < 100:
                seen += ids(reader.read(10, 20.0))
    assert seen == list(range(100))


# Declarations.


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"settings": {"group.id": "x"}}, "group.id.*'group'"),
        ({"settings": {"enable.auto.commit": "true"}}, "snapshots"),
        ({"settings": {"no.such.thing": "1"}}, "no.such.thing"),
        ({"settings": {"acks": "many"}}, "acks"),
        ({"settings": {"message.max.bytes": "many"}}, "message.max.bytes"),
        ({"key": "crad"}, "'crad'.*nearest: 'card'"),
        ({"format": "avro"}, "avro_schema"),
        ({"username": "u"}, "username.*sasl"),
        ({"security": "sasl_ssl", "username": "u"}, "password_env"),
        (
            {"security": "sasl_ssl", "username": "u", "password_env": "NO_SUCH_VARIABLE"},
            "'NO_SUCH_VARIABLE' is not set",
        ),
        ({"event_hubs": True}, "password_env"),
    ],
)
def test_a_declaration_that_cannot_be_is_refused(broker: Tansu, more: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message), opened(spec_of(broker, broker.topic(), **more)) as log:
        log.append(rows(0, 1))


def test_event_hubs_is_spoken_to_as_it_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTS", "Endpoint=sb://ns/;SharedAccessKey=secret")
    spec = KafkaLogSpec("ns.servicebus.windows.net:9093", "t", event_hubs=True, password_env="EVENTS", group="$Default")
    settings = producer_settings(spec)
    assert settings["security.protocol"] == "SASL_SSL"
    assert settings["sasl.mechanism"] == "PLAIN"
    assert settings["sasl.username"] == "$ConnectionString"
    assert settings["sasl.password"] == "Endpoint=sb://ns/;SharedAccessKey=secret"
    assert settings["message.max.bytes"] == 1_046_528
    assert settings["compression.type"] == "none"
    assert settings["request.timeout.ms"] == 60_000
    assert settings["metadata.max.age.ms"] == settings["connections.max.idle.ms"] == 180_000
    assert consumer_settings(spec)["session.timeout.ms"] == 30_000
    assert "secret" not in repr(spec)
    bigger = replace(spec, settings={"message.max.bytes": "5000000"})
    assert producer_settings(bigger)["message.max.bytes"] == 1_046_528


def test_an_unknown_topic_is_not_found() -> None:
    error = translated("UNKNOWN_TOPIC_OR_PART", "Broker: Unknown topic or partition", "asking for topic t")
    assert isinstance(error, NotFound)
    assert error.message == "asking for topic t: Broker: Unknown topic or partition (UNKNOWN_TOPIC_OR_PART)"


def test_every_error_of_librdkafka_that_passes_is_unavailable_and_no_name_is_misspelt() -> None:
    import confluent_kafka as kafka

    for name in (*kafka_settings._KINDS, *kafka_settings._PASSING):
        assert isinstance(getattr(kafka.KafkaError, name, None), int), name


# TLS and passwords, as Event Hubs wants them.


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 127.0.0.1, its key in the same file."""
    folder = tmp_path_factory.mktemp("tls")
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    words += ["-keyout", str(folder / "key"), "-out", str(folder / "certificate"), "-subj", "/CN=localhost"]
    subprocess.run([*words, "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    both = folder / "both"
    both.write_bytes((folder / "key").read_bytes() + (folder / "certificate").read_bytes())
    return both


@pytest.fixture(scope="module")
def secured(certificate: Path) -> Iterator[tuple[Cut, Tansu]]:
    """A broker behind TLS and SASL PLAIN."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    cut = Cut(context, "$ConnectionString", "the-password")
    broker = Tansu(advertised=cut.address)
    cut.target_port = broker.port
    yield cut, broker
    broker.stop()
    cut.close()


def secured_spec(secured: tuple[Cut, Tansu], certificate: Path, group: str | None = None) -> KafkaLogSpec:
    topic = f"topic-{uuid.uuid4()}"  # the broker makes it when it is asked for, with 4 partitions
    settings = {"ssl.ca.location": str(certificate), **SHORT_SESSION}
    return KafkaLogSpec(
        secured[0].address, topic, event_hubs=True, password_env="SECRET", settings=settings, group=group
    )


@pytest.mark.parametrize("group", [None, "g"])
def test_rows_pass_over_tls_with_a_password(
    secured: tuple[Cut, Tansu], certificate: Path, group: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "the-password")
    with opened(secured_spec(secured, certificate, group=group)) as log:
        monkeypatch.setattr("engine.log.kafka_calls.LIST_S", 20.0)
        log.append(rows(0, 20))
        with reading(log, Collector()) as reader:
            assert ids(read_rows(reader, 20)) == list(range(20))


def test_a_wrong_password_is_said_at_once(
    secured: tuple[Cut, Tansu], certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "another")
    with opened(secured_spec(secured, certificate)) as log:
        with pytest.raises(Unauthenticated, match=r"(?i)auth.*wrong password"):
            _reached(lambda: log.append(rows(0, 1)))
        reader = log.reader(Collector())
        with pytest.raises(Unauthenticated, match=r"(?i)auth"):
            _reached(lambda: reader.read(10, 20.0))
        reader.close()


def test_an_unknown_certificate_is_said(secured: tuple[Cut, Tansu], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "the-password")
    spec = KafkaLogSpec(secured[0].address, "t", event_hubs=True, password_env="SECRET")
    with opened(spec) as log, pytest.raises(Unauthenticated, match=r"(?i)certificate"):
        _reached(lambda: log.append(rows(0, 1)))
