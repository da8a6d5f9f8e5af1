"""Whether what a model says on another execution provider is what it says on the CPU. Pure."""

from __future__ import annotations

import numpy as np

from engine.errors import quoted
from engine.execution.declaration import ParitySpec
from engine.servables.servable import Tensors
from engine.tensor import Array, Tensor


def disagreement(cpu: Tensors, other: Tensors, parity: ParitySpec) -> str | None:
    """Where `other` lies too far from `cpu`, and how far; None where nowhere. What is no number in both is alike."""
    for name, expected in cpu.items():
        found = other[name]
        if expected.shape != found.shape:
            return f"output {quoted(name)} has shape {list(found.shape)}, on the CPU {list(expected.shape)}"
        left, right = _values(expected), _values(found)
        if left.dtype.kind != "f":
            differing = int((left != right).sum())
            if differing:
                return f"output {quoted(name)}: {differing} of {left.size} values differ from the CPU's"
            continue
        fits = np.isclose(right, left, rtol=parity.relative, atol=parity.absolute, equal_nan=True)
        if not fits.all():
            place = tuple(int(each) for each in np.argwhere(~fits)[0])
            return (
                f"output {quoted(name)}{list(place)}: {float(right[place]):.6g}, on the CPU {float(left[place]):.6g}; "
                f"{int((~fits).sum())} of {left.size} values lie more than {parity.absolute:g} + {parity.relative:g} of it apart"
            )
    return None


def _values(tensor: Tensor) -> Array:
    array = tensor.values
    return array.astype(np.float64) if array.dtype.kind == "f" else array
