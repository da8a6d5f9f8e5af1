"""Loads and stores at plain addresses, with the orderings a seqlock needs, as LLVM instructions inside numba kernels.

Addresses are int64; nothing is checked. Loads and stores may be unaligned. A record that one thread writes while others
read it is guarded by a sequence word (Boehm, "Can seqlocks get along with programming language memory models?", 2012): odd
while it is written; a reader takes what it read only if the word was even and the same before and after.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels.compiled import kernel

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)


def _loader(numba_type: Any, llvm_type: ir.Type) -> Callable[[int], Any]:
    def implement(typing_context: Any, address: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = builder.inttoptr(arguments[0], llvm_type.as_pointer())
            value = builder.load(pointer, align=1)
            return context.cast(builder, value, numba_type, signature.return_type)

        return numba_type(types.int64), code

    return intrinsic(implement)  # type: ignore[no-any-return]


def _storer(numba_type: Any, llvm_type: ir.Type) -> Callable[[int, Any], None]:
    def implement(typing_context: Any, address: Any, value: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = builder.inttoptr(arguments[0], llvm_type.as_pointer())
            builder.store(arguments[1], pointer, align=1)
            return context.get_dummy_value()

        return types.void(types.int64, numba_type), code

    return intrinsic(implement)  # type: ignore[no-any-return]


load_u8 = _loader(types.uint8, _I8)
load_i8 = _loader(types.int8, _I8)
load_u16 = _loader(types.uint16, ir.IntType(16))
load_i16 = _loader(types.int16, ir.IntType(16))
load_u32 = _loader(types.uint32, _I32)
load_i32 = _loader(types.int32, _I32)
load_u64 = _loader(types.uint64, _I64)
load_i64 = _loader(types.int64, _I64)
load_f32 = _loader(types.float32, ir.FloatType())
load_f64 = _loader(types.float64, ir.DoubleType())


@intrinsic
def load_constant(typing_context: Any, address: Any) -> Any:
    """The i64 at an address that nobody writes while a kernel runs: loaded as seldom as the compiler can."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.load(builder.inttoptr(arguments[0], _I64.as_pointer()), align=8)
        value.set_metadata("invariant.load", builder.module.add_metadata([]))
        return value

    return types.int64(types.int64), code


store_u32 = _storer(types.uint32, _I32)
store_u64 = _storer(types.uint64, _I64)
store_i64 = _storer(types.int64, _I64)
store_f64 = _storer(types.float64, ir.DoubleType())


def _acquirer(numba_type: Any, llvm_type: ir.IntType) -> Callable[[int], Any]:
    """A load that nothing after it moves before; aligned by its width."""

    def implement(typing_context: Any, address: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = builder.inttoptr(arguments[0], llvm_type.as_pointer())
            return builder.load_atomic(pointer, "acquire", llvm_type.width // 8)

        return numba_type(types.int64), code

    return intrinsic(implement)  # type: ignore[no-any-return]


def _releaser(numba_type: Any, llvm_type: ir.IntType) -> Callable[[int, Any], None]:
    """A store that nothing before it moves after; aligned by its width."""

    def implement(typing_context: Any, address: Any, value: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = builder.inttoptr(arguments[0], llvm_type.as_pointer())
            builder.store_atomic(arguments[1], pointer, "release", llvm_type.width // 8)
            return context.get_dummy_value()

        return types.void(types.int64, numba_type), code

    return intrinsic(implement)  # type: ignore[no-any-return]


load_u32_acquire, load_u64_acquire = _acquirer(types.uint32, _I32), _acquirer(types.uint64, _I64)
store_u32_release, store_u64_release = _releaser(types.uint32, _I32), _releaser(types.uint64, _I64)


def _fence(ordering: str) -> Callable[[], None]:
    def implement(typing_context: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            builder.fence(ordering)
            return context.get_dummy_value()

        return types.void(), code

    return intrinsic(implement)  # type: ignore[no-any-return]


fence_acquire = _fence("acquire")
fence_release = _fence("release")


@intrinsic
def times_63(typing_context: Any, left: Any, right: Any) -> Any:
    """The product of two u64, its lowest 63 bits cut off: with `right` at most 2**63 it fits."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(arguments[0], wide), builder.zext(arguments[1], wide))
        return builder.trunc(builder.lshr(product, wide(63)), _I64)

    return types.uint64(types.uint64, types.uint64), code


@intrinsic
def prefetch(typing_context: Any, address: Any) -> Any:
    """A hint that the cache line at `address` will be written soon."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [_I8.as_pointer(), _I32, _I32, _I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        pointer = builder.inttoptr(arguments[0], _I8.as_pointer())
        builder.call(function, [pointer, _I32(1), _I32(3), _I32(1)])
        return context.get_dummy_value()

    return types.void(types.int64), code


@kernel(inline="always")
def write_begin(record: int) -> None:
    """Marks the record, whose first word is its sequence, as being written."""
    store_u32(record, load_u32(record) + types.uint32(1))
    fence_release()


@kernel(inline="always")
def write_end(record: int) -> None:
    """Makes what was written since `write_begin` valid for readers."""
    store_u32_release(record, load_u32(record) + types.uint32(1))


@kernel(inline="always")
def read_begin(record: int) -> int:
    """The sequence to compare in `read_valid`; odd while the record is being written."""
    return types.int64(load_u32_acquire(record))


@kernel(inline="always")
def read_valid(record: int, sequence: int) -> bool:
    """Whether nothing was written since `read_begin` gave `sequence`."""
    fence_acquire()
    return (sequence & 1) == 0 and types.int64(load_u32(record)) == sequence


@kernel(inline="always")
def bit(bitmap: int, index: int) -> bool:
    """Bit `index` of an Arrow bitmap at address `bitmap`; True where the address is 0 (no nulls)."""
    return bitmap == 0 or (load_u8(bitmap + (index >> 3)) >> types.uint8(index & 7)) & types.uint8(1) != 0
