"""How a log is declared in the spec: its columns, and where it lives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from engine.limits import LOG_SEGMENT_BYTES

ColumnType = Literal[
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64",
    "string", "binary", "timestamp", "date",
]  # fmt: skip
"""`timestamp` is microseconds, UTC."""


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """One column; `nullable: false` refuses rows without a value."""

    type: ColumnType
    nullable: bool = True


@dataclass(frozen=True, slots=True)
class LocalLogSpec:
    """Segment files in a folder. `durability`: `fsync` answers an append once the disk has it, `os` once the operating
    system has it (a crash of the process loses nothing, a power cut may)."""

    path: str
    durability: Literal["fsync", "os"] = "fsync"
    segment_bytes: int = LOG_SEGMENT_BYTES


@dataclass(frozen=True, slots=True)
class ShardSpec:
    """Shard `number` (from 0) of `of`: it reads the partitions p with p mod `of` = `number`."""

    number: int
    of: int


@dataclass(frozen=True, slots=True)
class KafkaLogSpec:
    """A Kafka topic (or an Azure event hub). `settings` go to librdkafka as they are; `password_env` names the environment
    variable with the SASL password (for Event Hubs the connection string).

    `format` of a message's value: one JSON object or one Avro record a message, or an Arrow IPC stream of any number of rows.
    `avro_schema` is a record schema's JSON or a file with it; `avro_schema_id`: messages begin with Confluent's header, which
    names this schema of their registry (null: they have no header).
    `group`: partitions are shared with the other members of this consumer group, and the topic must be keyed by the entity;
    null: every process reads all partitions. `dead_letter_topic` takes what cannot be used. `key`: the column whose value keys
    what is produced. `shard`: this process reads the partitions of one shard alone; a host of several processes sets it.
    """

    bootstrap_servers: str
    topic: str
    format: Literal["json", "avro", "arrow"] = "json"
    avro_schema: str | None = None
    avro_schema_id: int | None = None
    key: str | None = None
    group: str | None = None
    dead_letter_topic: str | None = None
    security: Literal["plaintext", "ssl", "sasl_ssl", "sasl_plaintext"] = "plaintext"
    username: str | None = None
    password_env: str | None = None
    event_hubs: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    shard: ShardSpec | None = None


@dataclass(frozen=True, slots=True)
class LogSpec:
    """Exactly one of `local` and `kafka`. Columns are name: type, or name: {type, nullable}."""

    schema: Mapping[str, ColumnSpec | str]
    local: LocalLogSpec | None = None
    kafka: KafkaLogSpec | None = None

    def sharded(self, shard: ShardSpec) -> LogSpec:
        """The same topic, of which `shard` alone is read."""
        assert self.kafka is not None, "checked with the spec"
        return replace(self, kafka=replace(self.kafka, shard=shard))
