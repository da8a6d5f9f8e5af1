"""Made-up inputs for a servable: to warm it up, and to find out by running it whether its rows are independent."""

from __future__ import annotations

import numpy as np

from engine.servables.servable import Servable, Tensors
from engine.servables.signature import ANY, Signature, TensorSpec
from engine.tensor import BF16, BOOL, BYTES, Array, Tensor

PROBE_ROWS = 3
_RELATIVE_TOLERANCE = 1e-3


def sample_inputs(signature: Signature, rows: int, seed: int | None = None) -> dict[str, Tensor]:
    """Inputs of `rows` rows where the servable is batchable; zeros, or seeded small values. Free dimensions become 1.

    Seeded rows 0 and 1 differ in every element: equal rows could not show that one depends on the other.
    """
    rng = None if seed is None else np.random.default_rng(seed)
    return {each.name: _sample(each, signature.batchable, rows, rng) for each in signature.inputs}


def _sample(spec: TensorSpec, batchable: bool, rows: int, rng: np.random.Generator | None) -> Tensor:
    shape = [1 if size == ANY else size for size in spec.shape]
    if batchable and shape:
        shape[0] = rows
    return Tensor(spec.datatype, _values(spec, tuple(shape), rng))


def _values(spec: TensorSpec, shape: tuple[int, ...], rng: np.random.Generator | None) -> Array:
    if spec.datatype is BYTES:
        array = np.empty(shape, object)
        array[...] = b"0"
        if rng is not None:
            array[1:2] = b"1"
        return array
    if rng is None:
        return np.zeros(shape, spec.datatype.dtype)
    if spec.datatype is BF16:  # the bits of 1.0 and 0.0
        return (_bits(shape, rng) * 0x3F80).astype(np.uint16)
    if spec.datatype is BOOL or spec.datatype.dtype.kind in "iu":
        return _bits(shape, rng).astype(spec.datatype.dtype)
    return rng.standard_normal(size=shape).astype(spec.datatype.dtype)


def _bits(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """0 and 1 at random (safe as an index into nearly any table), row 1 the opposite of row 0."""
    bits = rng.integers(0, 2, size=shape)
    bits[1:2] = 1 - bits[:1]
    return bits


def rows_are_independent(servable: Servable) -> tuple[bool, str]:
    """Runs rows together and one by one: (whether the answers agree, a sentence saying what was seen).

    `servable.signature` must claim to be batchable. A servable that fails on made-up values keeps its claim.
    """
    inputs = sample_inputs(servable.signature, PROBE_ROWS, seed=0)
    try:
        together = servable.execute(inputs, ())
        apart = [servable.execute(_row(inputs, index), ()) for index in range(PROBE_ROWS)]
    except Exception as error:
        return (
            True,
            f"the model declares a batch dimension; made-up inputs fail on it ({type(error).__name__}), so it was not tried",
        )
    exact = True
    for name, tensor in together.items():
        if any(each[name].array.shape[:1] != (1,) for each in apart) or tensor.array.shape[:1] != (PROBE_ROWS,):
            return (
                False,
                f"output '{name}' of {PROBE_ROWS} rows has shape {list(tensor.shape)}: not one row for each input row",
            )
        joined = np.concatenate([each[name].array for each in apart])
        if not _close(joined, tensor.array):
            return False, f"output '{name}' of rows computed together differs from the rows one by one"
        exact = exact and joined.tobytes() == tensor.array.tobytes()
    return True, f"rows together equal rows one by one {'bit for bit' if exact else 'within rounding'}, tried at load"


def _row(inputs: Tensors, index: int) -> dict[str, Tensor]:
    return {name: Tensor(each.datatype, each.array[index : index + 1]) for name, each in inputs.items()}


def _close(left: Array, right: Array) -> bool:
    if left.shape != right.shape:
        return False
    if left.dtype.kind == "f":
        return bool(np.allclose(left, right, rtol=_RELATIVE_TOLERANCE, atol=1e-5, equal_nan=True))
    return bool(np.array_equal(left, right))
