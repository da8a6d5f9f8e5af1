"""No version goes live that says something else on its provider than on the CPU.

A stand-in for a device computes another file, such as one in 8 bits, so that it says something else, as a device may.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from benchmarks.workloads.ranker.network import make_network, to_onnx
from engine import Engine, ModelLoadError, Request, Tensor, parse_spec
from engine.execution.declaration import CudaSpec, ParitySpec, ProviderSpec
from engine.execution.parity import disagreement
from engine.optimization.optimize import optimize
from engine.servables.onnx import OnnxOptions, load_onnx
from tests.engine import onnx_models
from tests.engine.execution.standin import Device, device
from tests.engine.optimization.test_optimize import WISH, opened, samples
from tests.fakes import FP32

CUDA = OnnxOptions(providers=("cuda", "cpu"), batch_rows=8)

__all__ = ["device"]


def test_a_provider_that_agrees_is_served_and_told(device: Device, tmp_path: Path) -> None:
    servable = load_onnx(onnx_models.write(tmp_path, onnx_models.affine()), CUDA)
    assert servable.traits.notes[0].startswith("ONNX Runtime on CUDAExecutionProvider, CPUExecutionProvider")
    assert servable.traits.notes[-1] == "agrees with the CPU within 0.001 + 0.01 of its values, tried at load"
    assert [each[0][0] for each in device.asked] == ["CPUExecutionProvider", "CUDAExecutionProvider"]
    assert device.asked[1][0][1]["cudnn_conv_algo_search"] == "EXHAUSTIVE"
    assert servable.execute({"x": Tensor(FP32, np.ones((2, 2), np.float32))}, ())["y"].array.tolist() == [
        [2, 2],
        [2, 2],
    ]


def test_its_tensors_are_bound_and_a_graph_that_cannot_be_refuses_the_version(device: Device, tmp_path: Path) -> None:
    path = onnx_models.write(tmp_path, onnx_models.affine())
    assert load_onnx(path, CUDA).traits.notes[1] == "0 of 1 outputs bound to cuda:0, the others to the CPU"
    unbound = OnnxOptions(providers=(ProviderSpec(cuda=CudaSpec(io_binding=False)), "cpu"), batch_rows=8)
    assert not any("bound" in each for each in load_onnx(path, unbound).traits.notes)
    graphs = OnnxOptions(providers=(ProviderSpec(cuda=CudaSpec(graph_rows=(4,))), "cpu"), batch_rows=8)
    with pytest.raises(ModelLoadError, match=r"^model\.onnx: cuda\.graph_rows: input 'x' is read on the CPU, not in a"):
        load_onnx(path, graphs)
    assert device.asked[-1][0][1]["enable_cuda_graph"] == "1"


def test_a_real_provider_beside_the_cpu_is_compared_too(tmp_path: Path) -> None:
    azure = OnnxOptions(providers=("AzureExecutionProvider", "cpu"))
    if "AzureExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has no other provider than the CPU")
    notes = load_onnx(onnx_models.write(tmp_path, onnx_models.affine()), azure).traits.notes
    assert any(each.startswith("agrees with the CPU") for each in notes)


def test_results_in_8_bits_pass_wide_tolerances_and_not_narrow_ones(device: Device, tmp_path: Path) -> None:
    source = opened_without(device, tmp_path)
    narrow = OnnxOptions(providers=("cuda", "cpu"), batch_rows=8, parity=ParitySpec(1e-6, 1e-6))
    with pytest.raises(
        ModelLoadError, match=r"model\.onnx: \d row\(s\) of made-up inputs: output 'score'.* on the CPU .* apart"
    ):
        load_onnx(source, narrow)
    wide = OnnxOptions(providers=("cuda", "cpu"), batch_rows=8, parity=ParitySpec(0.2, 0.2))
    assert "agrees" in load_onnx(source, wide).traits.notes[-1]
    unasked = OnnxOptions(providers=("cuda", "cpu"), batch_rows=8, parity=None)
    assert "not compared with the CPU" in load_onnx(source, unasked).traits.notes[-1]


def opened_without(device: Device, folder: Path) -> Path:
    """A ranker whose device says what its version in 8 bits says."""
    source = onnx_models.write(folder / "plain", to_onnx(make_network(sizes=(128, 64, 32, 1), seed=2)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnxruntime, "InferenceSession", device.real)
        made = opened(folder, to_onnx(make_network(sizes=(128, 64, 32, 1), seed=2)))
        device.says[str(source)] = optimize(made, samples(), WISH).folder / "model.onnx"
    return source


def test_a_version_that_disagrees_is_refused_and_the_live_one_stays(device: Device, tmp_path: Path) -> None:
    onnx_models.write(tmp_path / "models" / "m" / "1", onnx_models.affine(2.0))
    text = "repository: {path: models, control: explicit}\nmodels: {m: {providers: [cuda, cpu]}}"
    engine = Engine(parse_spec(text, folder=tmp_path))
    engine.start()
    try:
        assert engine.describe("m", None).version == 1
        second = onnx_models.write(tmp_path / "models" / "m" / "2", onnx_models.affine(3.0))
        device.says[str(second)] = onnx_models.write(tmp_path / "wrong", onnx_models.affine(4.0))
        with pytest.raises(ModelLoadError, match=r"failed to load 'm': .*output 'y'\[0, 0\]: .*, on the CPU "):
            engine.load("m")
        request = Request("m", {"x": Tensor(FP32, np.ones((1, 2), np.float32))})
        assert engine.infer(request).outputs["y"].array.tolist() == [[2, 2]]
        device.says.clear()
        engine.load("m")
        assert engine.infer(request).outputs["y"].array.tolist() == [[3, 3]]
    finally:
        engine.close()


def test_disagreements_by_hand() -> None:
    def answer(values: object, dtype: type = np.float32) -> dict[str, Tensor]:
        return {"y": Tensor(FP32, np.array(values, dtype))}

    near = ParitySpec(0.1, 0.01)
    assert disagreement(answer([1.0, np.nan, np.inf]), answer([1.1, np.nan, np.inf]), near) is None
    told = disagreement(answer([[1.0, 2.0]]), answer([[1.0, 2.2]]), near)
    assert told == "output 'y'[0, 1]: 2.2, on the CPU 2; 1 of 2 values lie more than 0.1 + 0.01 of it apart"
    assert disagreement(answer([1.0]), answer([np.nan]), near) is not None
    assert disagreement(answer([1.0]), answer([1.0, 2.0]), near) == "output 'y' has shape [2], on the CPU [1]"
    assert (
        disagreement(answer([1, 2], int), answer([1, 3], int), near)
        == "output 'y': 1 of 2 values differ from the CPU's"
    )
