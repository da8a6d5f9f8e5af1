"""How kernels are compiled: numpy's rules for numbers (x / 0 is infinite, not an exception), so that no call can raise."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., object])


def kernel(**options: object) -> Callable[[Function], Function]:
    """A decorator: `njit` with these options."""
    return njit(error_model="numpy", **options)  # type: ignore[no-any-return]
