"""What is gathered into a model's buffer is what plain numpy puts there, and nothing beside it is touched."""

import numpy as np
import pytest

from kernels.gather import fill_rows, gather_rows
from kernels.reference import gathered_rows


@pytest.mark.parametrize(("rows", "width"), [(0, 3), (1, 1), (7, 5), (8, 16), (9, 100), (500, 100)])
@pytest.mark.parametrize("seed", range(3))
def test_rows_of_a_table_are_gathered_as_numpy_does(seed: int, rows: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    table = rng.standard_normal((64, width)).astype(np.float32)
    table.flags.writeable = False  # a segment is mapped read-only
    asked = rng.integers(-1, 64, rows)
    defaults = rng.standard_normal(width).astype(np.float32)
    buffer = np.full((rows, width + 5), 7, np.float32)
    there = np.flatnonzero(asked >= 0)
    gather_rows(table, asked[there], there, buffer, 2)
    fill_rows(np.flatnonzero(asked < 0), defaults, buffer, 2)
    assert np.array_equal(buffer[:, 2 : 2 + width], gathered_rows(table, asked, defaults)), f"seed {seed}"
    assert (buffer[:, :2] == 7).all()
    assert (buffer[:, 2 + width :] == 7).all()
