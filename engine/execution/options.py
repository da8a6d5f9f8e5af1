"""Declared execution providers as ONNX Runtime takes them: which are used, and the options of each, under its names. Pure.

Options are those of ONNX Runtime's CUDA and TensorRT execution providers, https://onnxruntime.ai/docs/execution-providers/.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from engine.errors import ModelLoadError, quoted
from engine.execution.declaration import (
    NAMES,
    CudaSpec,
    Providers,
    ProviderSpec,
    ShapeSpec,
    declared_by,
    names_told,
    onnx_name,
)
from engine.servables.signature import ANY, Signature

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
"""The folder of an engine, made; None where none is declared."""


def profile_of(signature: Signature, declared: Profile, *, rows_opt: int | None, rows_max: int) -> dict[str, ShapeSpec]:
    """The shapes an engine is built for: those declared, and of inputs of which only the rows vary, 1 to `rows_max` rows.

    Raises ModelLoadError where an input varies otherwise and is not declared, or is declared as the model cannot take it.
    """
    for name, shape in declared.items():
        spec = signature.input_named.get(name)
        if spec is None or not all(spec.takes(each) for each in (shape.min, shape.opt, shape.max)):
            expected = "no such input" if spec is None else f"the model takes {list(spec.shape)}"
            raise ModelLoadError(f"tensorrt.shapes.{name}: {expected}")
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
            best = min(rows_opt or rows_max, rows_max)
            found[each.name] = ShapeSpec((1, *inner), (best, *inner), (rows_max, *inner))
    return found


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
        options["trt_int8_calibration_table_name"] = engine.int8_table
    if engine.workspace_bytes_max is not None:
        options["trt_max_workspace_size"] = str(engine.workspace_bytes_max)
    if profile:
        for key in ("min", "opt", "max"):
            shapes = ((name, getattr(each, key)) for name, each in profile.items())
            options[f"trt_profile_{key}_shapes"] = ",".join(
                f"{name}:{'x'.join(map(str, sizes))}" for name, sizes in shapes
            )
    if cache is not None:
        options |= {"trt_engine_cache_enable": "True", "trt_engine_cache_path": cache}
        options |= {"trt_timing_cache_enable": "True", "trt_timing_cache_path": cache}
    return options


def cache_key(profile: Profile, facts: Sequence[str], spec: ProviderSpec) -> str:
    """A folder's name: another for each GPU, version, model (all of them `facts`), precision and profile of shapes, as an engine
    built for one of them is none for another."""
    told = repr((sorted(profile.items(), key=lambda each: each[0]), tuple(facts), spec))
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
