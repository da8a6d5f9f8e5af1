"""A topic of Kafka, or an Azure event hub, as a Log; and the topic for what can't be used."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from engine.errors import FailedPrecondition, SpecError, VireoError, nearest, quoted
from engine.log.declaration import KafkaLogSpec
from engine.log.kafka_calls import more_telling, partitions_listed, told
from engine.log.kafka_keys import key_bytes, partitions_of
from engine.log.kafka_producer import Message, Producer
from engine.log.kafka_reader import REQUEST_S, KafkaReader
from engine.log.kafka_settings import (
    MESSAGE_OVERHEAD_BYTES,
    client_settings,
    consumer_settings,
    message_bytes_max,
    producer_settings,
    translated,
)
from engine.log.log import Appended, DeadLetter, LogReader, Offsets, Owner
from engine.log.payload import Payload
from engine.log.schema import conform

if TYPE_CHECKING:
    import confluent_kafka as kafka
    import pyarrow as pa

PARTITIONS_FRESH_S: Final = 60.0
"""How long a topic's number of partitions is believed when rows are keyed."""


class KafkaLog:
    """Log over one topic, which must exist. An offset is a message: one row in JSON and Avro, any number in Arrow.

    Without `key` each append goes to one partition, the next append to the next. With `key`, each row goes where Kafka's
    Java clients would put its key (`engine.log.kafka_keys`), so that all events of an entity are in one partition, in order:
    an append then lies in several partitions, and `Appended.more` tells the others.
    """

    def __init__(self, spec: KafkaLogSpec, schema: pa.Schema) -> None:
        if spec.key is not None and spec.key not in schema.names:
            raise SpecError(f"kafka.key: {quoted(spec.key)} is no column of the log{nearest(spec.key, schema.names)}")
        self._spec = spec
        self._schema = schema
        self._bytes_max = message_bytes_max(spec) - MESSAGE_OVERHEAD_BYTES
        self._payload = payload_of(spec, schema)
        self._topic = _Topic(spec)
        self._producer = Producer(producer_settings(spec))
        self._turn = itertools.count()

    @property
    def schema(self) -> pa.Schema:
        """Log."""
        return self._schema

    def append(self, batch: pa.RecordBatch) -> Appended:
        """Log. What raised may be in the topic in part: messages are acknowledged one by one."""
        self._topic.check_open()
        batch = conform(batch, self._schema)
        if not batch.num_rows:
            partition, end = next(iter(self.latest().items()))
            return Appended(partition, end, end)
        count = self._topic.partitions()
        spans = self._producer.send(self._spec.topic, self._parts(batch, count, next(self._turn) % count))
        places = [Appended(partition, first, after) for partition, (first, after) in sorted(spans.items())]
        return Appended(places[0].partition, places[0].first, places[0].next, tuple(places[1:]))

    def _parts(self, batch: pa.RecordBatch, count: int, turn: int) -> dict[int, list[Message]]:
        if self._spec.key is None:
            return {turn: self._messages(batch, None)}
        keys = key_bytes(batch.column(self._spec.key))
        partitions = partitions_of(keys, count, turn)
        parts: dict[int, list[Message]] = {}
        for partition in np.unique(partitions).tolist():
            rows = np.flatnonzero(partitions == partition)
            whole = len(rows) == batch.num_rows
            parts[partition] = self._messages(batch if whole else batch.take(rows), keys if whole else keys.take(rows))
        return parts

    def _messages(self, batch: pa.RecordBatch, keys: pa.Array | None) -> list[Message]:
        values = self._payload.encode(batch, self._bytes_max)
        if keys is None or not self._payload.rows_apart:
            return [Message(each) for each in values]
        return [Message(value, key) for value, key in zip(values, keys.to_pylist(), strict=True)]

    def reader(self, owner: Owner) -> LogReader:
        """Log. Partitions are asked for, and `owner.assigned` called, in the first read."""
        self._topic.check_open()
        return KafkaReader(
            self._spec.topic,
            consumer_settings(self._spec),
            payload_of(self._spec, self._schema),
            owner,
            grouped=self._spec.group is not None,
            shard=self._spec.shard,
        )

    def earliest(self) -> Offsets:
        """Log."""
        return self._topic.offsets(earliest=True)

    def latest(self) -> Offsets:
        """Log."""
        return self._topic.offsets(earliest=False)

    def truncate(self, before: Offsets) -> None:
        """Log. Needs a broker that deletes records on request; raises Unimplemented where it does not."""
        self._topic.delete(before)

    def close(self) -> None:
        """Log. Its readers are closed by who made them."""
        self._topic.close()
        self._producer.close()


class _Topic:
    """What is asked of brokers about a topic."""

    def __init__(self, spec: KafkaLogSpec) -> None:
        from confluent_kafka.admin import AdminClient

        self._name = spec.topic
        self._trouble: kafka.KafkaError | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._partitions = 0
        self._listed_s = 0.0
        with told(f"topic {spec.topic}"):
            settings: dict[str, Any] = {**client_settings(spec), **spec.settings, "error_cb": self._met}
            self._client = AdminClient(settings)

    def _met(self, error: kafka.KafkaError) -> None:
        self._trouble = more_telling(self._trouble, error)

    def check_open(self) -> None:
        if self._closed:
            raise FailedPrecondition(f"the log of topic {self._name} is closed")

    def partitions(self) -> int:
        """How many; asked for again after a while."""
        with self._lock:
            if not self._partitions or time.monotonic() - self._listed_s > PARTITIONS_FRESH_S:
                self._partitions = len(self._ids())
                self._listed_s = time.monotonic()
            return self._partitions

    def _ids(self) -> list[int]:
        self.check_open()
        self._trouble = None
        try:
            return partitions_listed(self._client, self._name)
        except VireoError:
            self._client.poll(0)  # brings what the connection met
            if self._trouble is None:
                raise
            raise translated(self._trouble.name(), self._trouble.str(), f"asking for topic {self._name}") from None

    def offsets(self, *, earliest: bool) -> dict[int, int]:
        """One end of each partition."""
        import confluent_kafka as kafka
        from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]

        end: Any = OffsetSpec.earliest() if earliest else OffsetSpec.latest()  # type: ignore[no-untyped-call]
        wanted = {kafka.TopicPartition(self._name, each): end for each in self._ids()}
        with told(f"asking for offsets of topic {self._name}"):
            asked = self._client.list_offsets(wanted, request_timeout=REQUEST_S)
            return {place.partition: answer.result().offset for place, answer in asked.items()}

    def delete(self, before: Offsets) -> None:
        """Records below these offsets."""
        import confluent_kafka as kafka

        self.check_open()
        kept = self.offsets(earliest=True)
        places = [kafka.TopicPartition(self._name, each, at) for each, at in before.items() if at > kept.get(each, at)]
        if not places:
            return
        with told(f"deleting records of topic {self._name}"):
            for answer in self._client.delete_records(places, request_timeout=REQUEST_S).values():
                answer.result()

    def close(self) -> None:
        self._closed = True


class DeadLetterTopic:
    """Where entries go that could not be used: their payload, with headers that tell why and whence. Thread-safe."""

    def __init__(self, spec: KafkaLogSpec) -> None:
        if spec.dead_letter_topic is None:
            raise SpecError("kafka.dead_letter_topic: name the topic")
        self._name = spec.dead_letter_topic
        self._source = spec.topic.encode()
        self._bytes_max = message_bytes_max(spec) - 4 * MESSAGE_OVERHEAD_BYTES
        self._producer = Producer(producer_settings(spec))

    def write(self, letters: Sequence[DeadLetter]) -> None:
        """Returns when all are acknowledged; raises as `Log.append` does, after which all may be written again.

        Headers: `vireo.reason`, `vireo.topic`, `vireo.partition`, `vireo.offset`, as text; a payload that would not fit with
        them is cut, and `vireo.bytes` then tells how long it was.
        """
        if letters:
            self._producer.send(self._name, {-1: [self._message(each) for each in letters]})

    def flush(self) -> None:
        """What was written is safe already."""

    def _message(self, letter: DeadLetter) -> Message:
        headers: Mapping[str, bytes] = {
            "vireo.reason": letter.reason.encode("utf-8", "backslashreplace")[:MESSAGE_OVERHEAD_BYTES],
            "vireo.topic": self._source,
            "vireo.partition": b"%d" % letter.partition,
            "vireo.offset": b"%d" % letter.offset,
        }
        payload = letter.payload
        if len(payload) > self._bytes_max:
            headers = {**headers, "vireo.bytes": b"%d" % len(payload)}
            payload = payload[: self._bytes_max]
        return Message(payload, None, tuple(headers.items()))

    def close(self) -> None:
        """Waits for what was put."""
        self._producer.close()


def payload_of(spec: KafkaLogSpec, schema: pa.Schema) -> Payload:
    """The declared format. Raises SpecError for a declaration that contradicts itself."""
    if spec.format == "json":
        from engine.log.payload_json import JsonPayload

        return JsonPayload(schema)
    if spec.format == "avro":
        from engine.log.payload_avro import AvroPayload

        return AvroPayload(schema, spec.avro_schema, spec.avro_schema_id)
    from engine.log.payload_arrow import ArrowPayload

    return ArrowPayload(schema)
