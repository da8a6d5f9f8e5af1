# ruff: noqa: ANN401  what numba hands to an intrinsic has no types
"""Single instructions that numba has no name for: bits of words, half floats, sums under a mask, prefetching.

They are LLVM's, so they compile everywhere; on AVX-512 each is one instruction.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_I1, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (1, 16, 32, 64))
_FLOAT = ir.FloatType()
_LINE_BYTES = 64


@intrinsic
def ones(typing_context: Any, word: Any) -> Any:
    """How many bits of an unsigned word are set, in its own type."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return word(word), code


@intrinsic
def lowest(typing_context: Any, word: Any) -> Any:
    """The place of the lowest bit that is set of an unsigned word, in its own type; its width where none is."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], _I1(0))

    return word(word), code


@intrinsic
def half_to_float(typing_context: Any, half: Any) -> Any:
    """The float32 that the bits of a float16 (uint16) say."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fpext(builder.bitcast(arguments[0], ir.HalfType()), _FLOAT)

    return types.float32(types.uint16), code


def _address(context: Any, builder: Any, array_type: Any, array: Any, at: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [at])


@intrinsic
def prefetch_row(typing_context: Any, data: Any, row: Any) -> Any:
    """Begins to load a row of a contiguous array of two dimensions."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind, byte = signature.args[0], ir.IntType(8).as_pointer()
        array = context.make_array(kind)(context, builder, arguments[0])
        width = builder.extract_value(array.shape, 1)
        first = builder.bitcast(builder.gep(array.data, [builder.mul(arguments[1], width)]), byte)
        bytes_of_row = builder.mul(width, _I64(kind.dtype.bitwidth // 8))
        called = ir.FunctionType(ir.VoidType(), [byte, _I32, _I32, _I32])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte], called)
        with cgutils.for_range_slice(builder, _I64(0), bytes_of_row, _I64(_LINE_BYTES), _I64) as (at, _):
            builder.call(function, [builder.gep(first, [at]), _I32(0), _I32(3), _I32(1)])
        return context.get_dummy_value()

    return types.void(data, types.int64), code


@intrinsic
def copy_row(typing_context: Any, table: Any, row: Any, buffer: Any, place: Any, first: Any) -> Any:
    """Copies a row of `table` to columns `first` and on of row `place` of `buffer`: contiguous arrays of two dimensions, of one
    dtype, that don't overlap. The block's own copy: numba must assume that they overlap, and goes number by number."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, target, byte = signature.args[0], signature.args[2], ir.IntType(8).as_pointer()
        read = context.make_array(source)(context, builder, arguments[0])
        filled = context.make_array(target)(context, builder, arguments[2])
        width = builder.extract_value(read.shape, 1)
        begin = builder.mul(arguments[3], builder.extract_value(filled.shape, 1))
        found = builder.bitcast(builder.gep(read.data, [builder.mul(arguments[1], width)]), byte)
        room = builder.bitcast(builder.gep(filled.data, [builder.add(begin, arguments[4])]), byte)
        function = builder.module.declare_intrinsic("llvm.memcpy", [byte, byte, _I64])
        builder.call(function, [room, found, builder.mul(width, _I64(source.dtype.bitwidth // 8)), _I1(0)])
        return context.get_dummy_value()

    return types.void(table, types.int64, buffer, types.int64, types.int64), code


@intrinsic
def borrowed(typing_context: Any, array: Any) -> Any:
    """The same array, but not counted: numba otherwise counts references, atomically, for each call and each inlined one.

    Whoever has the array must use it again (write to it) after the last use of what is borrowed, else it may be gone.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        made = context.make_array(signature.return_type)(context, builder, arguments[0])
        made.meminfo = cgutils.get_null_value(made.meminfo.type)
        made.parent = cgutils.get_null_value(made.parent.type)
        return made._getvalue()

    return array(array), code


@intrinsic
def sum_masked(typing_context: Any, values: Any, bits: Any, byte: Any, pairs: Any) -> Any:
    """The sum of values[i], float32, for each bit i that is set in `pairs` pairs of bytes from bits[byte] on, least first.

    `bits`, uint8, is counted over all dimensions; there are 16 values for each pair of bytes. Summed in 16 lanes.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds, vector = signature.args, ir.VectorType(_FLOAT, 16)
        zeros = ir.Constant(vector, [0.0] * 16)
        total = cgutils.alloca_once_value(builder, zeros)
        with cgutils.for_range(builder, arguments[3], intp=_I64) as loop:
            first = builder.mul(loop.index, _I64(16))
            value = _address(context, builder, kinds[0], arguments[0], first)
            place = builder.add(arguments[2], builder.mul(loop.index, _I64(2)))
            word = builder.bitcast(_address(context, builder, kinds[1], arguments[1], place), _I16.as_pointer())
            mask = builder.bitcast(builder.load(word, align=1), ir.VectorType(_I1, 16))
            some = builder.load(builder.bitcast(value, vector.as_pointer()), align=4)
            builder.store(builder.fadd(builder.load(total), builder.select(mask, some, zeros)), total)
        kind = ir.FunctionType(_FLOAT, [_FLOAT, vector])
        reduce = cgutils.get_or_insert_function(builder.module, kind, "llvm.vector.reduce.fadd.v16f32")
        return builder.call(reduce, [_FLOAT(0.0), builder.load(total)], fastmath=("reassoc",))

    return types.float32(values, bits, types.int64, types.int64), code
