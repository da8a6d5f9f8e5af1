"""How kernels are compiled and where the result is kept.

Numbers follow numpy's rules (x / 0 is infinite, not an exception), so that no call can raise. What is compiled is kept on disk by
numba, which looks at a function's own file alone to see whether it is still right; kernels are made of one another and of
`record`'s offsets, so here all files of this package count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., object])


@cache
def sources_digest() -> str:
    """A hash of this package's files."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def kernel(**options: object) -> Callable[[Function], Function]:
    """A decorator: `njit` with these options."""

    def compiled(function: Function) -> Any:  # noqa: ANN401  numba's dispatcher
        dispatcher = njit(error_model="numpy", **options)(function)
        if options.get("cache"):
            file = dispatcher._cache._cache_file
            file._source_stamp = (file._source_stamp, sources_digest())
        return dispatcher

    return compiled
