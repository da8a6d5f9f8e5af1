"""Access to the tables of `record` inside kernels: constants, which the compiler keeps in registers where it can."""

from __future__ import annotations

from kernels.compiled import kernel
from kernels.memory import load_constant, load_i64, store_i64
from kernels.record import MEMORY_CONTROL, ROW_BYTES, SOURCE_BYTES


@kernel(inline="always")
def size(plan: int, which: int) -> int:
    """One of the plan's sizes."""
    return load_constant(plan + which)


@kernel(inline="always")
def rows(plan: int, table: int) -> int:
    """How many rows a table has."""
    return load_constant(plan + table + 8)


@kernel(inline="always")
def row_of(plan: int, table: int, row: int) -> int:
    """The address of a row, whose columns are at their offsets from there."""
    return load_constant(plan + table) + ROW_BYTES * row


@kernel(inline="always")
def cell(plan: int, table: int, row: int, column: int) -> int:
    """One number of a table."""
    return load_constant(row_of(plan, table, row) + column)


@kernel(inline="always")
def part(memory: int, which: int) -> int:
    """One word of the block that says where a state is."""
    return load_constant(memory + which)


@kernel(inline="always")
def control(memory: int, which: int) -> int:
    """One word of the state's control block."""
    return load_i64(part(memory, MEMORY_CONTROL) + which)


@kernel(inline="always")
def control_set(memory: int, which: int, value: int) -> None:
    """Changes it."""
    store_i64(part(memory, MEMORY_CONTROL) + which, value)


@kernel(inline="always")
def control_add(memory: int, which: int) -> None:
    """Counts one more."""
    control_set(memory, which, control(memory, which) + 1)


@kernel(inline="always")
def source_field(sources: int, source: int, field: int) -> int:
    """One word of what tells of a batch's columns."""
    return load_constant(sources + SOURCE_BYTES * source + field)
