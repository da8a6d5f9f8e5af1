"""What is left after points were touched is what the writes say."""

from __future__ import annotations

import numpy as np

from benchmarks.vectors.touched import WRITE_ROWS, touched


def test_writes_make_of_what_is_loaded_what_is_left() -> None:
    vectors = np.random.default_rng(1).standard_normal((500, 8), np.float32)
    points = touched(vectors, 0.2, seed=3)
    held = dict(enumerate(points.loaded()))
    assert sum(not np.array_equal(held[row], vectors[row]) for row in range(500)) > 40
    for upsert, ids in points.writes(5):
        assert 0 < len(ids) <= WRITE_ROWS
        for each in ids.tolist():
            if upsert:
                held[each] = vectors[each]
            else:
                del held[each]
    assert sorted(held) == points.alive.tolist()
    assert len(held) == 450
    assert np.array_equal(np.array([held[each] for each in points.alive.tolist()]), points.final)


def test_nothing_touched_is_all_left() -> None:
    vectors = np.ones((40, 2), np.float32)
    points = touched(vectors, 0.0, seed=3)
    assert not list(points.writes(1))
    assert np.array_equal(points.final, vectors)
