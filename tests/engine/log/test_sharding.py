"""Rows and offsets go to the shard that folds their partition, and tokens say which offsets."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest

from engine import InvalidArgument, ShardSpec, offsets_of, token_of
from engine.log.kafka_keys import key_bytes, partitions_of
from engine.log.sharding import offsets_by_shard, own_partitions, rows_by_shard


def test_every_key_is_asked_of_the_shard_that_folds_its_partition_and_of_no_other() -> None:
    for seed in range(50):
        rng = random.Random(seed)
        shards = rng.randrange(1, 6)
        partitions = shards + rng.randrange(8)
        keys = pa.array([f"card-{rng.randrange(40)}" for _ in range(rng.randrange(60))], pa.string())
        owners = {p: s for s in range(shards) for p in own_partitions(range(partitions), ShardSpec(s, shards))}
        assert sorted(owners) == [*range(partitions)], f"seed {seed}"
        asked = np.full(len(keys), -1)
        for shard, rows in rows_by_shard(keys, partitions, shards).items():
            assert (np.diff(rows) > 0).all(), f"seed {seed}"
            assert (asked[rows] == -1).all(), f"seed {seed}"
            asked[rows] = shard
        wanted = [owners[int(each)] for each in partitions_of(key_bytes(keys), partitions, 0)]
        assert asked.tolist() == wanted, f"seed {seed}"


def test_offsets_go_to_the_shard_of_their_partition() -> None:
    assert offsets_by_shard({0: 5, 1: 7, 4: 9, 7: 2}, 3) == {0: {0: 5}, 1: {1: 7, 4: 9, 7: 2}}


def test_a_token_is_read_back_and_joined_tokens_mean_the_later_offset() -> None:
    assert token_of({3: 5, 0: 17}) == "0:17,3:5"
    assert offsets_of("0:17,3:5") == {0: 17, 3: 5}
    assert offsets_of("0:17,3:5,0:4") == {0: 17, 3: 5}
    assert (offsets_of(""), token_of({})) == ({}, "")


@pytest.mark.parametrize("token", ["x", "1", "1:", "-1:4", "1:²", "1:2,", "1:" + "9" * 40, ",".join(["1:1"] * 5000)])
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^after: "):
        offsets_of(token)
