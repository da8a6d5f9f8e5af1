"""The Kafka log over a real broker: the contract of every log, keys, groups' partitions, errors."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest

from engine.log.declaration import KafkaLogSpec
from engine.log.kafka import KafkaLog
from tests.engine.log.broker import Tansu, tansu
from tests.engine.log.contract import SCHEMA, LogContract


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
