"""Whether a configuration and a model file agree."""

from __future__ import annotations

import pytest

from engine import ConfigTensor, ModelConfig, ModelLoadError, Signature, TensorSpec, datatype_named
from engine.control.model_config import check_config
from tests.fakes import FP32

INT64 = datatype_named("INT64", of="test")
SIGNATURE = Signature(
    (TensorSpec("x", FP32, (-1, 3)), TensorSpec("k", INT64, (-1, 1), optional=True)), (TensorSpec("y", FP32, (-1, -1)),)
)


def test_an_empty_configuration_agrees_with_everything() -> None:
    check_config(ModelConfig(), SIGNATURE)
    assert ModelConfig().rows_max is None


def test_batch_dimension_is_left_out_of_configured_shapes() -> None:
    x, y = ConfigTensor("x", "FP32", (3,)), ConfigTensor("y", "FP32", (7,))
    config = ModelConfig(max_batch_size=8, inputs=(x,), outputs=(y,))
    check_config(config, SIGNATURE)
    assert config.rows_max == 8
    assert ModelConfig(inputs=(x,)).rows_max == 0


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ((ConfigTensor("xx", "FP32", (-1, 3)),), (), "the model file has no input 'xx'"),
        ((ConfigTensor("x", "FP64", (-1, 3)),), (), "input 'x' is FP64, in the model file FP32"),
        ((ConfigTensor("x", "FP32", (-1, 4)),), (), r"input 'x' has shape \[-1, 4\], in the model file \[-1, 3\]"),
        ((ConfigTensor("x", "FP32", (3,)),), (), r"input 'x' has shape \[3\]"),
        ((ConfigTensor("k", "INT64", (-1, 1)),), (), "lacks input 'x' of the model file"),
        ((), (ConfigTensor("z", "FP32", (1,)),), "the model file has no output 'z'; known: 'y'"),
    ],
)
def test_every_disagreement_is_named(
    inputs: tuple[ConfigTensor, ...], outputs: tuple[ConfigTensor, ...], message: str
) -> None:
    with pytest.raises(ModelLoadError, match=message):
        check_config(ModelConfig(inputs=inputs, outputs=outputs), SIGNATURE)
