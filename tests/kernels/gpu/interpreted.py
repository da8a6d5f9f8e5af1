"""Triton's interpreter, which runs kernels on the CPU. It multiplies the bits of bfloat16 as integers: they are widened first."""

from __future__ import annotations

import os
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"  # read when kernels are made

import numpy as np
import torch
import triton.language as tl
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

torch.set_num_threads(1)  # of small tensors
_dot = InterpreterBuilder.create_dot


def _widened(operand: Any) -> Any:  # noqa: ANN401
    if operand.dtype != tl.bfloat16:
        return operand
    return TensorHandle((operand.data.astype(np.uint32) << 16).view(np.float32), tl.float32)


def _create_dot(self: Any, left: Any, right: Any, *more: Any) -> Any:  # noqa: ANN401
    return _dot(self, _widened(left), _widened(right), *more)


InterpreterBuilder.create_dot = _create_dot
