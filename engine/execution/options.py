"""Declared execution providers as ONNX Runtime takes them: which are used, and the options of each, under its names. Pure.

Options are those of ONNX Runtime's CUDA and TensorRT execution providers, https://onnxruntime.ai/docs/execution-providers/.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from engine.errors import ModelLoadError, nearest, quoted
from engine.execution.declaration import (
    NAMES,
    CudaSpec,
    Providers,
    ProviderSpec,
    ShapeSpec,
    TensorRtSpec,
    declared_by,
    names_told,
    onnx_name,
)
from engine.servables.signature import ANY, Signature, TensorSpec

Told = tuple[str, dict[str, str]]
"""A provider's name and options, as a session is given them."""

_EXTEND: Final = {"next_power_of_two": "kNextPowerOfTwo", "same_as_requested": "kSameAsRequested"}


@dataclass(frozen=True, slots=True)
class Chosen:
    """Providers that a session is made with, and of those left out which and why, in words."""

    used: tuple[str | ProviderSpec, ...]
    left_out: tuple[str, ...] = ()


def chosen(
    providers: Providers, available: Collection[str], problem_of: Callable[[str | ProviderSpec], str | None]
) -> Chosen:
    """Those of `providers` that ONNX Runtime has, as it lists in `available`, and that work: `problem_of` one that it has says
    why it does not, None where it does. Raises ModelLoadError where a required one is not to be had, or where none is left."""
    used, left_out = [], []
    told = f"asked for: {names_told(providers)}; available: {', '.join(available)}"
    for each in providers:
        word = each if isinstance(each, str) else each.word
        there = onnx_name(each) in available
        problem = problem_of(each) if there else "ONNX Runtime was built without it"
        if problem is None:
            used.append(each)
        elif not isinstance(each, str) and not each.required:
            left_out.append(f"{word}: {problem}")
        elif there:
            raise ModelLoadError(f"the execution provider {quoted(word)} does not work here: {problem}; {told}")
        else:
            raise ModelLoadError(f"no execution provider {quoted(word)} here; {told}")
    if not used:
        raise ModelLoadError(
            f"none of the execution providers {names_told(providers)} is to be had, and the list does not go on to cpu: "
            f"{'; '.join(left_out)}; available: {', '.join(available)}"
        )
    return Chosen(tuple(used), tuple(left_out))


def on_cpu_alone(providers: Sequence[str | ProviderSpec]) -> bool:
    """Whether nothing else is among them."""
    return all(onnx_name(each) == NAMES["cpu"] for each in providers)


Profile = Mapping[str, ShapeSpec]

EngineCache = Callable[[ProviderSpec, Profile], str | None]
"""The folder of an engine; None where none is declared."""

CACHE_KEYS: Final = ("trt_engine_cache_path", "trt_timing_cache_path")
"""Options of TensorRT that name an engine's folder."""


def profile_of(signature: Signature, declared: Profile, *, rows_opt: int | None, rows_max: int) -> dict[str, ShapeSpec]:
    """The shapes an engine is built for: those declared, and of inputs of which only the rows vary, 1 to `rows_max` rows.

    Raises ModelLoadError where an input varies otherwise and is not declared, or where what is declared cannot work: an engine
    computes nothing outside its shapes, so that a request which the model takes would fail.
    """
    known = signature.input_named
    for name, shape in declared.items():
        if name not in known:
            raise ModelLoadError(
                f"tensorrt.shapes: no input {quoted(name)}{nearest(name, known)}; inputs: {', '.join(known)}"
            )
        if (problem := _shape_problem(known[name], shape, signature.batchable, rows_max)) is not None:
            raise ModelLoadError(f"tensorrt.shapes.{name}: {problem}")
    rows_allowed = rows_max if signature.batchable else 1
    if rows_opt is not None and rows_opt > rows_allowed:
        limit = f"a batch has at most {rows_max} rows" if signature.batchable else "the model takes no batches"
        raise ModelLoadError(f"tensorrt.rows_opt: {rows_opt}, but {limit}")
    found = {}
    for each in signature.inputs:
        if each.name in declared:
            found[each.name] = declared[each.name]
            continue
        inner = each.shape[1:] if signature.batchable else each.shape
        if ANY in inner:
            raise ModelLoadError(
                f"input {quoted(each.name)} of shape {list(each.shape)}: TensorRT needs its least, best and greatest, in "
                "tensorrt.shapes"
            )
        if signature.batchable:
            found[each.name] = ShapeSpec((1, *inner), (rows_opt or rows_max, *inner), (rows_max, *inner))
    for name in (each for each in found if set(":,") & set(each)):
        raise ModelLoadError(
            f"input {quoted(name)}: ONNX Runtime reads names of TensorRT's inputs up to a ':' or ','; rename it"
        )
    return found


def _shape_problem(spec: TensorSpec, shape: ShapeSpec, batchable: bool, rows_max: int) -> str | None:
    """Why an engine of `shape` does not compute what may be asked for; None where it does."""
    for key in ("min", "opt", "max"):
        sizes = getattr(shape, key)
        if not spec.takes(sizes):
            return f"{key} is {list(sizes)}, but the model takes {list(spec.shape)}"
    for place, size in enumerate(spec.shape):
        if size == ANY and shape.min[place] > 1:
            what = "rows" if batchable and place == 0 else f"dimension {place}"
            return f"min is {list(shape.min)}, but {what} of the model's {list(spec.shape)} vary from 1: give 1 there"
    if batchable and shape.max[0] < rows_max:
        return (
            f"max is {list(shape.max)}, but a batch may have {rows_max} rows (batching.rows_max): give at least as many"
        )
    return None


def cuda_options(spec: CudaSpec) -> dict[str, str]:
    """Of the CUDA execution provider."""
    options = {
        "device_id": str(spec.device_id),
        "arena_extend_strategy": _EXTEND[spec.arena_extend],
        "cudnn_conv_algo_search": spec.cudnn_search.upper(),
        "use_tf32": _flag(spec.tf32),
    }
    if spec.arena_bytes_max is not None:
        options["gpu_mem_limit"] = str(spec.arena_bytes_max)
    if spec.graph_rows:
        options["enable_cuda_graph"] = "1"
    return options


def tensorrt_options(spec: ProviderSpec, profile: Profile, cache: str | None) -> dict[str, str]:
    """Of the TensorRT execution provider; `cache` is the folder of this very engine."""
    engine = spec.tensorrt
    assert engine is not None
    options = {
        "device_id": str(engine.device_id),
        "trt_fp16_enable": str(engine.fp16),
        "trt_int8_enable": str(engine.int8),
        "trt_builder_optimization_level": str(engine.builder_level),
    }
    if engine.int8_table is not None:
        options["trt_int8_calibration_table_name"] = engine.int8_table  # absolute, else looked for in the cache
    if engine.workspace_bytes_max is not None:
        options["trt_max_workspace_size"] = str(engine.workspace_bytes_max)
    if profile:
        for key in ("min", "opt", "max"):
            shapes = ((name, getattr(each, key)) for name, each in profile.items())
            options[f"trt_profile_{key}_shapes"] = ",".join(
                f"{name}:{'x'.join(map(str, sizes))}" for name, sizes in shapes
            )
    if cache is not None:
        options |= {
            "trt_engine_cache_enable": "True",
            "trt_timing_cache_enable": "True",
            **dict.fromkeys(CACHE_KEYS, cache),
        }
    return options


def cache_key(profile: Profile, facts: Sequence[str], engine: TensorRtSpec) -> str:
    """A folder's name: another for each GPU, version, model and calibration table (all of them `facts`), for other options of the
    builder and for another profile of shapes, as an engine built for one of them is none for another."""
    builder = (engine.device_id, engine.fp16, engine.int8, engine.workspace_bytes_max, engine.builder_level)
    told = repr((sorted(profile.items(), key=lambda each: each[0]), tuple(facts), builder))
    return hashlib.sha256(told.encode()).hexdigest()[:24]


def told(
    providers: Sequence[str | ProviderSpec],
    signature: Signature,
    rows_max: int,
    cache: EngineCache,
) -> list[Told]:
    """What a session is given. Raises ModelLoadError as `profile_of`."""
    found: list[Told] = []
    for provider in providers:
        name, each = onnx_name(provider), declared_by(provider)
        if each is not None and each.cuda is not None:
            found.append((name, cuda_options(each.cuda)))
        elif each is not None and each.tensorrt is not None:
            engine = each.tensorrt
            profile = profile_of(signature, engine.shapes, rows_opt=engine.rows_opt, rows_max=rows_max)
            found.append((name, tensorrt_options(each, profile, cache(each, profile))))
        else:
            found.append((name, {}))
    return found


def _flag(value: bool) -> str:
    return "1" if value else "0"
