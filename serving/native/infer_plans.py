"""ModelInfer requests that look like earlier ones: what they ask for and how it is laid out is read and checked once,
then looked up by its very bytes. Whatever is new or needs a closer look each time, the codec reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from tritonclient.grpc import service_pb2 as pb

from engine import Array, Clock, DataType, Deadline, Layout, Parameter, Request, Tensor, limits
from serving.codec import decode_request, parse
from serving.native._wire import split_infer

if TYPE_CHECKING:
    from typing_extensions import Buffer


@dataclass(slots=True)
class _Input:
    name: str
    datatype: DataType
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    bytes_size: int


@dataclass(slots=True)
class _Plan:
    """Everything a request says but its id, its deadline and its tensors' content."""

    model: str
    version: int | None
    outputs: tuple[str, ...]
    parameters: dict[str, Parameter]
    priority: int
    inputs: list[_Input]
    layout: Layout


class RequestPlans:
    """Decodes requests; remembers the layouts it has seen, at most `LAYOUTS_MAX`, after which it starts anew."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._plans: dict[bytes, _Plan] = {}

    def decode(self, message: Buffer, deadline: Deadline) -> Request:
        """The request in a ModelInferRequest; its tensors are views of `message`. Raises as `decode_request`."""
        parts = split_infer(message)
        if parts is None:
            return self._read(message, deadline)
        head, request_id, raws = parts
        plan = self._plans.get(head)
        if plan is None:
            return self._learn(head, len(raws), self._read(message, deadline))
        if len(raws) != len(plan.inputs) or len(request_id) > limits.ID_CHARS_MAX:
            return self._read(message, deadline)
        inputs = {}
        for each, (offset, size) in zip(plan.inputs, raws, strict=True):
            if size != each.bytes_size:
                return self._read(message, deadline)
            array: Array = np.ndarray(each.shape, each.dtype, message, offset)  # type: ignore[arg-type]
            inputs[each.name] = Tensor(each.datatype, array if array.flags.aligned else array.copy())
        return Request(
            plan.model,
            inputs,
            plan.version,
            request_id,
            plan.outputs,
            deadline,
            plan.parameters,
            plan.layout,
            plan.priority,
        )

    def _read(self, message: Buffer, deadline: Deadline) -> Request:
        return decode_request(parse(pb.ModelInferRequest, bytes(message)), deadline, self._clock)

    def _learn(self, head: bytes, raws: int, request: Request) -> Request:
        """`request`, remembered if the next one like it can be read by its layout alone."""
        sizes_vary = any(each.datatype.size is None for each in request.inputs.values())
        if sizes_vary or raws != len(request.inputs) or "timeout" in request.parameters:
            return request
        if len(self._plans) >= limits.LAYOUTS_MAX:
            self._plans.clear()
        inputs = [
            _Input(name, each.datatype, each.datatype.dtype, each.shape, each.bytes_size)
            for name, each in request.inputs.items()
        ]
        row_shapes = tuple((each.name, each.shape[1:]) for each in inputs)
        layout = Layout(sum(each.bytes_size for each in inputs), row_shapes)
        self._plans[head] = _Plan(
            request.model, request.version, request.outputs, dict(request.parameters), request.priority, inputs, layout
        )
        return request
