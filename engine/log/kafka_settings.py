"""What a Kafka log's declaration means to librdkafka, and what librdkafka's errors mean to a user. Pure, but for the environment
variable that holds the password; it knows no Kafka client, only the names of its settings and errors.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from engine.errors import (
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    OffsetDeleted,
    ResourceExhausted,
    SpecError,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    VireoError,
    quoted,
)
from engine.log.declaration import KafkaLogSpec

Settings = dict[str, str | int | bool]

MESSAGE_BYTES_DEFAULT: Final = 1_000_000
"""librdkafka's and, within a few bytes, the brokers' default largest message."""

EVENT_HUBS_MESSAGE_BYTES_MAX: Final = 1_046_528
"""Largest request Azure Event Hubs takes."""

MESSAGE_OVERHEAD_BYTES: Final = 1_024
"""Left free for what a batch of one message carries beside its key and value."""

EVENT_HUBS_USER: Final = "$ConnectionString"

_OURS: Final[Mapping[str, str]] = {
    "bootstrap.servers": "set by 'bootstrap_servers'",
    "group.id": "set by 'group'",
    "security.protocol": "set by 'security'",
    "sasl.username": "set by 'username'",
    "sasl.password": "taken from the environment variable that 'password_env' names",
    "enable.auto.commit": "offsets live in snapshots",
    "enable.auto.offset.store": "offsets live in snapshots",
    "auto.offset.reset": "a place that is no longer kept is an error",
    "enable.partition.eof": "the reader needs it",
}
"""Settings a spec may not give, and why."""


def client_settings(spec: KafkaLogSpec) -> Settings:
    """What every client of this log is made with. Raises SpecError where the declaration contradicts itself."""
    for name, why in _OURS.items():
        if name in spec.settings:
            raise SpecError(f"kafka.settings.{name}: not to be set here: {why}")
    settings: Settings = {
        "bootstrap.servers": spec.bootstrap_servers,
        "client.id": "vireo",
        "log_level": 0,  # errors come by callback; librdkafka's own log would go to stderr
        "reconnect.backoff.max.ms": 1_000,
        "socket.keepalive.enable": True,
        "socket.nagle.disable": True,
    }
    if spec.event_hubs:
        settings |= {"metadata.max.age.ms": 180_000, "connections.max.idle.ms": 180_000}
    return settings | _security(spec)


def _security(spec: KafkaLogSpec) -> Settings:
    security = "sasl_ssl" if spec.event_hubs and spec.security == "plaintext" else spec.security
    if not security.startswith("sasl"):
        for name, given in (("username", spec.username), ("password_env", spec.password_env)):
            if given is not None:
                raise SpecError(f"kafka.{name}: used with security sasl_ssl or sasl_plaintext, here it is {security}")
        return {"security.protocol": security.upper()}
    settings: Settings = {"security.protocol": security.upper()}
    if "sasl.mechanism" not in spec.settings and "sasl.mechanisms" not in spec.settings:
        settings["sasl.mechanism"] = "PLAIN"
    username = spec.username or (EVENT_HUBS_USER if spec.event_hubs else None)
    if username is not None:
        settings |= {"sasl.username": username, "sasl.password": _password(spec)}
    return settings


def _password(spec: KafkaLogSpec) -> str:
    if spec.password_env is None:
        raise SpecError("kafka.password_env: name the environment variable that holds the SASL password")
    password = os.environ.get(spec.password_env)
    if not password:
        raise SpecError(f"kafka.password_env: the environment variable {quoted(spec.password_env)} is not set")
    return password


def producer_settings(spec: KafkaLogSpec) -> Settings:
    """For appending: idempotent, acknowledged by all in-sync replicas; an append is given up after a minute."""
    settings = client_settings(spec) | {
        "enable.idempotence": True,
        "linger.ms": 1,
        "delivery.timeout.ms": 60_000,
        "queue.buffering.max.messages": 1_000_000,
    }
    if spec.event_hubs:
        settings |= {"request.timeout.ms": 60_000, "delivery.timeout.ms": 120_000, "compression.type": "none"}
    return settings | dict(spec.settings) | {"message.max.bytes": message_bytes_max(spec)}


def consumer_settings(spec: KafkaLogSpec) -> Settings:
    """For reading: from exactly where the owner says, only what is committed, large fetches.

    The back-off of a full queue is 20 ms, not a second, or a fast reader stutters; a fetch waits 50 ms at the broker, which
    brokers that look in turns need to be prompt.
    """
    settings = client_settings(spec) | {
        "group.id": spec.group or "vireo-reads-all-partitions",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
        "fetch.queue.backoff.ms": 20,
        "fetch.wait.max.ms": 50,
        "fetch.error.backoff.ms": 100,
        "check.crcs": True,
    }
    if spec.group is not None:
        settings["partition.assignment.strategy"] = "cooperative-sticky"
    if spec.event_hubs:
        settings["session.timeout.ms"] = 30_000
    return settings | dict(spec.settings)


def rebalances_in_steps(settings: Settings) -> bool:
    """Whether partitions are given and taken a few at a time (cooperative), or all at once (eager)."""
    strategy = str(settings.get("partition.assignment.strategy", ""))
    return "cooperative" in strategy or settings.get("group.protocol") == "consumer"


def message_bytes_max(spec: KafkaLogSpec) -> int:
    """Largest message that may be produced."""
    given = spec.settings.get("message.max.bytes", "")
    wanted = int(given) if given.isdecimal() else MESSAGE_BYTES_DEFAULT
    return (
        min(wanted if given else EVENT_HUBS_MESSAGE_BYTES_MAX, EVENT_HUBS_MESSAGE_BYTES_MAX)
        if spec.event_hubs
        else wanted
    )


_KINDS: Final[Mapping[str, type[VireoError]]] = {
    "_AUTHENTICATION": Unauthenticated,
    "SASL_AUTHENTICATION_FAILED": Unauthenticated,
    "TOPIC_AUTHORIZATION_FAILED": FailedPrecondition,
    "GROUP_AUTHORIZATION_FAILED": FailedPrecondition,
    "CLUSTER_AUTHORIZATION_FAILED": FailedPrecondition,
    "TRANSACTIONAL_ID_AUTHORIZATION_FAILED": FailedPrecondition,
    "_UNKNOWN_TOPIC": NotFound,
    "_UNKNOWN_PARTITION": NotFound,
    "UNKNOWN_TOPIC_OR_PART": NotFound,
    "MSG_SIZE_TOO_LARGE": TooLarge,
    "RECORD_LIST_TOO_LARGE": TooLarge,
    "INVALID_MSG": InvalidArgument,
    "INVALID_RECORD": InvalidArgument,
    "_QUEUE_FULL": ResourceExhausted,
    "THROTTLING_QUOTA_EXCEEDED": ResourceExhausted,
    "OFFSET_OUT_OF_RANGE": OffsetDeleted,
    "_AUTO_OFFSET_RESET": OffsetDeleted,
    "_UNSUPPORTED_FEATURE": Unimplemented,
    "_NOT_IMPLEMENTED": Unimplemented,
    "UNSUPPORTED_VERSION": Unimplemented,
    "_INVALID_ARG": SpecError,
    "_CONFLICT": SpecError,
}
"""What will not pass by waiting, or has a word of its own."""

_PASSING: Final = frozenset(
    {
        "_ALL_BROKERS_DOWN", "_TRANSPORT", "_SSL", "_RESOLVE", "_TIMED_OUT", "_TIMED_OUT_QUEUE", "_MSG_TIMED_OUT", "_WAIT_COORD",
        "_WAIT_CACHE", "_NOENT", "_FATAL", "_PURGE_QUEUE", "_PURGE_INFLIGHT", "_RETRY", "_MAX_POLL_EXCEEDED",
        "REQUEST_TIMED_OUT", "LEADER_NOT_AVAILABLE", "NOT_LEADER_FOR_PARTITION", "BROKER_NOT_AVAILABLE",
        "REPLICA_NOT_AVAILABLE", "NETWORK_EXCEPTION", "COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE",
        "NOT_COORDINATOR", "NOT_ENOUGH_REPLICAS", "NOT_ENOUGH_REPLICAS_AFTER_APPEND", "REBALANCE_IN_PROGRESS",
        "KAFKA_STORAGE_ERROR", "UNKNOWN_LEADER_EPOCH", "FENCED_LEADER_EPOCH",
    }
)  # fmt: skip
"""What another try may get past."""

PRODUCER_LOST: Final = frozenset(
    {
        "_FATAL", "_MSG_TIMED_OUT", "UNKNOWN_PRODUCER_ID", "OUT_OF_ORDER_SEQUENCE_NUMBER", "INVALID_PRODUCER_EPOCH",
        "INVALID_PRODUCER_ID_MAPPING", "PRODUCER_FENCED", "_FENCED",
    }
)  # fmt: skip
"""After these a producer and the brokers may disagree on what comes next: another producer begins anew, and may get past."""


def translated(name: str, said: str, about: str) -> VireoError:
    """The user's error for librdkafka's `name`, which `said` something; `about` names what was being done, and to what."""
    if name in ("_SSL", "_TRANSPORT") and "certificate" in said:  # not to be mended by waiting
        return Unauthenticated(f"{about}: {said} (SSL)")
    kind = _KINDS.get(name) or (Unavailable if name in _PASSING | PRODUCER_LOST else Internal)
    return kind(f"{about}: {said} ({name.lstrip('_')})")
