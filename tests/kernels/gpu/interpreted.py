"""Triton's interpreter, which runs kernels on the CPU, with numpy in the place of two things of its own.

It computes `tl.topk` element by element in Python (a minute for 4,096 keys), and multiplies the bits of bfloat16 as integers.
"""

from __future__ import annotations

import os
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"  # read when kernels are made

import numpy as np
import torch
import triton.language as tl
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

torch.set_num_threads(1)  # of small tensors
triton_topk = tl.topk
_dot = InterpreterBuilder.create_dot


def _numpy_topk(keys: Any, count: Any, **_: object) -> Any:  # noqa: ANN401
    best = np.sort(keys.handle.data, axis=-1)[..., ::-1][..., : int(count)].copy()
    return tl.core.tensor(TensorHandle(best, keys.dtype), tl.block_type(keys.dtype, list(best.shape)))


def _widened(operand: Any) -> Any:  # noqa: ANN401
    if operand.dtype != tl.bfloat16:
        return operand
    return TensorHandle((operand.data.astype(np.uint32) << 16).view(np.float32), tl.float32)


def _create_dot(self: Any, left: Any, right: Any, *more: Any) -> Any:  # noqa: ANN401
    return _dot(self, _widened(left), _widened(right), *more)


tl.topk = _numpy_topk
InterpreterBuilder.create_dot = _create_dot
