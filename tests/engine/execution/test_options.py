"""Providers from the spec to the very options that ONNX Runtime is given, and what is refused on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import ModelLoadError, Signature, SpecError, TensorSpec, parse_spec
from engine.execution.declaration import Providers, ProviderSpec, onnx_name, placed
from engine.execution.options import Chosen, chosen, told
from engine.tensor import FP32

GPU = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
HERE = ("AzureExecutionProvider", "CPUExecutionProvider")
RANKER = Signature((TensorSpec("features", FP32, (-1, 128)),), (TensorSpec("score", FP32, (-1, 1)),), True)


def providers_of(text: str, folder: Path = Path("/app")) -> Providers:
    spec = parse_spec(
        f"repository: {{path: models}}\nmodels:\n  m:\n    providers: {text}\n", folder=folder, source="app.yaml"
    )
    return placed(spec.models["m"].providers, spec.path)


def test_cuda_and_tensorrt_are_told_exactly_this() -> None:
    declared = providers_of(
        "[{tensorrt: {fp16: true, int8: true, workspace_bytes_max: 1073741824, rows_opt: 16, device_id: 1, builder_level: 5}},"
        " {cuda: {device_id: 1, arena_bytes_max: 2147483648, arena_extend: same_as_requested, cudnn_search: heuristic,"
        " tf32: false}},"
        " cpu]"
    )
    assert told(declared, RANKER, 64, lambda spec, profile: "/cache/key") == [
        ("TensorrtExecutionProvider", {
            "device_id": "1", "trt_fp16_enable": "True", "trt_int8_enable": "True", "trt_builder_optimization_level": "5",
            "trt_max_workspace_size": "1073741824",
            "trt_profile_min_shapes": "features:1x128", "trt_profile_opt_shapes": "features:16x128",
            "trt_profile_max_shapes": "features:64x128",
            "trt_engine_cache_enable": "True", "trt_engine_cache_path": "/cache/key",
            "trt_timing_cache_enable": "True", "trt_timing_cache_path": "/cache/key",
        }),
        ("CUDAExecutionProvider", {
            "device_id": "1", "arena_extend_strategy": "kSameAsRequested", "cudnn_conv_algo_search": "HEURISTIC",
            "use_tf32": "0", "gpu_mem_limit": "2147483648",
        }),
        ("CPUExecutionProvider", {}),
    ]  # fmt: skip


def test_words_are_the_names_that_onnx_runtime_has_and_take_the_defaults() -> None:
    for text in ("[cuda, cpu]", "[CUDAExecutionProvider, CPUExecutionProvider]", "[{cuda: {}}, cpu]"):
        assert told(providers_of(text), RANKER, 64, lambda spec, profile: None) == [
            ("CUDAExecutionProvider", {"device_id": "0", "arena_extend_strategy": "kNextPowerOfTwo",
                                       "cudnn_conv_algo_search": "EXHAUSTIVE", "use_tf32": "1"}),
            ("CPUExecutionProvider", {}),
        ]  # fmt: skip


TEXT = Signature((TensorSpec("ids", FP32, (-1, -1)), TensorSpec("rows", FP32, (-1, 2))), (), True)
FIXED = Signature((TensorSpec("ids", FP32, (3, -1)),), (), False)


def options_of(text: str, signature: Signature, rows: int = 64) -> dict[str, str]:
    """What TensorRT is told."""
    ((_, options),) = told(providers_of(f"[{{tensorrt: {{{text}}}}}]"), signature, rows, lambda spec, profile: None)
    return options


def test_shapes_that_vary_beyond_rows_are_declared_and_the_others_follow() -> None:
    options = options_of("rows_opt: 16, shapes: {ids: {min: [1, 1], opt: [8, 64], max: [64, 512]}}", TEXT)
    assert options["trt_profile_min_shapes"] == "ids:1x1,rows:1x2"
    assert options["trt_profile_opt_shapes"] == "ids:8x64,rows:16x2"
    assert options["trt_profile_max_shapes"] == "ids:64x512,rows:64x2"
    fixed = options_of("shapes: {ids: {min: [3, 1], opt: [3, 64], max: [3, 512]}}", FIXED)
    assert fixed["trt_profile_max_shapes"] == "ids:3x512"


@pytest.mark.parametrize(
    ("text", "signature", "problem"),
    [
        ("", TEXT, "input 'ids' of shape [-1, -1]: TensorRT needs its least, best and greatest, in tensorrt.shapes"),
        (
            "shapes: {idz: {min: [1, 1], opt: [8, 64], max: [64, 512]}}",
            TEXT,
            "tensorrt.shapes: no input 'idz'; nearest: 'ids'; inputs: ids, rows",
        ),
        (
            "shapes: {rows: {min: [1, 2], opt: [8, 2], max: [64, 4]}}",
            TEXT,
            "tensorrt.shapes.rows: max is [64, 4], but the model takes [-1, 2]",
        ),
        (
            "shapes: {ids: {min: [1], opt: [8], max: [64]}}",
            TEXT,
            "tensorrt.shapes.ids: min is [1], but the model takes [-1, -1]",
        ),
        (
            "shapes: {ids: {min: [1, 1], opt: [8, 64], max: [32, 512]}}",
            TEXT,
            "tensorrt.shapes.ids: max is [32, 512], but a batch may have 64 rows (batching.rows_max): give at least as many",
        ),
        (
            "shapes: {ids: {min: [2, 1], opt: [8, 64], max: [64, 512]}}",
            TEXT,
            "tensorrt.shapes.ids: min is [2, 1], but rows of the model's [-1, -1] vary from 1: give 1 there",
        ),
        (
            "shapes: {ids: {min: [1, 16], opt: [8, 64], max: [64, 512]}}",
            TEXT,
            "tensorrt.shapes.ids: min is [1, 16], but dimension 1 of the model's [-1, -1] vary from 1: give 1 there",
        ),
        ("rows_opt: 65", RANKER, "tensorrt.rows_opt: 65, but a batch has at most 64 rows"),
        (
            "rows_opt: 2, shapes: {ids: {min: [3, 1], opt: [3, 64], max: [3, 512]}}",
            FIXED,
            "tensorrt.rows_opt: 2, but the model takes no batches",
        ),
        (
            "",
            Signature((TensorSpec("x:0", FP32, (-1, 2)),), (), True),
            "input 'x:0': ONNX Runtime reads names of TensorRT's inputs up to a ':' or ','; rename it",
        ),
    ],
)
def test_shapes_that_cannot_work_are_refused(text: str, signature: Signature, problem: str) -> None:
    with pytest.raises(ModelLoadError) as caught:
        options_of(text, signature)
    assert caught.value.message == problem


def works(provider: str | ProviderSpec) -> None:
    """What is there works."""


def test_what_is_not_here_is_refused_naming_what_was_asked_and_what_is_there() -> None:
    with pytest.raises(
        ModelLoadError, match="no execution provider 'tensorrt' here; asked for: tensorrt, cuda, cpu; available: Az"
    ):
        chosen(providers_of("[tensorrt, cuda, cpu]"), HERE, works)
    with pytest.raises(
        ModelLoadError,
        match="none of the execution providers cuda is to be had, and the list does not go on to cpu: cuda: ONNX Runtime was "
        "built without it; available: Azure",
    ):
        chosen(providers_of("[{cuda: {}, required: false}]"), HERE, works)
    left_out = providers_of("[{tensorrt: {}, required: false}, {cuda: {}, required: false}, cpu]")
    without = "ONNX Runtime was built without it"
    assert chosen(left_out, HERE, works) == Chosen(("cpu",), (f"tensorrt: {without}", f"cuda: {without}"))
    assert chosen(left_out, GPU, works) == Chosen(left_out)


def test_what_is_here_and_does_not_work_is_refused_or_left_out_with_the_reason() -> None:
    def problem_of(provider: str | ProviderSpec) -> str | None:
        return "no device" if onnx_name(provider) == GPU[0] else None

    declared = providers_of("[{tensorrt: {}, required: false}, cuda, cpu]")
    assert chosen(declared, GPU, problem_of) == Chosen(declared[1:], ("tensorrt: no device",))
    with pytest.raises(
        ModelLoadError,
        match=r"^the execution provider 'tensorrt' does not work here: no device; asked for: tensorrt, cpu; available: Tensorrt",
    ):
        chosen(providers_of("[tensorrt, cpu]"), GPU, problem_of)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[{cuda: {arena: 1}}]", "app.yaml:4: models.m.providers[0].cuda: unknown key 'arena'; nearest: 'arena_extend'"),
        ("[cudaa, cpu]", "app.yaml:4: models.m.providers[0]: unknown provider 'cudaa'; nearest: 'cuda'"),
        ("[{cuda: {}, tensorrt: {}}]", "app.yaml:4: models.m.providers[0]: give either 'cuda' or 'tensorrt'"),
        ("[{required: false}]", "app.yaml:4: models.m.providers[0]: give either 'cuda' or 'tensorrt'"),
        ("[cuda, {cuda: {}}]", "app.yaml:4: models.m.providers: 'CUDAExecutionProvider' is there twice"),
        ("[]", "app.yaml:4: models.m.providers: at least one is needed, such as cpu"),
        ("[{cuda: {device_id: -1}}]", "app.yaml:4: models.m.providers[0].cuda.device_id: must be from 0 to 63, got -1"),
        (
            "[{cuda: {cudnn_search: slow}}]",
            "app.yaml:4: models.m.providers[0].cuda.cudnn_search: expected one of 'exhaustive', 'heuristic', 'default', "
            "got 'slow'",
        ),
        (
            "[{tensorrt: {int8_table: ranges}}]",
            "app.yaml:4: models.m.providers[0].tensorrt.int8_table: is for int8: true, but int8 is false",
        ),
        (
            "[{tensorrt: {shapes: {x: {min: [1], opt: [16], max: [8]}}}}]",
            "app.yaml:4: models.m.providers[0].tensorrt.shapes.x: each size must be 1 <= min <= opt <= max, got [1], [16], [8]",
        ),
        (
            "[{tensorrt: {shapes: {x: {min: [4], opt: [2], max: [8]}}}}]",
            "app.yaml:4: models.m.providers[0].tensorrt.shapes.x: each size must be 1 <= min <= opt <= max, got [4], [2], [8]",
        ),
        ("[cpu]\n    parity: {absolute: -1}", "app.yaml:5: models.m.parity.absolute: must be a number from 0 on, got -1.0"),
    ],
)  # fmt: skip
def test_wrong_declarations_are_refused_with_file_and_line(text: str, problem: str) -> None:
    with pytest.raises(SpecError) as caught:
        providers_of(text)
    assert caught.value.message == problem
