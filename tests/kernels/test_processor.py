"""For which processor kernels are compiled: the first of the kinds named that this one is."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernels.processor import CHOICE, LEVELS, chosen_processor

BOTH = "x86-64-v4, x86-64-v3"


def cpuinfo(folder: Path, flags: frozenset[str]) -> Path:
    path = folder / "cpuinfo"
    path.write_text(
        f"processor\t: 0\nmodel name\t: any\nflags\t\t: sse sse2 {' '.join(flags)}\nbugs\t\t:\n\nprocessor\t: 1\n"
    )
    return path


@pytest.mark.parametrize("level", LEVELS)
def test_the_first_that_this_processor_is_is_chosen(level: str, tmp_path: Path) -> None:
    here = cpuinfo(tmp_path, LEVELS[level])
    assert chosen_processor({CHOICE: BOTH}, here) == level
    assert chosen_processor({CHOICE: "x86-64-v3"}, here) == "x86-64-v3"


def test_without_a_choice_or_a_fit_numba_chooses(tmp_path: Path) -> None:
    here = cpuinfo(tmp_path, LEVELS["x86-64-v3"])
    assert chosen_processor({}, here) is None
    assert chosen_processor({CHOICE: "x86-64-v4"}, here) is None
    assert chosen_processor({CHOICE: BOTH, "NUMBA_CPU_NAME": "generic"}, here) is None
    assert chosen_processor({CHOICE: BOTH}, tmp_path / "none") is None
    assert chosen_processor({CHOICE: BOTH}, cpuinfo(tmp_path, LEVELS["x86-64-v3"] - {"avx2"})) is None


def test_a_kind_that_is_not_known_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"VIREO_KERNEL_CPUS: no kind of processor is called 'znver9'; there are x86-64-v4"
    ):
        chosen_processor({CHOICE: "znver9"})
