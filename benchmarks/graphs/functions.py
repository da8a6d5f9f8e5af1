"""What the measured graphs call: functions that do nothing, so that what is left is the graph."""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Wide = npt.NDArray[np.float64]
Outputs = dict[str, Array]


def same(x: Array) -> Outputs:
    """y is x itself."""
    return {"y": x}


def first(a: Array, b: Array, c: Array, d: Array, e: Array, f: Array, g: Array, h: Array) -> Outputs:
    """The join of eight: y is the first itself."""
    return {"y": a}


def assemble(card: Wide, merchant: Wide, device: Wide, **raw: Array) -> Outputs:
    """The model's row: what came with the request, in the order of its names, then the features of the three entities."""
    columns = len(raw)
    wide = (card, merchant, device)
    rows = np.empty((len(card), columns + sum(each.shape[1] for each in wide)), np.float32)
    for at, name in enumerate(sorted(raw)):
        rows[:, at] = raw[name]
    for each in wide:
        rows[:, columns : columns + each.shape[1]] = each
        columns += each.shape[1]
    return {"row": rows}
