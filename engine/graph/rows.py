"""A node that runs for some rows of a request: those for which its condition is true. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.graph.call import Values, first_there
from engine.graph.condition import is_true, true_rows
from engine.graph.plan import Condition, Node, Plan
from engine.tensor import Tensor

Mask = npt.NDArray[np.bool_]


def runs_by_rows(plan: Plan, node: Node) -> bool:
    """Whether a node with a condition is asked row by row: where rows are counted, and it is said what the others hold."""
    fallbacks = (node.on_late, node.on_error)
    remembered = any(each is not None and each.cached is not None for each in fallbacks)
    written = {slot for slot, _ in node.otherwise}
    return plan.signature.batchable and written >= set(node.slots) and not remembered


def holds(condition: Condition, values: Values) -> bool:
    """Whether a node's condition is true of any element of what is there."""
    tensor = first_there(values, condition.choices)
    if tensor is None:
        return False
    return is_true(condition.operator, condition.operand, np.asarray(tensor.array))


def rows_where(condition: Condition, values: Values, rows: int) -> Mask:
    """For which rows it is true."""
    tensor = first_there(values, condition.choices)
    if tensor is None:
        return np.zeros(rows, np.bool_)
    return true_rows(condition.operator, condition.operand, np.asarray(tensor.array), rows)


def some_rows(values: Values, mask: Mask) -> Values:
    """The values with only these rows; all begin with one row a row of the request."""
    return [each if each is None else Tensor(each.datatype, each.array[mask]) for each in values]


def spread(answered: Tensor, mask: Mask, otherwise: Tensor) -> Tensor:
    """`otherwise` with the rows of `mask` as `answered`: as a new tensor."""
    array: npt.NDArray[Any] = np.repeat(otherwise.array[:1], len(mask), axis=0)
    if array.shape[1:] != answered.array.shape[1:]:
        array = np.broadcast_to(array, (len(mask), *answered.array.shape[1:])).copy()
    array[mask] = answered.array
    return Tensor(answered.datatype, array)
