"""Keys fall into the partitions that Kafka's own clients choose."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pyarrow as pa
import pytest

from engine.log.kafka_keys import key_bytes, murmur2, partitions_of
from tests.engine.log.broker import Tansu, tansu


def slow_murmur2(data: bytes) -> int:
    """As org.apache.kafka.common.utils.Utils computes it, byte by byte."""
    mask, mix = 0xFFFFFFFF, 0x5BD1E995
    hashed = 0x9747B28C ^ len(data)
    for at in range(0, len(data) // 4 * 4, 4):
        word = int.from_bytes(data[at : at + 4], "little") * mix & mask
        hashed = hashed * mix & mask ^ ((word ^ word >> 24) * mix & mask)
    if tail := data[len(data) // 4 * 4 :]:
        hashed = (hashed ^ int.from_bytes(tail, "little")) * mix & mask
    hashed = (hashed ^ hashed >> 13) * mix & mask
    return hashed ^ hashed >> 15


def test_hashes_are_kafkas_own() -> None:
    known = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536, b"abc": 479470107}
    assert [each - (1 << 32) if each >> 31 else each for each in murmur2(pa.array(known)).tolist()] == [*known.values()]


def test_hashes_equal_the_slow_ones_for_any_bytes_sliced_and_null() -> None:
    for seed in range(50):
        rng = random.Random(seed)
        keys = [rng.randbytes(rng.randrange(30)) if rng.random() < 0.9 else None for _ in range(rng.randrange(1, 60))]
        start = rng.randrange(len(keys))
        got = murmur2(pa.array(keys, pa.binary()).slice(start))
        assert got.tolist() == [slow_murmur2(each or b"") for each in keys[start:]], f"seed {seed}"


def test_keys_are_texts_digits_or_bytes() -> None:
    assert key_bytes(pa.array(["ü", None])).to_pylist() == ["ü".encode(), None]
    assert key_bytes(pa.array([-7, 10**15])).to_pylist() == [b"-7", b"1000000000000000"]
    assert key_bytes(pa.array([b"\0"])).to_pylist() == [b"\0"]


@pytest.fixture(scope="module")
def broker() -> Iterator[Tansu]:
    with tansu() as broker:
        yield broker


def test_partitions_are_those_of_librdkafkas_murmur2_random(broker: Tansu) -> None:
    import confluent_kafka as kafka

    topic = broker.topic(7)
    keys = [f"card-{each}" * (each % 4 + 1) for each in range(200)]
    landed: dict[str, int] = {}
    client = kafka.Producer({"bootstrap.servers": broker.address, "partitioner": "murmur2_random", "log_level": 0})

    def answered(_: object, message: kafka.Message) -> None:
        landed[(message.key() or b"").decode()] = message.partition() or 0

    for each in keys:
        client.produce(topic, b"", each, on_delivery=answered)
    client.flush(20)
    assert partitions_of(key_bytes(pa.array(keys)), 7, 0).tolist() == [landed[each] for each in keys]
    assert partitions_of(key_bytes(pa.array([None, keys[5]])), 7, 3).tolist() == [3, landed[keys[5]]]
