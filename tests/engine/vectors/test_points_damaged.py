"""Batches as they come over the wire, with bytes changed on the way: none may end the process, or be kept as something else."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest

from engine.errors import VireoError
from engine.vectors.points import checked_points
from engine.vectors.rows import points_schema
from tests.engine.vectors.test_points import SPEC, batch_of


def sent(title: pa.DataType, lists: pa.DataType) -> bytes:
    """Five points, every column there, as an Arrow IPC stream."""
    batch = batch_of(
        5,
        vector_text=pa.array([[1.0, 2, 3]] * 5),
        vector_words=pa.array([[[1.0, 2.0]], [], None, [[1.0, 2.0]] * 2, []]),
        sparse_splade_indices=pa.array([[1, 2], None, [], [3], [4, 5]]),
        sparse_splade_values=pa.array([[1.0, 2], None, [], [3], [4, 5]]),
        field_title=pa.array(["a", "é", None, "ccc", "a string that is no view of itself"], title),
        field_colour=pa.array(["a", "b", "a", None, "a"]).dictionary_encode(),
        field_tags=pa.array([["a"], None, ["b", "c"], [], ["d"]]),
        field_sizes=pa.array([[1], [2, 3], None, [], [4]], lists),
        field_at=pa.array([1, 2, None, 3, 4], pa.timestamp("s")),
        field_place=pa.array([[1.0, 2.0]] * 4 + [None]),
        field_price=pa.array([1, 2, None, 4, 5.0]),
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    whole: bytes = sink.getvalue().to_pybytes()
    return whole


@pytest.mark.parametrize("seed", range(6))
def test_bytes_changed_on_the_way_are_refused_or_still_make_points(seed: int) -> None:
    print(f"seed {seed}")
    dice = random.Random(seed)
    streams = [
        sent(pa.string_view(), pa.list_view(pa.int64())),
        sent(pa.large_string(), pa.large_list(pa.int32())),
        sent(pa.string(), pa.list_(pa.int64(), -1)),
    ]
    taken = 0
    for _ in range(300):
        raw = bytearray(dice.choice(streams))
        for _ in range(dice.choice([1, 1, 2, 4])):
            raw[dice.randrange(len(raw) // 3, len(raw))] = dice.choice([0, 1, 255, 127, 128, dice.randrange(256)])
        try:
            batches = list(pa.ipc.open_stream(bytes(raw)))
        except (pa.ArrowException, OSError, ValueError):  # whoever reads the stream tells that
            continue
        for batch in batches:
            try:
                found = checked_points(SPEC, batch)
            except VireoError as error:
                assert error.message.startswith("points")  # noqa: PT017
                continue
            found.validate(full=True)
            assert found.schema == points_schema(SPEC)
            taken += 1
    assert taken > 20
