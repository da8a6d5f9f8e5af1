"""The Python functions that the soak serves: large tensors either way, slow work, strings, streams, refusals."""

import time
from collections.abc import Iterator, Mapping

import numpy as np

from engine import Array, InvalidArgument

Answer = Mapping[str, Array]


def negate(x: Array) -> Answer:
    """As much out as in."""
    return {"y": -x}


def fill(count: Array) -> Answer:
    """Little in, much out: 0, 1, 2, ... below `count`."""
    return {"y": np.arange(count[0], dtype=np.float32)}


def slow(value: Array, sleep_ms: Array) -> Answer:
    """The value and one more, after a while."""
    time.sleep(float(sleep_ms[0]) / 1e3)
    return {"y": value + 1}


def shout(text: Array) -> Answer:
    """Strings in upper case."""
    return {"y": np.array([each.upper() for each in text], object)}


def countdown(start: Array) -> Iterator[Answer]:
    """One answer for each whole number from `start` down to 1."""
    for value in range(int(start[0]), 0, -1):
        yield {"y": np.full(256, value, np.int32)}


def refuse(x: Array) -> Answer:
    """Refuses whatever is not zero."""
    if x.any():
        raise InvalidArgument("not today")
    return {"y": x}
