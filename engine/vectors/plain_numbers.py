"""Vectors as clients give them in Python, JSON or protobuf, as numpy arrays. It looks at types and shapes; whether numbers are
finite is checked of all points at once, later."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.errors import InvalidArgument, TooLarge
from engine.vectors.values import echo

Singles = npt.NDArray[np.float32]
Indices = npt.NDArray[np.uint32]

_NUMBERS: Final[Sequence[set[type]]] = ({float}, {int}, {float, int})
_WHOLE: Final[Sequence[set[type]]] = ({int},)


def flat_numbers(value: object) -> Singles:
    """A list or array of numbers as float32 [n]; what is too large becomes infinite. Raises InvalidArgument."""
    if isinstance(value, np.ndarray):
        return _of_array(value, 1)
    numbers = _sequence(value, "a list of numbers")
    _check_kinds(numbers, _NUMBERS, int | float | np.floating | np.integer, "numbers")
    try:
        return np.frombuffer(array("f", numbers), np.float32) if len(numbers) else np.zeros(0, np.float32)
    except (TypeError, OverflowError, ValueError) as error:
        raise InvalidArgument(f"expected numbers of 32 bits: {error}") from error


def flat_indices(value: object) -> Indices:
    """Whole numbers from 0 to 2^32 - 1, uint32 [n]. Raises InvalidArgument."""
    if isinstance(value, np.ndarray):
        return _indices_of_array(value)
    numbers = _sequence(value, "a list of indices")
    _check_kinds(numbers, _WHOLE, int | np.integer, "whole numbers")
    try:
        return np.frombuffer(array("I", numbers), np.uint32) if len(numbers) else np.zeros(0, np.uint32)
    except (TypeError, OverflowError, ValueError) as error:
        raise InvalidArgument("expected whole numbers of 32 bits, unsigned") from error


def matrix(value: object, size: int, most: int) -> Singles:
    """A list of at most `most` lists of `size` numbers, or such an array, as float32 [n, size]. Raises InvalidArgument,
    TooLarge."""
    if isinstance(value, np.ndarray):
        rows: Sequence[Any] | Singles = _of_array(value, 2)
    else:
        rows = _sequence(value, "a list of lists of numbers")
    if len(rows) > most:
        raise TooLarge(f"{len(rows)} vectors, at most {most} are allowed")
    found = np.empty((len(rows), size), np.float32)
    for at, each in enumerate(rows):
        try:
            found[at] = of_size(flat_numbers(each), size)
        except InvalidArgument as error:
            raise InvalidArgument(f"[{at}]: {error.message}") from error
    return found


def of_size(numbers: Singles, size: int) -> Singles:
    """`numbers`, if there are `size`. Raises InvalidArgument."""
    if len(numbers) != size:
        raise InvalidArgument(f"expected {size} dimensions, got {len(numbers)}")
    return numbers


def _of_array(value: npt.NDArray[np.generic], dimensions: int) -> Singles:
    if value.dtype.kind not in "fiu":
        raise InvalidArgument(f"expected numbers, got an array of {value.dtype}")
    if value.ndim != dimensions:
        raise InvalidArgument(
            f"expected an array of {dimensions} dimension{'s'[: dimensions - 1]}, got shape {value.shape}"
        )
    with np.errstate(over="ignore"):
        return value.astype(np.float32, copy=False)


def _indices_of_array(value: npt.NDArray[np.generic]) -> Indices:
    if value.dtype.kind not in "iu" or value.ndim != 1:
        raise InvalidArgument(f"expected whole numbers, got an array of {value.dtype} and shape {value.shape}")
    found = value.astype(np.uint32, copy=False)
    if found is not value and not np.array_equal(found, value):
        raise InvalidArgument("expected whole numbers of 32 bits, unsigned")
    return found


def _sequence(value: object, expected: str) -> Sequence[Any]:
    if isinstance(value, str | bytes | bytearray | memoryview) or not isinstance(value, Sequence):
        raise InvalidArgument(f"expected {expected}, got {echo(value)}")
    return value


def _check_kinds(numbers: Sequence[object], usual: Sequence[set[type]], allowed: object, what: str) -> None:
    """True is no number, though Python thinks so."""
    if not numbers or {*map(type, numbers)} in usual:
        return
    for at, each in enumerate(numbers):
        if isinstance(each, bool) or not isinstance(each, allowed):  # type: ignore[arg-type]  # a union of types
            raise InvalidArgument(f"[{at}]: expected {what}, got {echo(each)}")
