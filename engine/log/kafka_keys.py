"""Which partition a row's key belongs to: what Kafka's own Java clients choose, so that all writers agree. Pure, numpy only.

The partition is `(murmur2(key) & 0x7fffffff) % partitions`, librdkafka's `murmur2_random`. The hash is Austin Appleby's
MurmurHash2 with Kafka's seed 0x9747b28c.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_SEED: Final = np.uint32(0x9747B28C)
_MIX: Final = np.uint32(0x5BD1E995)
_SHIFT: Final = np.uint32(24)


def key_bytes(column: pa.Array) -> pa.Array:
    """Keys as Kafka carries them, binary: a text's UTF-8, a whole number's decimal digits, bytes as they are; null stays null."""
    if pa.types.is_binary(column.type):
        return column
    text = column if pa.types.is_string(column.type) else column.cast(pa.string())
    return text.cast(pa.binary())


def partitions_of(keys: pa.Array, partitions: int, null_partition: int) -> npt.NDArray[np.int32]:
    """The partition of each key, int32 [rows]; rows without a key go to `null_partition`."""
    hashes = murmur2(keys)
    chosen = ((hashes & np.uint32(0x7FFFFFFF)) % np.uint32(partitions)).astype(np.int32)
    if keys.null_count:
        chosen[np.asarray(keys.is_null())] = null_partition
    return chosen


def murmur2(keys: pa.Array) -> npt.NDArray[np.uint32]:
    """Hash of each value of a binary array, uint32 [rows]; of a null that of no bytes."""
    keys = pa.concat_arrays([keys.fill_null(b"")])
    offsets = np.frombuffer(keys.buffers()[1], np.int32)[keys.offset : keys.offset + len(keys) + 1].astype(np.int64)
    held = keys.buffers()[2]
    data = np.frombuffer(held, np.uint8) if held is not None and held.size else np.zeros(1, np.uint8)
    starts, lengths = offsets[:-1], np.diff(offsets)
    hashes = (_SEED ^ lengths.astype(np.uint32)).astype(np.uint32)
    with np.errstate(over="ignore"):
        _fold_words(hashes, data, starts, lengths)
        _fold_tails(hashes, data, starts, lengths)
        hashes ^= hashes >> np.uint32(13)
        hashes *= _MIX
        hashes ^= hashes >> np.uint32(15)
    return hashes


def _fold_words(
    hashes: npt.NDArray[np.uint32],
    data: npt.NDArray[np.uint8],
    starts: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
) -> None:
    rows = np.flatnonzero(lengths >= 4)
    position = 0
    while len(rows):
        word = _word(data, starts[rows] + position, 4) * _MIX
        word ^= word >> _SHIFT
        word *= _MIX
        hashes[rows] = hashes[rows] * _MIX ^ word
        position += 4
        rows = rows[lengths[rows] >= position + 4]


def _fold_tails(
    hashes: npt.NDArray[np.uint32],
    data: npt.NDArray[np.uint8],
    starts: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
) -> None:
    for tail in (1, 2, 3):
        rows = np.flatnonzero(lengths % 4 == tail)
        if len(rows):
            word = _word(data, starts[rows] + lengths[rows] - tail, tail)
            hashes[rows] = (hashes[rows] ^ word) * _MIX


def _word(data: npt.NDArray[np.uint8], at: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.uint32]:
    word = data[at].astype(np.uint32)
    for place in range(1, size):
        word |= data[at + place].astype(np.uint32) << np.uint32(8 * place)
    return word
