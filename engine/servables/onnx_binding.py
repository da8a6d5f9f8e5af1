"""Runs of an ONNX Runtime session whose tensors are bound to a device (IO binding), and replayed as CUDA graphs.

Each of the two stands where the session's own `run` does: names of outputs, inputs and run options in, arrays out. Follows
https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html, "Using CUDA Graphs".
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from engine.errors import Cancelled, ModelLoadError, quoted
from engine.execution.binding import Binding, Buffer, Capture, capture_for, padded_into
from engine.execution.pinned import pinned_zeros
from engine.tensor import Array

if TYPE_CHECKING:
    import onnxruntime

_GRAPH_ID: Final = "gpu_graph_id"
"""The run option that names a graph: -1 is none, and 0 ONNX Runtime keeps for itself."""
_NO_GRAPH: Final = "-1"
_ON_DEVICE: Final = "Cuda"
"""What ONNX Runtime calls a GPU's memory."""


_capturing = threading.Lock()
"""One capture at a time: ONNX Runtime captures so that calls of any thread that CUDA holds unsafe meanwhile, such as another
capture's, fail (`cudaStreamCaptureModeGlobal`)."""


class BoundRun:
    """Outputs that the model makes on the device stay there until they are copied out once. Thread-safe: each run has a binding
    of its own. `note`: what is bound where. `graph_rows`: of its graphs, of which it has none.

    Each input is copied to where the model reads it, which for a few is the CPU, before it is bound, and the copy is over when
    `ortvalue_from_numpy` returns. Bound in the caller's memory it would be copied by `bind_ortvalue_input`, which leaves the
    copy on its way on a stream that, beside other callers, is not the run's (`CopyOneInputAcrossDevices`), and only
    `synchronize_inputs` would make that safe. That and `synchronize_outputs` are `cudaDeviceSynchronize`, which waits for all
    that anybody runs on the device; a run itself is over when `run_with_iobinding` returns, as nobody asks for
    `disable_synchronize_execution_providers`.
    """

    def __init__(self, session: onnxruntime.InferenceSession, binding: Binding) -> None:
        self._session = session
        self._sources = _places(session.get_inputs(), session.get_input_memory_infos(), binding)
        self._places = _places(session.get_outputs(), session.get_output_memory_infos(), binding)
        self.graph_rows: tuple[int, ...] = ()
        count = sum(place == (binding.device, binding.device_id) for place in self._places.values())
        self.note = f"{count} of {len(self._places)} outputs bound to {binding.device}:{binding.device_id}, the others to the CPU"

    def __call__(
        self, names: Sequence[str], feeds: Mapping[str, Array], options: onnxruntime.RunOptions
    ) -> list[Array]:
        """As the session's `run`."""
        import onnxruntime

        bound = self._session.io_binding()
        for name, array in feeds.items():
            contiguous = np.asarray(array, order="C")
            bound.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(contiguous, *self._sources[name]))
        for name in names:
            bound.bind_output(name, *self._places[name])
        self._session.run_with_iobinding(bound, options)
        return [each.numpy() for each in bound.get_outputs()]


def _places(nodes: Sequence[Any], infos: Sequence[Any], binding: Binding) -> dict[str, tuple[str, int]]:
    """On which device the session has each tensor."""
    device = (binding.device, binding.device_id)
    return {
        node.name: device if place.name == _ON_DEVICE else ("cpu", 0) for node, place in zip(nodes, infos, strict=True)
    }


class CapturedRun:
    """A CUDA graph for each capture of `binding`, captured here; what fits none of them is run as `BoundRun` does.

    Thread-safe: all runs of the session are made on one thread of its own, as ONNX Runtime demands: it keeps graphs with the
    thread that captured them. The thread ends when nobody holds this any more. Raises ModelLoadError where a graph cannot be;
    what ONNX Runtime raises comes through.
    """

    def __init__(self, session: onnxruntime.InferenceSession, binding: Binding) -> None:
        self._plain = BoundRun(session, binding)
        self._captures = binding.captures
        self.graph_rows = tuple(each.rows for each in binding.captures)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="onnx-graphs")
        self._graphs = self._thread.submit(_captured, session, binding).result()
        memory = "pinned memory" if all(each.pinned for each in self._graphs) else "memory that is not pinned"
        where = f"{binding.device}:{binding.device_id}, inputs by way of {memory}"
        self.note = f"CUDA graphs of {', '.join(map(str, self.graph_rows))} row(s) on {where}"

    def __call__(
        self, names: Sequence[str], feeds: Mapping[str, Array], options: onnxruntime.RunOptions
    ) -> list[Array]:
        """As the session's `run`. A graph that is being replayed is not interrupted."""
        return self._thread.submit(self._run, names, feeds, options).result()

    def _run(self, names: Sequence[str], feeds: Mapping[str, Array], options: onnxruntime.RunOptions) -> list[Array]:
        if options.terminate:
            raise Cancelled("stopped: nobody waits for it any more")
        index = capture_for(self._captures, feeds)
        if index is not None:
            return self._graphs[index].replay(names, feeds)
        _name_graph(options, _NO_GRAPH)
        return self._plain(names, feeds, options)


class _Graph:
    """One captured graph and the buffers it reads and writes, at addresses that never change. For one thread. `pinned`: whether
    the device copies its inputs by itself."""

    def __init__(self, session: onnxruntime.InferenceSession, binding: Binding, capture: Capture, number: int) -> None:
        import onnxruntime

        self._session, self._capture = session, capture
        self._copied = binding.device == "cpu"  # its arrays lie over the very buffers
        self._options = onnxruntime.RunOptions()
        _name_graph(self._options, str(number))
        self._inputs = {name: _on_device(each, binding) for name, each in capture.inputs.items()}
        self._outputs = {name: _on_device(each, binding) for name, each in capture.outputs.items()}
        staged = {
            name: _staging(each, binding) for name, each in capture.inputs.items()
        }  # the thread knows the device now
        self._staged = {name: array for name, (array, _) in staged.items()}
        self.pinned = all(pinned for _, pinned in staged.values())
        self._bound = session.io_binding()
        for name, value in self._inputs.items():
            value.update_inplace(self._staged[name])
            self._bound.bind_ortvalue_input(name, value)
        for name, value in self._outputs.items():
            self._bound.bind_ortvalue_output(name, value)
        self._session.run_with_iobinding(self._bound, self._options)  # which captures it

    def replay(self, names: Sequence[str], feeds: Mapping[str, Array]) -> list[Array]:
        """The outputs `names` of `feeds`, which the capture takes: arrays of the caller's own, without the rows of padding.

        A copy is over when `update_inplace` returns, and so is the run, as in `BoundRun`.
        """
        for name, array in feeds.items():
            staged = self._staged[name]
            padded_into(staged, array)
            self._inputs[name].update_inplace(staged)
        self._session.run_with_iobinding(self._bound, self._options)
        kept = slice(None)
        if self._capture.batched:
            kept = slice(len(next(iter(feeds.values()))))
        arrays = [self._outputs[name].numpy() for name in names]
        return [each[kept].copy() if self._copied else each[kept] for each in arrays]


def _captured(session: onnxruntime.InferenceSession, binding: Binding) -> list[_Graph]:
    if binding.device != "cpu":
        places = zip(session.get_inputs(), session.get_input_memory_infos(), strict=True)
        elsewhere = [node.name for node, place in places if place.name != _ON_DEVICE]
        if elsewhere:
            raise ModelLoadError(
                f"cuda.graph_rows: input {quoted(elsewhere[0])} is read on the CPU, not in a CUDA graph"
            )
    with _capturing:
        return [_Graph(session, binding, each, number) for number, each in enumerate(binding.captures, 1)]


def _on_device(buffer: Buffer, binding: Binding) -> Any:  # noqa: ANN401  an OrtValue
    import onnxruntime

    made = onnxruntime.OrtValue.ortvalue_from_shape_and_type
    return made(buffer.shape, buffer.dtype.type, binding.device, binding.device_id)


def _staging(buffer: Buffer, binding: Binding) -> tuple[Array, bool]:
    """Zeros in this machine's memory, and whether it is pinned, so that a GPU copies from it by itself."""
    pinned = pinned_zeros(buffer.shape, buffer.dtype) if binding.device == "cuda" else None
    return (np.zeros(buffer.shape, buffer.dtype), False) if pinned is None else (pinned, True)


def _name_graph(options: onnxruntime.RunOptions, graph: str) -> None:
    """Once for all runs of `options`: it warns of a second time."""
    with contextlib.suppress(RuntimeError):  # raised where there is none yet
        if options.get_run_config_entry(_GRAPH_ID) == graph:
            return
    options.add_run_config_entry(_GRAPH_ID, graph)
