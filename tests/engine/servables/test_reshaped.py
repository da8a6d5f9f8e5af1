"""A model whose tensors are called in other shapes than its file has them in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine import Internal, Tensor
from engine.servables.onnx import OnnxOptions, load_onnx
from engine.servables.reshaped import Reshaped
from engine.servables.servable import Servable
from engine.servables.signature import Reshape
from tests.engine.onnx_models import affine, write
from tests.engine.servables.contract import ServableContract, floats
from tests.fakes import FP32

INPUTS, OUTPUTS = {"x": Reshape((2, 3), (6,))}, {"y": Reshape((3, 2), (6,))}


class TestRowsAreCalledInTheShapeOutside(ServableContract):
    @pytest.fixture
    def servable(self, tmp_path: Path) -> Servable:
        return Reshaped(load_onnx(write(tmp_path, affine(2.0, width=6)), OnnxOptions()), INPUTS, OUTPUTS)

    def inputs(self, rows: int, seed: int) -> dict[str, Tensor]:
        return {"x": Tensor(FP32, floats(rows, 6, seed).reshape(rows, 2, 3))}

    def test_elements_keep_their_order(self, servable: Servable) -> None:
        x = self.inputs(5, 1)["x"]
        assert np.array_equal(servable.execute({"x": x}, ())["y"].array, x.array.reshape(5, 3, 2) * 2)


class TestWhatDoesNotBatchHasNoRows(ServableContract):
    @pytest.fixture
    def servable(self, tmp_path: Path) -> Servable:
        model = load_onnx(write(tmp_path, affine(2.0, width=6, first=1, last=1)), OnnxOptions(rows_max=0))
        return Reshaped(model, {"x": Reshape((2, 3), (1, 6))}, {"y": Reshape((6,), (1, 6))})

    def inputs(self, rows: int, seed: int) -> dict[str, Tensor]:
        return {"x": Tensor(FP32, floats(2, 3, seed))}


def test_an_output_of_another_size_than_configured_is_the_models_fault(tmp_path: Path) -> None:
    model = load_onnx(write(tmp_path, affine(2.0, width=6)), OnnxOptions())
    with pytest.raises(Internal, match=r"output 'y' has shape \[5, 6\], config.pbtxt makes \[7\] of \[6\]"):
        Reshaped(model, {}, {"y": Reshape((7,), (6,))}).execute({"x": Tensor(FP32, floats(5, 6, 0))}, ())
