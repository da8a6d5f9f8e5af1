"""Ensembles of a config.pbtxt as graphs, and what makes none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine import ConfigTensor, EnsembleStep, ModelConfig, ModelLoadError
from engine.control.ensemble import ensemble_graph
from engine.declaration import TensorDeclaration
from engine.graph.declaration import NodeSpec
from engine.limits import GRAPH_NODES_MAX

FIRST = EnsembleStep("a.model", None, {"x": "IN"}, {"y": "middle"})
SECOND = EnsembleStep("b", 3, {"x": "middle"}, {"y": "OUT"})
CONFIG = ModelConfig(
    platform="ensemble",
    max_batch_size=8,
    inputs=(ConfigTensor("IN", "FP32", (2,)),),
    outputs=(ConfigTensor("OUT", "FP32", (2,)),),
    steps=(SECOND, FIRST),
)


def test_steps_are_wired_by_the_names_of_their_tensors_whatever_their_order() -> None:
    graph = ensemble_graph("e", CONFIG)
    assert graph.nodes == {
        "b": NodeSpec("b", {"x": "a_model.y"}, 3),
        "a_model": NodeSpec("a.model", {"x": "IN"}),
    }
    assert graph.inputs == {"IN": TensorDeclaration("FP32", (-1, 2))}
    assert graph.outputs == {"OUT": "b.y"}
    assert (graph.configured, graph.rows_max) == ({"OUT": TensorDeclaration("FP32", (-1, 2))}, 8)


def test_without_a_greatest_batch_shapes_are_whole_and_rows_unbounded() -> None:
    graph = ensemble_graph("e", replace(CONFIG, max_batch_size=0))
    assert graph.inputs["IN"].shape == (2,)
    assert graph.rows_max is None


def test_nodes_of_one_model_or_named_as_an_input_have_names_of_their_own() -> None:
    steps = (
        EnsembleStep("IN", None, {"x": "IN"}, {"y": "t"}),
        EnsembleStep("m", None, {"x": "t"}, {"y": "u"}),
        EnsembleStep("m", None, {"x": "u"}, {"y": "OUT"}),
    )
    graph = ensemble_graph("e", replace(CONFIG, steps=steps))
    assert list(graph.nodes) == ["IN_1", "m", "m_3"]
    assert graph.outputs == {"OUT": "m_3.y"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": (SECOND,)}, r"step 1 \(model 'b'\): input 'x' takes tensor 'middle', which is no input"),
        ({"steps": (FIRST,)}, "output 'OUT': no step makes that tensor"),
        (
            {"steps": (FIRST, SECOND, replace(FIRST, model="c"))},
            r"step 3 \(model 'c'\): output 'y' makes tensor 'middle', which step 1 \(model 'a.model'\) makes",
        ),
        (
            {"steps": (replace(FIRST, outputs={"y": "IN"}), SECOND)},
            r"output 'y' makes tensor 'IN', which is an input of the ensemble",
        ),
        (
            {"steps": (replace(FIRST, inputs={"x": "OUT"}), SECOND)},
            r"step a_model.inputs.x: nodes wait for each other in a circle: a_model -> b -> a_model",
        ),
        ({"steps": (replace(FIRST, model=""), SECOND)}, "step 1 names no model"),
        ({"steps": (replace(FIRST, model="e"), SECOND)}, "'e' calls itself"),
        ({"steps": (FIRST,) * (GRAPH_NODES_MAX + 1)}, "257 steps, at most 256"),
        ({"inputs": CONFIG.inputs * 2}, "input 'IN' is there twice"),
        ({"inputs": (ConfigTensor("IN", "FP32", (-2,)),)}, r"input 'IN' has dims \[-2\]"),
        ({"inputs": (ConfigTensor("IN", "INVALID", (2,)),)}, "inputs.IN.datatype: unknown datatype 'INVALID'"),
        (
            {"inputs": (ConfigTensor("IN.0", "FP32", (2,)),), "steps": (replace(FIRST, inputs={"x": "IN.0"}), SECOND)},
            "inputs.IN.0: the name has no dot",
        ),
        ({"outputs": ()}, "a graph has from 1 to 1024 outputs, got 0"),
        (
            {"steps": (FIRST, SECOND, EnsembleStep("c", None, {"x": "IN"}, {"y": "z"}))},
            "nothing uses node 'c'",
        ),
    ],
)  # fmt: skip
def test_what_makes_no_graph_is_refused_with_step_and_tensor(change: dict[str, object], message: str) -> None:
    with pytest.raises(ModelLoadError, match=f"^config.pbtxt: .*{message}"):
        ensemble_graph("e", replace(CONFIG, **change))  # type: ignore[arg-type]
