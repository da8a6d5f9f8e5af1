"""The kernels that serving needs, by the modules that hold them, to be compiled before a request waits for them.

What is compiled is kept where numba keeps it, beside the code or in NUMBA_CACHE_DIR, for one kind of processor: this one, or the
one that NUMBA_CPU_NAME names.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final

from engine.errors import FailedPrecondition

try:
    from kernels.processor import LEVELS
except ValueError as error:  # VIREO_KERNEL_CPUS is wrong, which whoever starts a server hears in one line
    raise FailedPrecondition(str(error)) from error

FEATURE_KERNELS: Final = ("ingest", "lookup", "entities", "hashing")
VECTOR_KERNELS: Final = ("scoring", "ranking", "postings", "idmap", "bitsets", "directions", "words", "hashing")
PROCESSORS: Final = tuple(LEVELS)
"""What kernels may be compiled for in place of this processor."""

KERNEL_PARTS: Final = tuple(dict.fromkeys((*FEATURE_KERNELS, *VECTOR_KERNELS, "gather")))


def compile_kernels(part: str) -> None:
    """Compiles what one of KERNEL_PARTS declares, or loads what is compiled; runs none of it. Raises ImportError where numba is
    not installed."""
    from kernels.signed import make_ready

    make_ready(import_module(f"kernels.{part}"))
