"""What a topic's clients, whichever they are, ask of librdkafka, with its exceptions as ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from engine.log.kafka_settings import translated

if TYPE_CHECKING:
    import confluent_kafka as kafka
    from confluent_kafka.admin import AdminClient

LIST_S: Final = 2.0


def partitions_listed(client: kafka.Consumer | AdminClient, topic: str) -> list[int]:
    """A topic's partitions; raises NotFound or Unavailable."""
    import confluent_kafka as kafka

    try:
        found = client.list_topics(topic, timeout=LIST_S).topics[topic]
    except kafka.KafkaException as error:
        raise translated(error.args[0].name(), error.args[0].str(), f"asking for topic {topic}") from error
    if found.error is not None:
        raise translated(found.error.name(), found.error.str(), f"asking for topic {topic}")
    return sorted(found.partitions)


def more_telling(before: kafka.KafkaError | None, error: kafka.KafkaError) -> kafka.KafkaError:
    """Of two troubles the one to tell: the later, unless it only sums up (all brokers are down) what the earlier explains."""
    import confluent_kafka as kafka

    return before if before is not None and error.code() == kafka.KafkaError._ALL_BROKERS_DOWN else error


@contextlib.contextmanager
def told(about: str) -> Iterator[None]:
    """Kafka's exceptions as ours; `about` says what was being done, and to what."""
    import confluent_kafka as kafka

    try:
        yield
    except kafka.KafkaException as error:
        raise translated(error.args[0].name(), error.args[0].str(), about) from error
