"""For which processor kernels are compiled. Numba's choice is this very one: what an image brings compiled would serve no other.

`VIREO_KERNEL_CPUS` names kinds to choose from, for example "x86-64-v4,x86-64-v3" (the levels of the x86-64 psABI): the first that
this processor is, is compiled for, and what is kept for it is used wherever that is so. Where it is none of them, or
NUMBA_CPU_NAME says otherwise, nothing changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

CHOICE: Final = "VIREO_KERNEL_CPUS"

_V3: Final = frozenset(("avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"))
LEVELS: Final = {
    "x86-64-v4": _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
    "x86-64-v3": _V3,
}
"""What Linux calls the instructions that a processor of this level has."""

_CPUINFO: Final = Path("/proc/cpuinfo")


def chosen_processor(environment: Mapping[str, str], cpuinfo: Path = _CPUINFO) -> str | None:
    """The kind of processor to compile for; None: this one. Raises ValueError where a kind is named that is not known."""
    names = [each.strip() for each in environment.get(CHOICE, "").split(",") if each.strip()]
    if wrong := [each for each in names if each not in LEVELS]:
        raise ValueError(f"{CHOICE}: no kind of processor is called {wrong[0]!r}; there are {', '.join(LEVELS)}")
    if not names or "NUMBA_CPU_NAME" in environment:
        return None
    has = _flags(cpuinfo)
    return next((each for each in names if LEVELS[each] <= has), None)


def _flags(cpuinfo: Path) -> frozenset[str]:
    """Of the first processor; nothing where there is no such file, or it says it otherwise."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return frozenset()
    told = next((each for each in lines if each.startswith("flags")), "")
    return frozenset(told.partition(":")[2].split())
