"""Python functions that the tests serve. Those that wait do so at a gate of this process, or at a file between two."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from engine import Array, InvalidArgument
from tests.fakes import PATIENCE_S, Gate

Answer = Mapping[str, Array]

GATES: list[Gate] = []
"""The last one holds whoever calls `gated`."""

COMPUTED: list[float] = []
"""Every first value of a row that reached `gated`."""

MEETING_VARIABLE = "VIREO_TEST_MEETING"
ENTERED, OPEN = "entered", "open"
POLL_S = 0.01


def double(x: Array) -> Answer:
    """Answers at once."""
    return {"y": x * 2}


def treble(x: Array) -> Answer:
    """Answers at once, otherwise."""
    return {"y": x * 3}


def gated(x: Array) -> Answer:
    """Doubles, after waiting at the test's gate; the zeros of the warm-up pass. Refuses negative rows."""
    if x.any():
        COMPUTED.extend(float(each) for each in x[:, 0])
        GATES[-1]()
    if (x < 0).any():
        raise InvalidArgument("x must not be negative")
    return {"y": x * 2}


def meeting(x: Array) -> Answer:
    """Doubles, after leaving a file for the test and waiting for the test's own; the zeros of the warm-up pass."""
    if x.any():
        folder = Path(os.environ[MEETING_VARIABLE])
        (folder / ENTERED).touch()
        wait_for_file(folder / OPEN)
    return {"y": x * 2}


def wait_for_file(path: Path) -> None:
    """Returns when another process has made `path`."""
    end = time.monotonic() + PATIENCE_S
    while not path.exists():
        assert time.monotonic() < end, f"nobody made {path.name}"
        time.sleep(POLL_S)


def slow(x: Array) -> Answer:
    """Takes 20 ms, and no core, as what runs on a device."""
    time.sleep(0.02)
    return {"y": x * 2}


def countdown(x: Array) -> Iterator[Answer]:
    """Streams x, x - 1, ... 1, and fails after the last where x has a fraction."""
    start = float(x.ravel()[0])
    for value in range(int(start), 0, -1):
        yield {"y": np.full_like(x, value)}
    if start != int(start):
        raise ValueError("the count has a fraction")


def shout(text: Array) -> Answer:
    """Upper case of each string."""
    return {"loud": np.array([[each.upper() for each in row] for row in text], object)}


def faulty(x: Array) -> Answer:
    """Fails on anything but the zeros of the warm-up, with the longest of messages."""
    if x.any():
        raise RuntimeError("no luck\n" + "é" * 100_000)
    return {"y": x}


def enormous(x: Array) -> Answer:
    """Answers as many rows of 1,000 numbers as x says."""
    return {"y": np.zeros((int(x.ravel()[0]), 1000), np.float32)}


def gated_stream(x: Array) -> Iterator[Answer]:
    """One answer, the test's gate, a second answer; the zeros of the warm-up pass."""
    yield {"y": x}
    if x.any():
        GATES[-1]()
    yield {"y": x * 2}


YIELDED: list[int] = []
"""Answers that `endless` has given so far, counted."""

CLOSED = threading.Event()
"""Set when `endless` is stopped."""


def endless(x: Array) -> Iterator[Answer]:
    """Answers of 400 KB without an end."""
    try:
        while True:
            YIELDED.append(1)
            yield {"y": np.full(100_000, x[0], np.float32)}
    finally:
        CLOSED.set()
