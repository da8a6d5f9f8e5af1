"""How the scan is laid out: it fits a multiprocessor. Runs everywhere."""

from __future__ import annotations

import pytest

from kernels.gpu.layout import BLOCKS, SHARED_BYTES, Tuning, block_of, laid_out


@pytest.mark.parametrize("shared", [99 << 10, SHARED_BYTES])
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize(("number", "signs"), [(2, False), (1, False), (1, True)])
@pytest.mark.parametrize("row", [32, 64, 96, 192, 384, 768, 1_536, 2_048, 3_072, 8_192])
def test_what_is_held_and_loaded_ahead_fits(row: int, number: int, signs: bool, block: int, shared: int) -> None:
    found = laid_out(row, number, signs, block, shared)
    step = found.step * number
    padded = -(-row // step) * step
    tile = found.rows * padded
    assert found.rows >= 64  # what a warp group multiplies at once
    assert found.step >= 16
    if found.held:
        each = block * padded * (8 if signs else 1) + found.stages * tile
        assert found.stages >= 2
        assert found.programs * (each + 1_024) <= shared
        assert padded <= 1.15 * (-(-row // 32) * 32)
    else:
        assert found.stages * (found.rows + block) * step <= shared


def test_queries_of_rows_of_usual_width_are_held() -> None:
    assert laid_out(768, 2, False, 16) == Tuning(64, 128, 4, 4, 1, held=True)
    assert laid_out(768, 2, False, 64) == Tuning(64, 128, 4, 3, 1, held=True)
    assert laid_out(384, 1, False, 64).programs == 3
    assert not laid_out(3_072, 2, False, 64).held


def test_queries_are_taken_in_blocks() -> None:
    assert [block_of(each) for each in (1, 16, 17, 32, 33, 64, 256)] == [16, 16, 32, 32, 64, 64, 64]
