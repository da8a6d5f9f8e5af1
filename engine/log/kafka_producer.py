"""Sends messages to Kafka and returns once the brokers have acknowledged them. It knows no rows and no formats."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from engine.errors import FailedPrecondition, ResourceExhausted
from engine.log.kafka_settings import MESSAGE_OVERHEAD_BYTES, PRODUCER_LOST, Settings, translated

if TYPE_CHECKING:
    import confluent_kafka as kafka

FLIGHT_MESSAGES_MAX: Final = 10_000
FLIGHT_BYTES_MAX: Final = 16 << 20
"""Of what is handed to librdkafka at once."""

UNANSWERED_BYTES_MAX: Final = 256 << 20
UNANSWERED_MESSAGES_MAX: Final = 500_000
"""Of what all threads have handed over and brokers have not answered; past it senders wait."""

ROOM_WAIT_S_MAX: Final = 120.0
POLL_S: Final = 0.1
METADATA_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Message:
    """What is produced. `headers` are for few messages: those with headers go one by one."""

    value: bytes
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()

    @property
    def size(self) -> int:
        """Bytes it counts for."""
        return len(self.value) + len(self.key or b"") + sum(len(name) + len(held) for name, held in self.headers)


class _Flight:
    """Messages handed over together. The polling thread alone counts `answers`, the sender alone says how many are `due`."""

    __slots__ = ("_line", "answers", "due", "error", "first", "landed", "last", "messages", "size")

    def __init__(self, line: _Line, messages: int, size: int) -> None:
        self._line = line
        self.messages = messages
        self.size = size
        self.due = -1
        self.answers = 0
        self.first = self.last = -1
        self.error: kafka.KafkaError | None = None
        self.landed = False

    def answered(self, error: kafka.KafkaError | None, message: kafka.Message) -> None:
        if error is not None:
            self.error = self.error or error
        else:
            offset = message.offset() or 0
            self.first = offset if self.first < 0 else min(self.first, offset)
            self.last = max(self.last, offset)
        self.answers += 1
        if self.answers == self.due:
            self._line.land(self)

    def departed(self, refused: Sequence[kafka.KafkaError]) -> None:
        """Of messages that librdkafka refused no answer comes."""
        if refused:
            self.error = self.error or refused[0]
        self.due = self.messages - len(refused)
        if self.answers == self.due:
            self._line.land(self)


class _Line:
    """One librdkafka producer, and the thread that takes its answers while there are any to come."""

    def __init__(self, settings: Settings, topic: str) -> None:
        import confluent_kafka as kafka

        self.client = kafka.Producer(dict(settings))
        with contextlib.suppress(kafka.KafkaException):  # asked now, or the first messages wait up to a second for it
            self.client.list_topics(topic, timeout=METADATA_S)
        self.broken = False
        self.closed = False
        self._changed = threading.Condition()
        self._messages = self._bytes = 0
        self._thread = threading.Thread(target=self._take_answers, name="kafka-answers", daemon=True)
        self._thread.start()

    def depart(self, topic: str, messages: Sequence[Message], partition: int) -> _Flight:
        flight = _Flight(self, len(messages), sum(each.size for each in messages))
        with self._changed:
            if not self._changed.wait_for(lambda: self._has_room(flight.size), ROOM_WAIT_S_MAX):
                raise ResourceExhausted(f"topic {topic}: {self._bytes} bytes wait for the brokers' answers already")
            self._messages, self._bytes = self._messages + flight.messages, self._bytes + flight.size
            self._changed.notify_all()
        if any(each.headers for each in messages):
            flight.departed(self._hand_over_singly(topic, messages, flight))
        else:
            flight.departed(self._hand_over(topic, messages, partition, flight))
        return flight

    def _has_room(self, size: int) -> bool:
        fits = self._bytes + size <= UNANSWERED_BYTES_MAX and self._messages < UNANSWERED_MESSAGES_MAX
        return fits or not self._messages

    def _hand_over(
        self, topic: str, messages: Sequence[Message], partition: int, flight: _Flight
    ) -> list[kafka.KafkaError]:
        rows: list[dict[str, Any]] = [{"value": each.value, "key": each.key} for each in messages]
        taken = self.client.produce_batch(topic, rows, partition=partition, on_delivery=flight.answered)
        return [] if taken == len(rows) else [row["_error"] for row in rows if "_error" in row]

    def _hand_over_singly(self, topic: str, messages: Sequence[Message], flight: _Flight) -> list[kafka.KafkaError]:
        import confluent_kafka as kafka

        refused = []
        for each in messages:
            try:
                self.client.produce(
                    topic, each.value, each.key, headers=list(each.headers), on_delivery=flight.answered
                )
            except kafka.KafkaException as error:
                refused.append(error.args[0])
            except BufferError:
                refused.append(kafka.KafkaError(kafka.KafkaError._QUEUE_FULL))
        return refused

    def land(self, flight: _Flight) -> None:
        with self._changed:
            if flight.landed:
                return
            self._messages, self._bytes = self._messages - flight.messages, self._bytes - flight.size
            flight.landed = True
            self.broken |= flight.error is not None and (flight.error.fatal() or flight.error.name() in PRODUCER_LOST)
            self._changed.notify_all()

    def wait(self, flights: Iterable[_Flight]) -> None:
        """librdkafka answers every message within its delivery timeout."""
        waited = list(flights)
        with self._changed:
            self._changed.wait_for(lambda: all(each.landed for each in waited))

    def _take_answers(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._messages or self.closed)
                if not self._messages:
                    return
            self.client.poll(POLL_S)

    def close(self) -> None:
        with self._changed:
            self.closed = True
            self._changed.notify_all()
        self._thread.join()
        with contextlib.suppress(Exception):  # all was answered; what broke it was told then
            self.client.close()


class Producer:
    """Thread-safe. A client that may have lost count of what the brokers have is replaced for the next call."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._line: _Line | None = None
        self._closed = False

    def send(self, topic: str, parts: Mapping[int, Sequence[Message]]) -> dict[int, tuple[int, int]]:
        """Messages by partition (-1: any), in order; returns when all are acknowledged, with each partition's first and next
        offset. Raises what the first refused message met; others may be in the log."""
        line = self._live(topic)
        flights: dict[int, list[_Flight]] = {}
        with _told(topic):
            for partition, messages in parts.items():
                departed = flights.setdefault(partition, [])
                departed.extend(line.depart(topic, piece, partition) for piece in _pieces(messages))
        line.wait(each for some in flights.values() for each in some)
        for some in flights.values():
            for each in some:
                if each.error is not None:
                    raise translated(each.error.name(), each.error.str(), f"appending to topic {topic}")
        return {
            partition: (min(each.first for each in some), max(each.last for each in some) + 1)
            for partition, some in flights.items()
            if some
        }

    def _live(self, topic: str) -> _Line:
        with self._lock:
            if self._closed:
                raise FailedPrecondition("the log is closed")
            if self._line is not None and self._line.broken:
                self._line.close()
                self._line = None
            if self._line is None:
                with _told(topic):
                    self._line = _Line(self._settings, topic)
            return self._line

    def close(self) -> None:
        """Waits for what was handed over."""
        with self._lock:
            self._closed = True
            if self._line is not None:
                self._line.close()
            self._line = None


@contextlib.contextmanager
def _told(topic: str) -> Iterator[None]:
    import confluent_kafka as kafka

    try:
        yield
    except kafka.KafkaException as error:
        raise translated(error.args[0].name(), error.args[0].str(), f"appending to topic {topic}") from error
    except BufferError as error:
        raise ResourceExhausted(f"appending to topic {topic}: the client's queue is full") from error


def _pieces(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    start = size = 0
    for position, each in enumerate(messages):
        if position > start and (position - start >= FLIGHT_MESSAGES_MAX or size + each.size > FLIGHT_BYTES_MAX):
            yield messages[start:position]
            start, size = position, 0
        size += each.size + MESSAGE_OVERHEAD_BYTES // 16
    if start < len(messages):
        yield messages[start:]
