"""Kernels with declared signatures take arrays that may not be written to without being compiled anew."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kernels import bitsets
from kernels.signed import make_ready

ROOT = Path(__file__).resolve().parents[2]


def test_arrays_that_may_and_may_not_be_written_to_are_taken_by_one_compiled_kernel() -> None:
    bits = np.array([3, 1], np.uint8)
    assert bitsets.count(bits) == 3
    bits.flags.writeable = False
    assert bitsets.count(bits) == 3
    assert len(bitsets.count.signatures) == 1  # type: ignore[attr-defined]  # numba's dispatcher


def test_what_is_filled_must_be_writable_and_contiguous() -> None:
    bits = np.zeros(4, np.uint8)
    with pytest.raises(TypeError):
        bitsets.fill_range(bits[::2], 0, 3)
    bits.flags.writeable = False
    with pytest.raises(TypeError):
        bitsets.fill_range(bits, 0, 3)
    assert not bits.any()


def test_a_module_is_made_ready_before_it_is_called_and_again_at_no_cost() -> None:
    make_ready(bitsets)
    make_ready(bitsets)
    assert len(bitsets.unite.signatures) == 1  # type: ignore[attr-defined]  # numba's dispatcher
    out = np.zeros(1, np.uint8)
    bitsets.unite(np.array([1], np.uint8), np.array([2], np.uint8), out)
    assert out.tolist() == [3]


def test_threads_that_come_first_together_all_get_their_answer() -> None:
    code = """
import threading, numpy as np
from kernels import bitsets
bits, found, start = np.array([3, 1], np.uint8), [], threading.Barrier(6)
def ask():
    start.wait()
    found.append(bitsets.count(bits))
threads = [threading.Thread(target=ask) for _ in range(6)]
[each.start() for each in threads]
[each.join() for each in threads]
print(found)
"""
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=100
    )
    assert run.stdout.strip() == str([3] * 6), run.stderr
