"""Functions that graphs of the tests call. Those that wait do so at gates the tests hold."""

from __future__ import annotations

import time

import numpy as np

from engine import Array
from tests.fakes import Gate

CALLS: dict[str, int] = {}
GATES: dict[str, Gate] = {}
"""By name, made by the test that needs one."""

Outputs = dict[str, Array]


def counted(name: str) -> None:
    """Notes a call."""
    CALLS[name] = CALLS.get(name, 0) + 1


def double(x: Array) -> Outputs:
    """y = 2x."""
    counted("double")
    return {"y": x * 2}


def double_for(x: Array, who: Array) -> Outputs:
    """y = 2x, whoever asks."""
    return {"y": x * 2}


def light_for(x: Array, who: Array) -> Outputs:
    """y = 1, whoever asks."""
    return {"y": np.ones_like(x)}


def add(a: Array, b: Array) -> Outputs:
    """y = a + b."""
    counted("add")
    return {"y": a + b}


def light(x: Array) -> Outputs:
    """y = 1, at once."""
    counted("light")
    return {"y": np.ones_like(x)}


def picky(x: Array) -> Outputs:
    """y = x, unless some x is negative: raises; above 1000: answers the wrong shape."""
    if (x < 0).any():
        raise ValueError("a negative x")
    return {"y": x[:-1] if (x > 1000).any() else x}


def both(x: Array) -> Outputs:
    """y = 2x, z = 3x."""
    return {"y": x * 2, "z": x * 3}


def seen(x: Array) -> None:
    """Of `watched`: tests look here."""


def watched(x: Array) -> Outputs:
    """y = x, and whoever tests it is told."""
    if (x > 0).all():  # no warm-up
        seen(x)
    return {"y": x}


def greet(x: Array, who: Array | None = None) -> Outputs:
    """y = x and the length of the name, said = "hi " and the name; where nobody is named, of nobody."""
    names = [b""] * len(x) if who is None else [bytes(each) for each in who]
    return {
        "y": x + np.array([len(each) for each in names], np.float64),
        "said": np.array([b"hi " + each for each in names], object),
    }


def slow_to_warm(x: Array) -> Outputs:
    """y = x; whoever is warmed up waits."""
    if not x.any():
        seen(x)
    return {"y": x}


def whole(x: Array) -> Outputs:
    """y = x, as one thing."""
    return {"y": x}


def gated(x: Array) -> Outputs:
    """y = x; where x is above 100 it waits at the gate `gated`."""
    if (x > 100).any():
        GATES["gated"]()
    return {"y": x}


def slow(x: Array) -> Outputs:
    """y = x, after as many milliseconds as the first x says."""
    time.sleep(max(float(x[0]), 0.0) / 1e3)
    return {"y": x}


def is_large(x: Array) -> Outputs:
    """y = x > 10."""
    return {"y": x > 10}


def count_down(x: Array):  # type: ignore[no-untyped-def]  # noqa: ANN201
    """Streams y = x, x-1, ... 1."""
    for value in range(int(x[0]), 0, -1):
        yield {"y": np.array([value], np.float64)}
