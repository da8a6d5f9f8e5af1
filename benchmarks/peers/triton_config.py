"""What Triton must be told of an ONNX model: its config.pbtxt. Pure but for `read_model`.

Names, datatypes and shapes come from the file itself. A model batches when every tensor's first dimension is free.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

DATATYPES = {
    "float": "FP32", "double": "FP64", "float16": "FP16", "bool": "BOOL", "string": "STRING",
    **{f"{sign}int{bits}": f"{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}  # fmt: skip
"""ONNX Runtime's element types by Triton's names for them."""


class Backend(StrEnum):
    """What runs the model inside Triton."""

    PYTHON = "python"
    ONNXRUNTIME = "onnxruntime"


class Argument(Protocol):
    """An input or output as ONNX Runtime describes it: a free dimension is a name or None."""

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def shape(self) -> Sequence[int | str | None]: ...


@dataclass(frozen=True, slots=True)
class TensorConfig:
    """One input or output. `dims` lack the batch dimension where the model batches; -1 is a free one."""

    name: str
    datatype: str
    dims: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """All that Triton asks of a model."""

    batches: bool
    inputs: list[TensorConfig]
    outputs: list[TensorConfig]


def read_model(file: Path) -> ModelConfig:
    """The config of the ONNX model in `file`. Raises ValueError for what Triton has no tensor for."""
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return model_config(session.get_inputs(), session.get_outputs())


def model_config(inputs: Sequence[Argument], outputs: Sequence[Argument]) -> ModelConfig:
    """The config of a model with these arguments."""
    batches = all(each.shape and not isinstance(each.shape[0], int) for each in (*inputs, *outputs))
    return ModelConfig(
        batches,
        [tensor_config(each, batches) for each in inputs],
        [tensor_config(each, batches) for each in outputs],
    )


def tensor_config(argument: Argument, batches: bool) -> TensorConfig:
    """One argument; an ONNX type is written such as "tensor(float)"."""
    datatype = DATATYPES.get(argument.type.removeprefix("tensor(").removesuffix(")"))
    if datatype is None:
        raise ValueError(f"'{argument.name}' is a {argument.type}, which Triton has no datatype for")
    dims = tuple(size if isinstance(size, int) else -1 for size in argument.shape)
    return TensorConfig(argument.name, f"TYPE_{datatype}", dims[1:] if batches else dims)


def config_text(model: ModelConfig, *, rows_max: int, dynamic_batching: bool, backend: Backend = Backend.PYTHON) -> str:
    """config.pbtxt: one instance on the CPU; requests of up to `rows_max` rows, joined where dynamic batching is asked.

    A batch never waits for more requests (max_queue_delay_microseconds is left at 0).
    """
    lines = [
        f'backend: "{backend.value}"',
        f"max_batch_size: {rows_max if model.batches else 0}",
        *tensor_lines("input", model.inputs),
        *tensor_lines("output", model.outputs),
        "instance_group [ { kind: KIND_CPU count: 1 } ]",
    ]
    if model.batches and dynamic_batching:
        lines.append("dynamic_batching { }")
    if backend is Backend.ONNXRUNTIME:
        lines.append('parameters { key: "intra_op_thread_count" value: { string_value: "1" } }')
    return "\n".join(lines) + "\n"


def tensor_lines(kind: str, tensors: Iterable[TensorConfig]) -> list[str]:
    """A line for each tensor."""
    return [
        f'{kind} [ {{ name: "{each.name}" data_type: {each.datatype} {dims_text(each.dims)} }} ]' for each in tensors
    ]


def dims_text(dims: tuple[int, ...]) -> str:
    """The dims of a tensor; Triton wants at least one, so one without gets one that the model does not see."""
    return f"dims: [ {', '.join(map(str, dims))} ]" if dims else "dims: [ 1 ] reshape: { shape: [ ] }"
