"""Kernels with declared signatures, which take arrays that may not be written to (memory-mapped) as well as those that may.

Numba compiles a kernel anew for an argument that is read-only where the last one was not, on the request that brings it. An
argument declared read-only takes both; anything else is a TypeError. They are compiled by the first call, or by `make_ready`.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock
from types import ModuleType
from typing import Any

from numba import types

from kernels.compiled import Function, kernel

_COMPILING = RLock()


def reads(dtype: types.Type, dimensions: int = 1) -> types.Array:
    """A contiguous array that the kernel only reads."""
    return types.Array(dtype, dimensions, "C", readonly=True)


def fills(dtype: types.Type, dimensions: int = 1) -> types.Array:
    """A contiguous array that the kernel writes to."""
    return types.Array(dtype, dimensions, "C")


def signed(
    *signatures: Any,  # noqa: ANN401  numba's signatures
    quick: bool = False,
    **options: object,
) -> Callable[[Function], Function]:
    """A decorator: a kernel without the GIL, kept on disk, for these signatures alone.

    `quick`: it keeps the GIL, for kernels of some microseconds. Whoever lets go of it waits until another thread has done with
    it: a search beside 500 upserts a second did so after each of its kernels.
    """

    def declared(function: Function) -> Any:  # noqa: ANN401  numba's dispatcher
        dispatcher = kernel(nogil=not quick, cache=True, **options)(function)

        def compile_all() -> None:
            with _COMPILING:
                if dispatcher._can_compile:
                    for each in signatures:
                        dispatcher.compile(each)
                    dispatcher.disable_compile()

        def first_call(*arguments: object) -> object:
            compile_all()
            return dispatcher  # numba calls what it gets, with the arguments

        dispatcher._compile_for_args = first_call
        dispatcher.compile_declared = compile_all
        return dispatcher

    return declared


def make_ready(module: ModuleType) -> None:
    """Compiles all that a module declares, or loads it from disk, so that no request waits for it."""
    for each in list(vars(module).values()):
        if hasattr(each, "compile_declared"):
            each.compile_declared()
