"""ONNX files written anew: optimised, in 8 bits, in 16. Beside `engine.servables.onnx` the one file that knows ONNX Runtime."""

from __future__ import annotations

import logging
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from engine.errors import FailedPrecondition, InvalidArgument, nearest, quoted
from engine.optimization.record import Step
from engine.tensor import Array

Feeds = Mapping[str, Array]

_INT8_STATIC: Final = ("Conv", "Gemm", "MatMul")
_INT8_DYNAMIC: Final = (*_INT8_STATIC, "Attention", "LSTM")
_DATA_BYTES_MIN: Final = 1024
"""Weights smaller than this stay in the model file where others lie outside."""

_OUTSIDE: Final = "weights.bin"
LIBRARIES: Final = ("onnxruntime", "onnxruntime-gpu", "onnx", "numpy")
"""What it is done with."""


@dataclass(frozen=True, slots=True)
class RewriteOptions:
    """`level`: of graph optimisation; `all` fits the CPU it runs on alone. `per_channel`: a scale for each column of the weights
    instead of one for all. `keep_float`: nodes that INT8 leaves alone; None: the last ones before the outputs, which are small,
    and whose error nothing behind them evens out."""

    level: Literal["basic", "extended", "all"] = "extended"
    per_channel: bool = True
    keep_float: tuple[str, ...] | None = None


def rewrite(
    step: Step, source: Path, out: Path, options: RewriteOptions, calibration: Sequence[Feeds]
) -> dict[str, str]:
    """Writes `source` as `out`, a file in an empty folder; what was chosen, by name. `calibration`: inputs as the model will meet
    them, for `int8-static`.

    Raises FailedPrecondition where the step changes nothing or cannot be done, InvalidArgument for a node that is not there.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # see engine.servables.onnx
    import onnx

    model = onnx.load(str(source))
    outside = any(each.external_data for each in onnx.load(str(source), load_external_data=False).graph.initializer)
    try:
        with _quiet():
            if step == "graph":
                chosen = _optimised(source, out, options, outside=outside)
            elif step == "fp16":
                chosen = _halved(model, out, outside=outside)
            else:
                chosen = _in_8_bits(step, model, out, options, calibration, outside=outside)
    except (OSError, FailedPrecondition, InvalidArgument):
        raise
    except Exception as error:
        raise FailedPrecondition(f"{step}: ONNX Runtime's tools fail on {source.name}: {_told(error)}") from error
    if step == "graph" and _same(model, onnx.load(str(out))):
        raise FailedPrecondition(f"graph: nothing to optimise in {source.name} ({_counted(_operators(model))})")
    return chosen


def _optimised(source: Path, out: Path, options: RewriteOptions, *, outside: bool) -> dict[str, str]:
    import onnxruntime

    levels = onnxruntime.GraphOptimizationLevel
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    settings.graph_optimization_level = {
        "basic": levels.ORT_ENABLE_BASIC, "extended": levels.ORT_ENABLE_EXTENDED, "all": levels.ORT_ENABLE_ALL,
    }[options.level]  # fmt: skip
    settings.optimized_model_filepath = str(out)
    if outside:
        settings.add_session_config_entry("session.optimized_model_external_initializers_file_name", _OUTSIDE)
        settings.add_session_config_entry(
            "session.optimized_model_external_initializers_min_size_in_bytes", str(_DATA_BYTES_MIN)
        )
    onnxruntime.InferenceSession(str(source), settings, providers=["CPUExecutionProvider"])
    return {"level": options.level}


def _halved(model: Any, out: Path, *, outside: bool) -> dict[str, str]:  # noqa: ANN401  onnx has no types for us
    import onnx

    paths = list(sys.path)
    try:
        from onnxruntime.transformers.float16 import convert_float_to_float16
    finally:
        sys.path[:] = paths  # it adds its own folder, whose modules have names that others use
    blocked = set(_operators(model))
    made = convert_float_to_float16(model, keep_io_types=True)
    if not any(each.data_type == onnx.TensorProto.FLOAT16 for each in _constants(made)):
        raise FailedPrecondition(
            f"fp16: no weights that can be 16 bits wide: {', '.join(sorted(blocked))} stay as they are"
        )
    _save(made, out, outside=outside)
    return {"inputs and outputs": "as before"}


def _in_8_bits(
    step: Step,
    model: Any,  # noqa: ANN401
    out: Path,
    options: RewriteOptions,
    calibration: Sequence[Feeds],
    *,
    outside: bool,
) -> dict[str, str]:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_dynamic, quantize_static

    kinds = _INT8_STATIC if step == "int8-static" else _INT8_DYNAMIC
    if not any(node.op_type in kinds for node in model.graph.node):
        raise FailedPrecondition(
            f"{step}: 8 bits cannot apply: they are for the weights of {', '.join(kinds)}, and this model has none of these, but "
            f"{_counted(_operators(model))}"
        )
    kept = _kept_float(model, kinds, options.keep_float)
    shared = {
        "op_types_to_quantize": list(kinds), "per_channel": options.per_channel, "weight_type": QuantType.QInt8,
        "nodes_to_exclude": [name for each in kept for name in (each, f"{each}_MatMul")],  # as a Gemm may be called then
        "use_external_data_format": outside,
    }  # fmt: skip
    if step == "int8-static":
        quantize_static(
            model, str(out), _Calibration(calibration), quant_format=QuantFormat.QDQ, activation_type=QuantType.QUInt8,
            calibrate_method=CalibrationMethod.MinMax, **shared,
        )  # fmt: skip
    else:
        quantize_dynamic(model, str(out), **shared)
    _check_written(step, out)
    return {"scales": "one a column" if options.per_channel else "one a tensor", "in float": ", ".join(kept) or "none"}


def _check_written(step: Step, out: Path) -> None:
    import onnx

    found = _operators(onnx.load(str(out), load_external_data=False))
    if not any("QuantizeLinear" in each or each.endswith("Integer") for each in found):
        raise FailedPrecondition(
            f"{step}: nothing was written in 8 bits: no operator but those left in float has constant weights ({_counted(found)})"
        )


class _Calibration:
    """What ONNX Runtime calls a data reader."""

    def __init__(self, feeds: Sequence[Feeds]) -> None:
        self._left = iter(feeds)

    def get_next(self) -> dict[str, Array] | None:
        """The next request; None after the last."""
        found = next(self._left, None)
        return None if found is None else dict(found)


def _kept_float(model: Any, kinds: Sequence[str], wanted: Sequence[str] | None) -> list[str]:  # noqa: ANN401
    """Names of the nodes to leave alone; nodes without a name get one."""
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    names = [node.name for node in model.graph.node]
    if wanted is not None:
        for each in wanted:
            if each not in names:
                raise InvalidArgument(f"--keep-float: no node {quoted(each)}{nearest(each, names)}")
        return list(wanted)
    made_by = {output: node for node in model.graph.node for output in node.output}
    pending, seen, last = [each.name for each in model.graph.output], set(), []
    while pending:
        node = made_by.get(pending.pop())
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        if node.op_type in kinds:
            last.append(node.name)
        else:
            pending.extend(node.input)
    quantisable = [node.name for node in model.graph.node if node.op_type in kinds]
    return last if len(last) < len(quantisable) else []


def _operators(model: Any) -> Counter[str]:  # noqa: ANN401
    return Counter(node.op_type for node in model.graph.node)


def _counted(operators: Mapping[str, int]) -> str:
    return ", ".join(f"{name} x{count}" if count > 1 else name for name, count in sorted(operators.items()))


def _constants(model: Any) -> Iterator[Any]:  # noqa: ANN401
    yield from model.graph.initializer
    yield from (each.t for node in model.graph.node for each in node.attribute if each.name == "value")


def _same(one: Any, other: Any) -> bool:  # noqa: ANN401
    """Whether two graphs have the same operators, wired alike, with the same attributes."""

    def told(model: Any) -> list[Any]:  # noqa: ANN401
        return [
            (node.op_type, tuple(node.input), tuple(node.output), sorted(each.name for each in node.attribute))
            for node in model.graph.node
        ]

    return told(one) == told(other)


def _save(model: Any, out: Path, *, outside: bool) -> None:  # noqa: ANN401
    import onnx

    if outside:
        onnx.save(model, str(out), save_as_external_data=True, location=_OUTSIDE, size_threshold=_DATA_BYTES_MIN)
    else:
        onnx.save(model, str(out))


@contextmanager
def _quiet() -> Iterator[None]:
    """ONNX Runtime's tools advise through the root logger; what matters is raised."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)


def _told(error: Exception) -> str:
    lines = str(error).strip().split("\n", 1)
    return f"{type(error).__name__}: {lines[0][:500]}"
