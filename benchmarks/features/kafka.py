"""Part `kafka`: a full topic folded end to end, JSON and Arrow payloads, beside Quix Streams on the same broker."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import pyarrow as pa

from benchmarks.features.events import Stream, batches, read_stream, stream_file
from benchmarks.features.part import Part, Setting, kept, run_driver, say, undecided
from benchmarks.features.views import judged_view
from benchmarks.harness import LOAD_CORE, SERVER_CORE
from benchmarks.peers.broker import Broker
from benchmarks.peers.environments import QUIX, NotInstalledError, PeerError
from benchmarks.report import Judgement
from benchmarks.table import Cell, Table

JSON_RATE_MIN, ARROW_RATE_MIN, TIMES_MIN = 350e3, 3e6, 15.0
ARROW_ROWS = 4096
JSON, ARROW, RIVAL = "vireo, JSON", "vireo, Arrow", "Quix Streams, JSON"
COLUMNS = ["who", "events", "events/s", "events/CPU s", "broker CPU µs/event", "rounds"]
PROMISES = {
    JSON: f"Kafka JSON end to end: at least {JSON_RATE_MIN / 1e3:g} k events/s",
    ARROW: f"Kafka Arrow payloads end to end: at least {ARROW_RATE_MIN / 1e6:g} M events/s",
    RIVAL: f"Kafka JSON end to end: at least {TIMES_MIN:g} x Quix Streams",
}
QUEUED_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Measured:
    """One run over a topic of so many events. `cpu_s` is the consumer's, `broker_cpu_s` the broker's meanwhile."""

    who: str
    events: int
    wall_s: float
    cpu_s: float
    broker_cpu_s: float


def run(setting: Setting) -> Part:
    """Measure and conclude."""
    try:
        with Broker(setting.out, LOAD_CORE) as broker:
            found, missing = measure(setting, broker)
    except NotInstalledError as error:
        return Part([undecided(promise, error) for promise in PROMISES.values()])
    notes = [f"{RIVAL} was not run: {missing}"] if missing else []
    return Part(judgements_of(found, missing), [table_of(found)], notes=notes, data=found)


def measure(setting: Setting, broker: Broker) -> tuple[list[Measured], str]:
    """All runs, and why the rival did not (empty where it did)."""
    entities = 100_000
    json_events, arrow_events, rival_events = (
        (100_000, 500_000, 20_000) if setting.quick else (1_000_000, 6_000_000, 100_000)
    )
    stream = Stream(entities, arrow_events, seed=setting.seed, known=0)
    table = read_stream(stream_file(stream, setting.cache))
    say("Kafka: filling topics")
    fill(broker, "json", json_messages(table, json_events))
    fill(broker, "json-empty", json_messages(table, 1))
    fill(broker, "rival", json_messages(table, rival_events))
    fill(broker, "arrow", arrow_messages(table, arrow_events))
    fill(broker, "arrow-empty", arrow_messages(table, 1))
    found, missing = [], ""
    for number in range(1 if setting.quick else 3):
        say(f"Kafka: round {number + 1}")
        for who, topic, events in ((JSON, "json", json_events), (ARROW, "arrow", arrow_events)):
            found.append(measure_ours(broker, who, topic, events, entities))
        try:
            found.append(measure_rival(setting, broker, rival_events, number))
        except (NotInstalledError, PeerError) as error:
            missing = str(error)
    return found, missing


def fill(broker: Broker, topic: str, messages: Iterator[tuple[bytes, bytes]]) -> None:
    """A new topic with these messages, key and value."""
    from confluent_kafka import Producer

    broker.create_topic(topic)
    settings = {"bootstrap.servers": broker.address, "linger.ms": 20, "queue.buffering.max.messages": 2 * QUEUED_MAX}
    producer = Producer(settings)
    for number, (key, value) in enumerate(messages):
        producer.produce(topic, value, key=key)
        if number % QUEUED_MAX == QUEUED_MAX - 1:
            producer.flush()
    assert producer.flush(60) == 0, f"messages to '{topic}' were not acknowledged"


def json_messages(table: pa.Table, events: int) -> Iterator[tuple[bytes, bytes]]:
    """One object an event, keyed by card; the time in whole microseconds."""
    import orjson

    part = table.slice(0, events)
    part = part.set_column(1, "at", part["at"].cast(pa.int64()))
    for batch in part.to_batches(max_chunksize=1 << 14):
        for row in batch.to_pylist():
            yield str(row["card"]).encode(), orjson.dumps(row)


def arrow_messages(table: pa.Table, events: int) -> Iterator[tuple[bytes, bytes]]:
    """ARROW_ROWS events a message, an IPC stream each."""
    for batch in batches(table, ARROW_ROWS, 0, events):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        yield b"", sink.getvalue().to_pybytes()


def measure_ours(broker: Broker, who: str, topic: str, events: int, entities: int) -> Measured:
    """One run of ours, all its threads on one core."""
    order = {
        "view": judged_view(entities_max=2 * entities),
        "broker": broker.address,
        "topic": topic,
        "empty": f"{topic}-empty",
        "format": topic,
        "events": events,
    }
    before_s = broker.process.cpu_s()
    found = run_driver("kafka", order, core=SERVER_CORE)
    assert not found["dead"], f"{found['dead']} messages could not be used"
    return Measured(who, events, found["wall_s"], found["cpu_s"], broker.process.cpu_s() - before_s)


def measure_rival(setting: Setting, broker: Broker, events: int, number: int) -> Measured:
    """One run of the rival. Raises NotInstalledError, PeerError."""
    with tempfile.TemporaryDirectory() as folder:
        order: dict[str, Any] = {
            "broker": broker.address,
            "topic": "rival",
            "events": events,
            "tile_s": 60,
            "group": f"rival-{number}",
            "folder": f"{folder}/state",
            "seconds": 20.0 if setting.quick else 60.0,
        }
        before_s = broker.process.cpu_s()
        found = QUIX.run("quix_windows.py", order, core=SERVER_CORE, timeout_s=180.0)
    return Measured(RIVAL, found["events"], found["wall_s"], found["cpu_s"], broker.process.cpu_s() - before_s)


def rate(found: list[Measured], who: str) -> float | None:
    """Events a CPU second of the consumer, median; None where it was not run."""
    rates = [each.events / each.cpu_s for each in found if each.who == who]
    return median(rates) if rates else None


def judgements_of(found: list[Measured], missing: str) -> list[Judgement]:
    """Rates by the consumer's CPU time, which has one core: the machine is shared."""
    ours, arrow, theirs = rate(found, JSON), rate(found, ARROW), rate(found, RIVAL)
    assert ours is not None
    assert arrow is not None
    judged = [
        kept(PROMISES[JSON], ours >= JSON_RATE_MIN, f"{ours / 1e3:,.0f} k per CPU second"),
        kept(PROMISES[ARROW], arrow >= ARROW_RATE_MIN, f"{arrow / 1e6:.1f} M per CPU second"),
    ]
    if theirs is None:
        return [*judged, undecided(PROMISES[RIVAL], missing)]
    times = ours / theirs
    return [*judged, kept(PROMISES[RIVAL], times >= TIMES_MIN, f"{times:.0f} x {theirs / 1e3:,.1f} k per CPU second")]


def table_of(found: list[Measured]) -> Table:
    """A line for each."""
    rows: list[list[Cell]] = []
    for who in dict.fromkeys(each.who for each in found):
        runs = [each for each in found if each.who == who]
        wall, broker = (
            median(each.events / each.wall_s for each in runs),
            median(1e6 * each.broker_cpu_s / each.events for each in runs),
        )
        rows.append([who, runs[0].events, wall, rate(found, who), broker, len(runs)])
    about = (
        "A topic that is full already, one partition, consumer on one core, broker on the other. Ours: the judged view of 21 "
        "features; the rival: one window of one minute with count, sum, min, max and mean."
    )
    return Table("Kafka end to end", about, COLUMNS, rows)
