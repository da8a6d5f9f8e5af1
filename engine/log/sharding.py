"""A log's partitions shared out among shards, and the shard that a key's rows are in. Pure.

Partition p belongs to shard p mod N of N. The partition of a key is the one that the log's producers choose, so that who
asks by key and who folds the partition agree without asking each other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.log.declaration import ShardSpec
from engine.log.kafka_keys import key_bytes, partitions_of
from engine.log.log import Offsets


def own_partitions(partitions: Collection[int], shard: ShardSpec | None) -> list[int]:
    """Those of `partitions` that `shard` reads, ascending; all of them where there are no shards."""
    return sorted(each for each in partitions if shard is None or each % shard.of == shard.number)


def rows_by_shard(keys: pa.Array, partitions: int, shards: int) -> dict[int, npt.NDArray[np.int64]]:
    """The rows of `keys` (no nulls) that each of `shards` is to be asked for, ascending; shards without any are left out.

    `partitions` is how many the log has.
    """
    if shards == 1:
        return {0: np.arange(len(keys))} if len(keys) else {}
    numbers = partitions_of(key_bytes(keys), partitions, 0) % shards
    return {int(each): np.flatnonzero(numbers == each) for each in np.unique(numbers)}


def offsets_by_shard(offsets: Offsets, shards: int) -> Mapping[int, dict[int, int]]:
    """To each of `shards` the offsets of its own partitions; shards without any are left out."""
    found: dict[int, dict[int, int]] = {}
    for partition, offset in offsets.items():
        found.setdefault(partition % shards, {})[partition] = offset
    return found
