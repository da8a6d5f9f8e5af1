"""One consumer of a Kafka topic: whole batches of messages as chunks of rows, from the offsets its owner says.

Three rules make each entry reach the owner once. The owner's offsets are the truth: librdkafka is placed at them on every
assignment and never falls back on a committed one. A chunk begins at the offset expected of its partition. And where a
partition came or went while messages were being taken, or anything failed on the way, what was taken of it is thrown away and
the partition is put back to its expected offset.
"""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from engine.errors import FailedPrecondition, InvalidArgument, NotFound, OffsetDeleted, Unauthenticated, VireoError
from engine.log.declaration import ShardSpec
from engine.log.kafka_calls import more_telling, partitions_listed, told
from engine.log.kafka_settings import Settings, rebalances_in_steps, translated
from engine.log.log import Chunk, DeadLetter, Owner
from engine.log.sharding import own_partitions

if TYPE_CHECKING:
    import confluent_kafka as kafka

    from engine.log.payload import Payload

WAIT_S: Final = 0.1
"""How long a wait for messages can't be interrupted by `close`."""

MESSAGES_MAX: Final = 100_000
"""Of one read."""

COMMIT_S: Final = 5.0
"""How often a group's positions are told to the broker, for its lag figures."""

PARTITIONS_S: Final = 60.0
"""How often a reader of all partitions looks for new ones."""

PROBE_S: Final = 1.0
"""A partition silent for so long after it was assigned, or a broker that was in trouble, is asked after, at most so often."""

REQUEST_S: Final = 5.0

UNKNOWN_ARRIVAL_US: Final = 253_402_300_799_000_000
"""The end of year 9999, of a message without a timestamp: nothing is later than its arrival."""


class KafkaReader:
    """LogReader."""

    def __init__(
        self, topic: str, settings: Settings, payload: Payload, owner: Owner, *, grouped: bool, shard: ShardSpec | None
    ) -> None:
        import confluent_kafka as kafka

        self._topic, self._shard = topic, shard
        self._payload = payload
        self._owner = owner
        self._grouped = grouped
        self._in_steps = rebalances_in_steps(settings)
        self._lock = threading.Lock()
        self._closing = self._closed = self._started = False
        self._next: dict[int, int] = {}
        self._unheard: dict[int, int] = {}  # the end that fetches had told before the partition came
        self._astray: set[int] = set()
        self._moved: set[int] = set()
        self._failures: dict[int, VireoError] = {}
        self._fault: BaseException | None = None
        self._trouble: kafka.KafkaError | None = None
        self._down = False
        self._committed: dict[int, int] = {}
        self._committed_s = self._listed_s = self._probed_s = time.monotonic()
        self._rows_a_message = 1.0
        with told(f"reading topic {topic}"):
            self._consumer = kafka.Consumer(dict(settings) | {"error_cb": self._met})

    # Reading.

    def read(self, rows_max: int, timeout_s: float) -> list[Chunk]:
        """LogReader."""
        deadline_s = time.monotonic() + timeout_s
        with self._lock:
            if self._closing:
                return []
            try:
                return self._read(rows_max, deadline_s)
            except BaseException:
                self._astray |= set(self._next)  # what was taken and not given must come again
                raise

    def _read(self, rows_max: int, deadline_s: float) -> list[Chunk]:
        if not self._started:
            self._start()
        while True:
            self._raise_lasting()
            self._housekeeping()
            self._put_back()
            chunks = self._take(rows_max, min(WAIT_S, max(0.0, deadline_s - time.monotonic())))
            if chunks or self._closing:
                return chunks
            self._raise_lasting()
            self._raise_refusal()
            out_of_time = time.monotonic() >= deadline_s
            self._look_into_silence(out_of_time)
            if out_of_time:
                return []

    def _take(self, rows_max: int, wait_s: float) -> list[Chunk]:
        with told(f"reading topic {self._topic}"):
            messages = self._consumer.consume(1, wait_s)
            if not messages:
                return []
            count = min(MESSAGES_MAX, int(rows_max / self._rows_a_message)) - 1
            self._moved.clear()
            with _collector_at_rest():
                if count > 0:
                    messages += self._consumer.consume(count, 0)
                return self._chunks(messages)

    def _chunks(self, messages: list[kafka.Message]) -> list[Chunk]:
        import confluent_kafka as kafka

        events: list[kafka.Message] = []
        if any(each is not None for each in map(kafka.Message.error, messages)):
            events = [each for each in messages if each.error() is not None]
            messages = [each for each in messages if each.error() is None]
        by_partition: dict[int, list[kafka.Message]] = {}
        if len(self._next) == 1 and not self._grouped:
            by_partition[next(iter(self._next))] = messages
        else:
            for partition, run in groupby(messages, kafka.Message.partition):
                by_partition.setdefault(partition or 0, []).extend(run)
        places = dict(self._next)
        chunks = [
            self._chunk(partition, places, expected)
            for partition, some in by_partition.items()
            if (expected := self._expected(partition, some))
        ]
        for each in events:
            self._event(each, places, chunks)
        if chunks:
            self._trouble, self._down = None, False
        self._next = places
        return chunks

    def _event(self, event: kafka.Message, places: dict[int, int], chunks: list[Chunk]) -> None:
        """What came in place of a message: a partition's end, a damaged batch, a place that is gone, trouble."""
        import confluent_kafka as kafka

        error, partition, offset = event.error(), event.partition(), event.offset() or 0
        code = 0 if error is None else error.code()
        ours = partition in places and partition not in self._moved and partition not in self._astray
        if code == kafka.KafkaError._PARTITION_EOF or code in _DAMAGED:
            self._trouble, self._down = None, False
            if ours and partition is not None:
                self._pass(partition, offset, places, chunks, error if code in _DAMAGED else None)
        elif code in _OUT_OF_RANGE:
            if ours and partition is not None:
                self._failures[partition] = self._out_of_range(partition)
        elif error is not None and (code != kafka.KafkaError.GROUP_AUTHORIZATION_FAILED or self._grouped):
            self._met(error)

    def _pass(
        self, partition: int, offset: int, places: dict[int, int], chunks: list[Chunk], damage: kafka.KafkaError | None
    ) -> None:
        """Entries before `offset` that are no messages (transactions' marks, what was compacted away), and a damaged one there:
        a chunk without rows."""
        begin, end = places[partition], offset if damage is None else offset + 1
        self._unheard.pop(partition, None)
        if end <= begin:
            return
        places[partition] = end
        dead = [] if damage is None else [DeadLetter(partition, offset, f"a damaged batch: {damage.str()}", b"")]
        if begin >= 0 or dead:
            nothing = self._payload.decode([]).batch
            chunks.append(Chunk(partition, begin if begin >= 0 else offset, end, nothing, np.zeros(0, np.int64), dead))

    def _expected(self, partition: int, messages: list[kafka.Message]) -> list[kafka.Message]:
        """Those that follow what was given before."""
        expected = self._next.get(partition)
        if expected is None or not messages:
            return []
        if partition in self._moved or partition in self._astray:
            self._astray.add(partition)
            return []
        if (messages[0].offset() or 0) < expected:
            return [each for each in messages if (each.offset() or 0) >= expected]
        return messages

    def _chunk(self, partition: int, places: dict[int, int], messages: list[kafka.Message]) -> Chunk:
        import confluent_kafka as kafka

        values: list[bytes | None] = list(map(kafka.Message.value, messages))
        decoded = self._payload.decode(values)
        dead = [
            DeadLetter(partition, messages[position].offset() or 0, reason, values[position] or b"")
            for position, reason in sorted(decoded.bad.items())
        ]
        begin, first = places[partition], messages[0].offset() or 0
        places[partition] = after = (messages[-1].offset() or 0) + 1
        self._unheard.pop(partition, None)
        if not self._payload.rows_apart:
            self._rows_a_message = 0.9 * self._rows_a_message + 0.1 * max(1.0, decoded.batch.num_rows / len(messages))
        arrived = _arrived_us(messages)[decoded.source]
        return Chunk(partition, begin if begin >= 0 else first, after, decoded.batch, arrived, dead)

    # Partitions.

    def _start(self) -> None:
        if self._grouped:
            with told(f"reading topic {self._topic}"):
                self._consumer.subscribe([self._topic], on_assign=self._assigned, on_revoke=self._revoked)
        else:
            self._own_new(self._listed())
        self._started = True

    def _listed(self) -> list[int]:
        """The topic's partitions, a shard's own alone."""
        try:
            found = partitions_listed(self._consumer, self._topic)
        except VireoError:
            if not self._started:
                self._consumer.poll(0)  # brings what the connection met
            self._raise_refusal()
            raise
        if self._shard is not None and len(found) < self._shard.of:
            raise FailedPrecondition(
                f"topic {self._topic} has {len(found)} partitions, too few for {self._shard.of} shards: each needs one"
            )
        return own_partitions(found, self._shard)

    def _own_new(self, partitions: Iterable[int]) -> None:
        import confluent_kafka as kafka

        new = sorted(set(partitions) - set(self._next))
        if not new:
            return
        self._own(new)
        places = [kafka.TopicPartition(self._topic, each, self._next[each]) for each in sorted(self._next)]
        self._consumer.assign(places)

    def _own(self, partitions: list[int]) -> None:
        import confluent_kafka as kafka

        starts = self._owner.assigned(partitions)
        for each in partitions:
            self._next[each] = starts.get(each, kafka.OFFSET_BEGINNING)
            self._unheard[each] = self._fetched_end(each)
            self._failures.pop(each, None)
        self._probed_s = time.monotonic()

    def _assigned(self, consumer: kafka.Consumer, partitions: list[kafka.TopicPartition]) -> None:
        import confluent_kafka as kafka

        gained = [each.partition for each in partitions]
        self._moved |= set(gained)
        try:
            self._own(gained)
        except BaseException as error:
            self._fault, gained = error, []
        places = [kafka.TopicPartition(self._topic, each, self._next[each]) for each in gained]
        if self._in_steps:
            consumer.incremental_assign(places)
        else:
            consumer.assign(places)

    def _revoked(self, consumer: kafka.Consumer, partitions: list[kafka.TopicPartition]) -> None:
        lost = [each.partition for each in partitions]
        self._moved |= set(lost)
        self._give_back(lost)
        if self._in_steps:
            consumer.incremental_unassign(partitions)
        else:
            consumer.unassign()

    def _give_back(self, partitions: list[int]) -> None:
        held = [each for each in partitions if each in self._next]
        try:
            if held:
                self._owner.revoked(held)
        except BaseException as error:
            self._fault = error
        self._commit(held)
        for each in held:
            del self._next[each]
            self._committed.pop(each, None)
            self._failures.pop(each, None)
            self._unheard.pop(each, None)
        self._astray.difference_update(held)

    def _put_back(self) -> None:
        """Places partitions whose messages were thrown away at what is expected of them; until that works all of theirs are."""
        import confluent_kafka as kafka

        for each in sorted(self._astray):
            place = kafka.TopicPartition(self._topic, each, self._next[each]) if each in self._next else None
            with contextlib.suppress(kafka.KafkaException):  # not being fetched yet: in the next turn
                if place is not None:
                    self._consumer.seek(place)
                self._astray.discard(each)

    # What goes wrong.

    def _met(self, error: kafka.KafkaError) -> None:
        self._trouble = more_telling(self._trouble, error)

    def _raise_lasting(self) -> None:
        """What no further read can mend: the owner failed, or a place is gone."""
        if self._fault is not None:
            raise self._fault
        for failure in self._failures.values():
            raise failure

    def _raise_refusal(self) -> None:
        """What the broker said no to. Said once for each time, since a password may be changed."""
        if self._trouble is not None:
            error = translated(self._trouble.name(), self._trouble.str(), f"reading topic {self._topic}")
            if isinstance(error, Unauthenticated | FailedPrecondition | NotFound):
                self._trouble = None
                raise error

    def _look_into_silence(self, out_of_time: bool) -> None:
        """Where nothing came: whether the broker is there, and whether a place lies past the end that it tells in fetches.

        What it answers when asked for the end is no such proof: not every broker counts right, and a fetch may still be due.
        """
        about = f"reading topic {self._topic}"
        if time.monotonic() - self._probed_s < PROBE_S:
            if self._down and self._trouble is not None and out_of_time:
                raise translated(self._trouble.name(), self._trouble.str(), about)
            return
        if self._trouble is not None:
            if not out_of_time:
                return
            self._probed_s, self._down = time.monotonic(), True
            self._listed()
            self._trouble, self._down = None, False
        self._probed_s = time.monotonic()
        for each, before in sorted(self._unheard.items()):
            if (end := self._fetched_end(each)) == before:
                self._watermarks(each)  # raises where it is not there
            elif self._next[each] > end:
                self._failures[each] = self._out_of_range(each)

    def _fetched_end(self, partition: int) -> int:
        """Below 0 where no fetch has told one."""
        import confluent_kafka as kafka

        with told(f"reading topic {self._topic}"):
            found = self._consumer.get_watermark_offsets(kafka.TopicPartition(self._topic, partition), cached=True)
        return found[1] if found is not None else kafka.OFFSET_INVALID

    def _watermarks(self, partition: int) -> tuple[int, int]:
        import confluent_kafka as kafka

        with told(f"reading topic {self._topic}"):
            found = self._consumer.get_watermark_offsets(kafka.TopicPartition(self._topic, partition), REQUEST_S)
        if found is None:
            raise translated("_TIMED_OUT", "no answer", f"reading topic {self._topic}")
        return found

    def _out_of_range(self, partition: int) -> VireoError:
        wanted = self._next[partition]
        where = f"offset {wanted} of partition {partition} of topic {self._topic}"
        try:
            earliest, latest = self._watermarks(partition)
        except VireoError:
            return OffsetDeleted(f"{where} is not kept")
        if wanted > latest:
            return InvalidArgument(f"{where} lies past its end: the next entry gets offset {latest}")
        return OffsetDeleted(f"{where} is no longer kept: the earliest is {earliest}")

    # In passing.

    def _housekeeping(self) -> None:
        now_s = time.monotonic()
        if self._grouped and now_s - self._committed_s >= COMMIT_S:
            self._committed_s = now_s
            self._commit(list(self._next))
        if not self._grouped and now_s - self._listed_s >= PARTITIONS_S:
            self._listed_s = now_s
            with contextlib.suppress(VireoError):
                self._own_new(self._listed())

    def _commit(self, partitions: Sequence[int]) -> None:
        import confluent_kafka as kafka

        if not self._grouped:
            return
        moved = {each: at for each in partitions if (at := self._next[each]) >= 0 and self._committed.get(each) != at}
        if moved:
            places = [kafka.TopicPartition(self._topic, each, at) for each, at in moved.items()]
            with contextlib.suppress(kafka.KafkaException):  # a figure for an operator, nothing hangs on it
                self._consumer.commit(offsets=places, asynchronous=True)
                self._committed |= moved

    def close(self) -> None:
        """LogReader."""
        self._closing = True
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if not self._grouped:
                self._give_back(list(self._next))
            self._consumer.close()
            self._give_back(list(self._next))
        if self._fault is not None:
            raise self._fault


_OUT_OF_RANGE: Final = (1, -140)
"""OFFSET_OUT_OF_RANGE, and librdkafka's word that it may not reset an offset by itself."""

_DAMAGED: Final = (-199, -198)
"""A batch whose checksum is wrong, or that can't be decompressed: librdkafka goes on after it."""


@contextlib.contextmanager
def _collector_at_rest() -> Iterator[None]:
    """A batch is some 100,000 new objects, none garbage: looking through them again and again costs a third of the reading."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _arrived_us(messages: list[kafka.Message]) -> npt.NDArray[np.int64]:
    import confluent_kafka as kafka

    pairs = chain.from_iterable(map(kafka.Message.timestamp, messages))
    stamps = np.fromiter(pairs, np.int64, 2 * len(messages)).reshape(-1, 2)
    return np.where(stamps[:, 0] == kafka.TIMESTAMP_NOT_AVAILABLE, UNKNOWN_ARRIVAL_US, stamps[:, 1] * 1_000)
