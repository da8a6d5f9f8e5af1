"""What one request costs two servables, asked in turns in one process: what slows one slows the other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from engine.optimization.record import Cost, Speed
from engine.servables.servable import Servable, Tensors

_BLOCK: Final = 10
"""Requests of one before those of the other come: reading the CPU clock costs as much as a small model."""


def speed_of(before: Servable, after: Servable, requests: Sequence[Tensors], rows: int, runs: int) -> Speed:
    """About `runs` requests of each, `requests` in rotation, of `rows` rows each; which of the two is first alternates."""
    pair, blocks = (before, after), max(1, runs // _BLOCK)
    taken_ns = np.empty((2, blocks, _BLOCK), np.int64)
    used_ns = np.zeros(2, np.int64)
    for turn in range(-1, blocks):  # the first warms both
        block = [requests[(turn * _BLOCK + each) % len(requests)] for each in range(_BLOCK)]
        for which in (turn & 1, 1 - (turn & 1)):
            used = time.process_time_ns()
            taken_ns[which, turn] = _block_ns(pair[which], block)
            if turn >= 0:
                used_ns[which] += time.process_time_ns() - used
    costs = [
        Cost(_us(float(np.median(taken_ns[which]))), _us(float(used_ns[which]) / (blocks * _BLOCK))) for which in (0, 1)
    ]
    return Speed(rows, blocks * _BLOCK, *costs)


def _block_ns(servable: Servable, block: Sequence[Tensors]) -> list[int]:
    """What each of them takes."""
    instants = [time.perf_counter_ns()]
    for request in block:
        servable.execute(request, ())
        instants.append(time.perf_counter_ns())
    return [after - before for before, after in pairwise(instants)]


def _us(nanoseconds: float) -> float:
    return round(nanoseconds / 1e3, 2)
