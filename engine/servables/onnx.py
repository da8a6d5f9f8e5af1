"""ONNX models in this process, on ONNX Runtime. This and its neighbours `onnx_*` are the files that know `onnxruntime`.

Everything is read from the file itself: names, datatypes, shapes, and whether dimension 0 is a batch dimension.
"""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from engine.errors import (
    Cancelled,
    Internal,
    InvalidArgument,
    ModelFailed,
    ModelLoadError,
    ResourceExhausted,
    Unavailable,
    VireoError,
    quoted,
)
from engine.execution.declaration import CPU, NAMES, ParitySpec, Providers, ProviderSpec, names_told, onnx_name
from engine.execution.options import EngineCache, chosen, on_cpu_alone, told
from engine.execution.parity import disagreement
from engine.limits import BATCH_ROWS_MAX
from engine.servables.onnx_files import external_data
from engine.servables.probe import rows_are_independent, sample_inputs
from engine.servables.servable import Tensors, Traits
from engine.servables.signature import ANY, Signature, TensorSpec
from engine.tensor import BF16, BYTES, DATATYPES, Array, DataType, Tensor
from engine.work import Work, interruptible_work

if TYPE_CHECKING:
    import onnxruntime

    from engine.servables.onnx_binding import BoundRun, CapturedRun

log = logging.getLogger("vireo.engine")

_TYPES: Mapping[str, DataType] = {
    f"tensor({theirs})": DATATYPES[ours]
    for theirs, ours in {
        "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "int8": "INT8",
        "int16": "INT16", "int32": "INT32", "int64": "INT64", "float16": "FP16", "float": "FP32", "double": "FP64",
        "string": "BYTES", "bfloat16": "BF16",
    }.items()
}  # fmt: skip
_ONNX_BF16 = 16
_TERMINATED = "terminate flag"
_NODE_FAILED = "Non-zero status code returned while running"
_NO_MEMORY = ("Failed to allocate", "is smaller than requested bytes", "out of memory", "_ALLOC_FAILED")
"""Of its arena: the machine has none, or its own bound is reached; of CUDA; of cuBLAS and cuDNN."""
_DEVICES = ("CUDA", "cuda", "CUDNN", "CUBLAS", "TensorRT", "HIP", "MIGraphX", "OpenVINO", "CoreML", "DML")


@dataclass(frozen=True, slots=True)
class OnnxOptions:
    """How to run a model. `threads`: within one operator. `providers`: in order of preference; what others than the CPU say must
    agree with it within `parity`, None: is not compared. `batch_rows`: of the largest batch.

    `rows_max`: None reads batchability from the file; 0 says that the model does not batch; a number bounds a request's
    rows (`max_batch_size` of a `config.pbtxt`).
    """

    threads: int = 1
    providers: Providers = CPU
    rows_max: int | None = None
    batch_rows: int = BATCH_ROWS_MAX
    parity: ParitySpec | None = field(default_factory=ParitySpec)


class OnnxServable:
    """One ONNX session. Thread-safe, as ONNX Runtime's `run` is. `bound`: what runs it in place of that."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        signature: Signature,
        traits: Traits,
        bound: BoundRun | CapturedRun | None = None,
    ) -> None:
        import onnxruntime

        self._session: onnxruntime.InferenceSession | None = session
        self._run: Callable[..., Any] = bound or session.run
        self._options = onnxruntime.RunOptions()  # never terminated; made once, or a run makes its own for 0.5 us
        self.signature = signature
        self.traits = traits
        tensors = (*signature.inputs, *signature.outputs)
        self._has_bf16 = any(each.datatype is BF16 for each in tensors)
        self._strings = {each.name for each in signature.inputs if each.datatype is BYTES}
        self._output_types = {each.name: each.datatype for each in signature.outputs}

    def execute(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        """See `Servable.execute`. Outputs come in the order of `outputs`, or the model's."""
        names = outputs or self.signature.output_names
        try:
            if self._has_bf16:
                return self._execute_bf16(inputs, names)
            feeds = self.feeds(inputs)
            work = interruptible_work()
            run = self._run
            arrays = run(names, feeds, self._options) if work is None else _interruptibly(work, run, names, feeds)
        except Exception as error:
            raise _translated(error) from error
        return {name: self._output(name, array) for name, array in zip(names, arrays, strict=True)}

    def feeds(self, inputs: Tensors) -> dict[str, Array]:
        """What ONNX Runtime takes for `inputs`, none of which is BF16. Raises InvalidArgument for text that is not UTF-8."""
        feeds = {name: each.array for name, each in inputs.items()}
        if self._strings:
            feeds |= {name: _decoded(name, feeds[name]) for name in self._strings & feeds.keys()}
        return feeds

    def _output(self, name: str, array: Any) -> Tensor:  # noqa: ANN401  ONNX Runtime's own type
        datatype = self._output_types[name]
        if datatype is not BYTES:
            return Tensor(datatype, array)
        encoded = np.empty(array.shape, object)
        encoded.reshape(-1)[:] = [each.encode("utf-8", "surrogateescape") for each in array.reshape(-1)]
        return Tensor(datatype, encoded)

    def _execute_bf16(self, inputs: Tensors, names: Sequence[str]) -> Tensors:
        """numpy has no bfloat16, so every tensor goes in and out as an OrtValue over its bits."""
        import onnxruntime

        def value(each: Tensor) -> Any:  # noqa: ANN401
            if each.datatype is BF16:
                return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(each.array, _ONNX_BF16)
            return onnxruntime.OrtValue.ortvalue_from_numpy(each.array)

        if self._session is None:
            _closed()
        run, feeds = self._session.run_with_ort_values, {name: value(each) for name, each in inputs.items()}
        work = interruptible_work()
        values = run(names, feeds, self._options) if work is None else _interruptibly(work, run, names, feeds)
        return {
            name: Tensor(BF16, _bits(each)) if self._output_types[name] is BF16 else self._output(name, each.numpy())
            for name, each in zip(names, values, strict=True)
        }

    def close(self) -> None:
        """Drops the session; its memory goes when those still inside are out."""
        self._session, self._run = None, _closed


def load_onnx(path: Path, options: OnnxOptions) -> OnnxServable:
    """The model in `path`, ready to run. Raises ModelLoadError, naming the file and the reason; also where another provider than
    the CPU says something else than it."""
    outside = external_data(path)
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # wheels from 1.29 on send it by default
    import onnxruntime

    from engine.execution.engine_cache import engine_folder
    from engine.servables.onnx_devices import problem_of

    try:
        picked = chosen(options.providers, onnxruntime.get_available_providers(), problem_of)
    except ModelLoadError as error:
        raise ModelLoadError(f"{path.name}: {error.message}") from error
    on_cpu = _on_cpu(path, options)
    if on_cpu_alone(picked.used):
        return _noted(on_cpu, path, picked.left_out)
    try:
        servable = _on_providers(path, options, picked.used, on_cpu, engine_folder((path, *outside)))
    finally:
        on_cpu.close()
    return _noted(servable, path, picked.left_out)


def _noted(servable: OnnxServable, path: Path, left_out: Sequence[str]) -> OnnxServable:
    """With what was left out, which is also logged: whoever declared a GPU wants to hear that there is none."""
    for each in left_out:
        log.warning("%s: left out %s", path, each)
    notes = (f"left out: {each}" for each in left_out)
    servable.traits = replace(servable.traits, notes=(*servable.traits.notes, *notes))
    return servable


def _on_cpu(path: Path, options: OnnxOptions) -> OnnxServable:
    session = _session(path, options, [(NAMES["cpu"], {})])
    signature, batching = _signature(path, session, options.rows_max)
    traits = Traits("onnxruntime_onnx", batching, _notes(session, options))
    servable = OnnxServable(session, signature, traits)
    if not signature.batchable or options.rows_max is not None:
        return servable
    independent, seen = rows_are_independent(servable)
    return OnnxServable(
        session, replace(signature, batchable=independent), replace(traits, batching=f"{batching}; {seen}")
    )


def _on_providers(
    path: Path, options: OnnxOptions, providers: Sequence[str | ProviderSpec], on_cpu: OnnxServable, cache: EngineCache
) -> OnnxServable:
    """On `providers`, whose signature is that of `on_cpu`, with which it must agree. `cache`: see `told`."""
    from engine.execution.engine_cache import built

    signature = on_cpu.signature
    rows_max = min(options.batch_rows, signature.rows_max or options.batch_rows)
    try:
        asked = told(providers, signature, rows_max, cache)
    except ModelLoadError as error:
        raise ModelLoadError(f"{path.name}: {error.message}") from error
    session = built(asked, lambda asked: _session(path, options, asked))
    absent = [each for each in providers if onnx_name(each) not in session.get_providers()]
    if absent:
        raise ModelLoadError(
            f"{path.name}: ONNX Runtime could not make {names_told(absent)} work with the options declared, though it did "
            f"without them; it works on {', '.join(session.get_providers())}"
        )
    bound = _bound(path, session, providers, signature, rows_max)
    notes = (*_notes(session, options), *([bound.note] if bound is not None else ()))
    servable = OnnxServable(session, signature, replace(on_cpu.traits, notes=notes), bound)
    try:
        note = _parity_note(servable, on_cpu, options.parity, {1, rows_max, *(bound.graph_rows if bound else ())})
    except Exception as error:
        servable.close()
        raise ModelLoadError(f"{path.name}: {error}") from error
    servable.traits = replace(servable.traits, notes=(*servable.traits.notes, *note))
    return servable


def _bound(
    path: Path,
    session: onnxruntime.InferenceSession,
    providers: Sequence[str | ProviderSpec],
    signature: Signature,
    rows_max: int,
) -> BoundRun | CapturedRun | None:
    """What runs `session` in place of its own `run`, if anything does."""
    from engine.execution.binding import binding_of
    from engine.servables.onnx_binding import BoundRun, CapturedRun

    try:
        binding = binding_of(providers, signature, rows_max)
        if binding is None:
            return None
        return CapturedRun(session, binding) if binding.captures else BoundRun(session, binding)
    except Exception as error:
        message = (
            error.message if isinstance(error, ModelLoadError) else f"its tensors cannot be bound: {_first_line(error)}"
        )
        raise ModelLoadError(f"{path.name}: {message}") from error


def _parity_note(
    servable: OnnxServable, on_cpu: OnnxServable, parity: ParitySpec | None, compared: set[int]
) -> tuple[str, ...]:
    """What was compared, in batches of `compared` rows each. Raises ModelLoadError where the two disagree."""
    if parity is None:
        return ("not compared with the CPU: parity is null",)
    for rows in sorted(compared if on_cpu.signature.batchable else {1}):
        inputs = sample_inputs(on_cpu.signature, rows, seed=0)
        try:
            expected = on_cpu.execute(inputs, ())
        except InvalidArgument as error:
            return (f"not compared with the CPU: made-up inputs fail on it: {error.message}",)
        if (problem := disagreement(expected, servable.execute(inputs, ()), parity)) is not None:
            raise ModelLoadError(f"{rows} row(s) of made-up inputs: {problem}")
    return (f"agrees with the CPU within {parity.absolute:g} + {parity.relative:g} of its values, tried at load",)


def _session(
    path: Path, options: OnnxOptions, providers: Sequence[tuple[str, dict[str, str]]]
) -> onnxruntime.InferenceSession:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 4  # errors are raised as well, and bad input must not fill the log
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the other core belongs to others
    try:  # the fallback would serve on the CPU what was meant for another device
        return onnxruntime.InferenceSession(str(path), settings, providers=list(providers), enable_fallback=0)
    except Exception as error:
        what = "not an ONNX file" if type(error).__name__ == "InvalidProtobuf" else "ONNX Runtime cannot load it"
        raise ModelLoadError(f"{path.name}: {what}: {_first_line(error)}") from error


def _notes(session: onnxruntime.InferenceSession, options: OnnxOptions) -> tuple[str, ...]:
    return (
        f"ONNX Runtime on {', '.join(session.get_providers())}, {options.threads} thread(s) within an operator",
        *(f"metadata {key}: {value[:80]}" for key, value in session.get_modelmeta().custom_metadata_map.items()),
    )


def _signature(path: Path, session: onnxruntime.InferenceSession, rows_max: int | None) -> tuple[Signature, str]:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    batchable, why = _batchability([list(each.shape) for each in (*inputs, *outputs)])
    if rows_max is not None and rows_max > 0 and not batchable:
        raise ModelLoadError(f"{path.name}: max_batch_size is {rows_max}, but {why}")
    if rows_max == 0:
        batchable, why = False, "max_batch_size is 0"
    signature = Signature(
        tuple(_tensor_spec(path, each) for each in inputs),
        tuple(_tensor_spec(path, each) for each in outputs),
        batchable,
        rows_max or None,
    )
    return signature, why


def _tensor_spec(path: Path, node: Any) -> TensorSpec:  # noqa: ANN401  ONNX Runtime's NodeArg
    datatype = _TYPES.get(node.type)
    if datatype is None:
        raise ModelLoadError(f"{path.name}: tensor {quoted(node.name)} has type {node.type}, which cannot be served")
    shape = tuple(size if isinstance(size, int) and size >= 0 else ANY for size in node.shape)
    return TensorSpec(node.name, datatype, shape)


def _batchability(shapes: list[list[int | str | None]]) -> tuple[bool, str]:
    """Whether dimension 0 of every tensor is free, and by the same name where it is named."""
    if any(not shape for shape in shapes):
        return False, "a tensor has no dimensions"
    firsts = [shape[0] for shape in shapes]
    if any(isinstance(each, int) for each in firsts):
        return False, "dimension 0 of a tensor has a fixed size"
    names = {each for each in firsts if each}
    if len(names) > 1:
        return False, f"dimension 0 goes by different names: {', '.join(sorted(map(str, names)))}"
    return True, f"dimension 0 of every tensor is free{f' and named {names.pop()!r}' if names else ''}"


def _closed(*_: object) -> NoReturn:
    raise Unavailable("the model has been unloaded")


def _interruptibly(work: Work, run: Callable[..., Any], names: Sequence[str], feeds: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """`run`, ended between two operators when nobody waits any more."""
    import onnxruntime

    options = onnxruntime.RunOptions()

    def terminate() -> None:
        options.terminate = True

    with work.interrupting(terminate):
        return run(names, feeds, options)


def _decoded(name: str, array: Any) -> Any:  # noqa: ANN401
    """ONNX strings are text: InvalidArgument for what is not UTF-8."""
    text = np.empty(array.shape, object)
    try:
        text.reshape(-1)[:] = [each.decode() for each in array.reshape(-1)]
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"input {quoted(name)}: an ONNX string must be UTF-8: {error.reason}") from error
    return text


def _bits(value: Any) -> Any:  # noqa: ANN401  an OrtValue
    """A copy of a bfloat16 OrtValue's bits as uint16."""
    shape = tuple(value.shape())
    count = int(np.prod(shape, dtype=np.int64))
    if count == 0:
        return np.zeros(shape, np.uint16)
    return np.frombuffer(ctypes.string_at(value.data_ptr(), 2 * count), np.uint16).reshape(shape)


def _translated(error: Exception) -> Exception:
    """ONNX Runtime's error as ours. Its InvalidArgument and a failing node both come from the values given.

    Except where the node failed for want of memory, or on a device that may be at fault itself.
    """
    if isinstance(error, VireoError):
        return error
    kind, text = type(error).__name__, str(error)
    if _TERMINATED in text:
        return Cancelled("stopped: nobody waits for it any more")
    if any(each in text for each in _NO_MEMORY):
        return ResourceExhausted(f"ONNX Runtime is out of memory: {_first_line(error)}")
    if kind == "InvalidArgument":
        return InvalidArgument(f"ONNX Runtime refuses the input: {_first_line(error)}")
    if _NODE_FAILED in text and not any(each in text for each in _DEVICES):
        return ModelFailed(f"ONNX Runtime failed on the input: {_first_line(error)}")
    return Internal(f"ONNX Runtime failed: {kind}: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:500]
