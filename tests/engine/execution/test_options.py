"""Providers from the spec to the very options that ONNX Runtime is given, and what is refused on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import ModelLoadError, Signature, SpecError, TensorSpec, parse_spec
from engine.execution.declaration import Providers, ProviderSpec, onnx_name, placed
from engine.execution.engine_cache import engine_folder, gpu_names
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


def test_shapes_that_vary_beyond_rows_must_be_declared_and_fit() -> None:
    text = Signature((TensorSpec("ids", FP32, (-1, -1)),), (), True)
    with pytest.raises(ModelLoadError, match=r"input 'ids' of shape \[-1, -1\]: TensorRT needs its least"):
        told(providers_of("[{tensorrt: {}}]"), text, 64, lambda spec, profile: None)
    declared = providers_of("[{tensorrt: {shapes: {ids: {min: [1, 1], opt: [8, 64], max: [64, 512]}}}}]")
    ((_, options),) = told(declared, text, 64, lambda spec, profile: None)
    assert options["trt_profile_opt_shapes"] == "ids:8x64"
    with pytest.raises(ModelLoadError, match=r"tensorrt\.shapes\.ids: no such input"):
        told(declared, RANKER, 64, lambda spec, profile: None)
    narrow = Signature((TensorSpec("ids", FP32, (-1, 32)),), (), True)
    with pytest.raises(ModelLoadError, match=r"tensorrt\.shapes\.ids: the model takes \[-1, 32\]"):
        told(declared, narrow, 64, lambda spec, profile: None)


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


def test_engines_are_kept_apart_by_gpu_model_file_and_profile(tmp_path: Path) -> None:
    gpus = tmp_path / "gpus"
    for bus, name in (("0000:01", "NVIDIA H100 80GB HBM3"), ("0000:02", "NVIDIA L4")):
        (gpus / bus).mkdir(parents=True)
        (gpus / bus / "information").write_text(f"Model: \t\t {name}\nIRQ: 1\n")
    assert gpu_names(gpus) == ["NVIDIA H100 80GB HBM3", "NVIDIA L4"]
    assert gpu_names(tmp_path / "none") == []
    model, weights = tmp_path / "model.onnx", tmp_path / "weights.bin"
    model.write_bytes(b"one")
    weights.write_bytes(b"1")

    def path(text: str = "[{tensorrt: {cache: engines}}]", rows: int = 64, where: Path = gpus) -> str:
        ((_, options),) = told(providers_of(text, tmp_path), RANKER, rows, engine_folder((model, weights), where))
        return options["trt_engine_cache_path"]

    first = path()
    assert Path(first).is_dir()
    assert Path(first).parent == tmp_path / "engines"
    assert path() == first
    others = {path(rows=32), path("[{tensorrt: {cache: engines, fp16: true}}]"), path(where=tmp_path / "none")}
    model.write_bytes(b"two")
    others.add(path())
    weights.write_bytes(b"2")
    others.add(path())
    assert len(others) == 5
    assert first not in others
    ((_, uncached),) = told(providers_of("[{tensorrt: {}}]"), RANKER, 64, engine_folder((model,), gpus))
    assert "trt_engine_cache_path" not in uncached
