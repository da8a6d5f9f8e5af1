"""The id map is a dictionary."""

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels import idmap

SIZES = [0, 1, 7, 8, 9, 63, 64, 65, 1000]


def located(keys: NDArray[np.uint64], locations: NDArray[np.int64], ids: NDArray[np.uint64]) -> list[int]:
    """Where these are."""
    found = np.empty(len(ids), np.int64)
    idmap.get(keys, locations, ids, found)
    return found.tolist()


def ids_of(rng: np.random.Generator, kind: str, number: int, span: int) -> NDArray[np.uint64]:
    """Small ids; or any, of which the greatest and 0 are some."""
    drawn = rng.integers(0, max(span, 1), number).astype(np.uint64)
    return drawn if kind == "small" else np.uint64(0) - drawn * np.uint64(0x9E3779B97F4A7C15)


@pytest.mark.parametrize("kind", ["small", "wide"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(3))
def test_it_is_a_dictionary_while_ids_come_move_and_go(seed: int, size: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    keys, locations = idmap.new_table(idmap.slots_for(0))
    twin: dict[int, int] = {}
    for _ in range(12):
        ids = ids_of(rng, kind, int(rng.integers(0, size + 1)), 2 * size)
        old, expected = np.empty(len(ids), np.int64), []
        if rng.random() < 0.6:
            if len(twin) + len(ids) > idmap.room_of(len(keys)):
                larger = idmap.new_table(idmap.slots_for(len(twin) + len(ids)))
                idmap.move_all(keys, locations, *larger)
                keys, locations = larger
            new, before = rng.integers(0, 2**62, len(ids)), len(twin)
            for each, place in zip(ids.tolist(), new.tolist(), strict=True):
                expected.append(twin.get(each, idmap.ABSENT))
                twin[each] = place
            assert idmap.put(keys, locations, ids, new, old) == len(twin) - before
        else:
            before = len(twin)
            expected = [twin.pop(each, idmap.ABSENT) for each in ids.tolist()]
            assert idmap.remove(keys, locations, ids, old) == before - len(twin)
        assert old.tolist() == expected, f"seed {seed}"
        asked = np.append(np.array(list(twin), np.uint64), ids_of(rng, kind, 20, 4 * size))
        assert located(keys, locations, asked) == [twin.get(each, idmap.ABSENT) for each in asked.tolist()], (
            f"seed {seed}"
        )
        assert int((locations != idmap.ABSENT).sum()) == len(twin)


@pytest.mark.parametrize("size", SIZES)
def test_a_table_built_of_a_segments_ids_is_that_of_puts(size: int) -> None:
    ids = np.random.default_rng(size).permutation(3 * size)[:size].astype(np.uint64)
    ids.flags.writeable = False
    first = 5 << 32
    built, put = (idmap.new_table(idmap.slots_for(size)) for _ in range(2))
    assert idmap.build(*built, ids, first) == size
    assert idmap.put(*put, ids, np.arange(first, first + size), np.empty(size, np.int64)) == size
    assert all(np.array_equal(one, other) for one, other in zip(built, put, strict=True))
    assert located(*built, ids) == list(range(first, first + size))


@pytest.mark.parametrize("size", SIZES)
def test_the_slots_asked_for_have_the_room(size: int) -> None:
    slots = idmap.slots_for(size)
    assert size <= idmap.room_of(slots) < slots
    assert slots & (slots - 1) == 0
