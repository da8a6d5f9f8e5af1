"""An ensemble of Triton's as a graph: steps are nodes, and tensors of one name are wired to each other. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from engine.control.model_config import ConfigTensor, EnsembleStep, ModelConfig
from engine.declaration import TensorDeclaration
from engine.errors import ModelLoadError, SpecError, nearest, quoted
from engine.graph.declaration import EnsembleSpec, NodeSpec
from engine.graph.relations import Surroundings, check_graphs
from engine.limits import GRAPH_NODES_MAX
from engine.servables.signature import ANY


def ensemble_graph(name: str, config: ModelConfig) -> EnsembleSpec:
    """The graph that the steps of `config` make, checked as far as can be told before its models are loaded.

    A node is named as the model it calls, with a number where others are. Raises ModelLoadError with the step and the tensor.
    """
    if len(config.steps) > GRAPH_NODES_MAX:
        raise ModelLoadError(f"config.pbtxt: {len(config.steps)} steps, at most {GRAPH_NODES_MAX} are allowed")
    batched = config.max_batch_size > 0
    inputs, outputs = (
        _declared(side, tensors, batched=batched)
        for side, tensors in (("input", config.inputs), ("output", config.outputs))
    )
    nodes = _node_names(config.steps, inputs)
    sources = _sources(config.steps, nodes, inputs)
    for output in outputs:
        if output not in sources:
            raise ModelLoadError(
                f"config.pbtxt: output {quoted(output)}: no step makes that tensor{nearest(output, sources)}"
            )
    graph = EnsembleSpec(
        inputs,
        {
            node: _node(number, step, sources)
            for number, (node, step) in enumerate(zip(nodes, config.steps, strict=True), 1)
        },
        {output: sources[output] for output in outputs},
        configured=outputs,
        rows_max=config.max_batch_size or None,
    )
    try:
        check_graphs({name: graph}, {}, Surroundings({}, {}, ()), lambda key: f"config.pbtxt: {_place(key, name)}")
    except SpecError as error:
        raise ModelLoadError(error.message) from error
    return graph


def _declared(side: str, tensors: Iterable[ConfigTensor], *, batched: bool) -> dict[str, TensorDeclaration]:
    found: dict[str, TensorDeclaration] = {}
    for each in tensors:
        if each.name in found:
            raise ModelLoadError(f"config.pbtxt: {side} {quoted(each.name)} is there twice")
        if any(size < ANY for size in each.shape):
            raise ModelLoadError(
                f"config.pbtxt: {side} {quoted(each.name)} has dims {list(each.shape)}; sizes are -1 or more"
            )
        shape = (ANY, *each.shape) if batched else each.shape
        found[each.name] = TensorDeclaration(each.datatype, shape, each.optional)
    return found


def _node_names(steps: Iterable[EnsembleStep], inputs: Iterable[str]) -> list[str]:
    """References end a node's name at the first dot, and words begin with '$'."""
    taken, names = set(inputs), []
    for number, step in enumerate(steps, 1):
        if not step.model:
            raise ModelLoadError(f"config.pbtxt: step {number} names no model")
        plain = step.model.replace(".", "_").replace("$", "_")
        name = plain if plain not in taken else f"{plain}_{number}"
        while name in taken:
            name += "_"
        taken.add(name)
        names.append(name)
    return names


def _sources(steps: Iterable[EnsembleStep], nodes: Iterable[str], inputs: Iterable[str]) -> dict[str, str]:
    """The reference of each tensor of the ensemble, by its name there."""
    sources = {each: each for each in inputs}
    makers = dict.fromkeys(sources, "is an input of the ensemble")
    for number, (step, node) in enumerate(zip(steps, nodes, strict=True), 1):
        for output, tensor in step.outputs.items():
            if tensor in sources:
                raise ModelLoadError(
                    f"config.pbtxt: {_told(number, step)}: output {quoted(output)} makes tensor {quoted(tensor)}, "
                    f"which {makers[tensor]}: a tensor has one source"
                )
            sources[tensor] = f"{node}.{output}"
            makers[tensor] = f"{_told(number, step)} makes"
    return sources


def _node(number: int, step: EnsembleStep, sources: Mapping[str, str]) -> NodeSpec:
    for name, tensor in step.inputs.items():
        if tensor not in sources:
            raise ModelLoadError(
                f"config.pbtxt: {_told(number, step)}: input {quoted(name)} takes tensor {quoted(tensor)}, which is no input of "
                f"the ensemble, and no step makes it{nearest(tensor, sources)}"
            )
    return NodeSpec(step.model, {name: sources[tensor] for name, tensor in step.inputs.items()}, step.version)


def _told(number: int, step: EnsembleStep) -> str:
    return f"step {number} (model {quoted(step.model)})"


def _place(key: str, name: str) -> str:
    """A key of the spec as it reads to who wrote a config.pbtxt."""
    return key.removeprefix(f"graphs.{name}").removeprefix(".").replace("nodes.", "step ", 1) or quoted(name)
