"""`vireo export-triton`: what an application serves, written as a model repository for Triton. Reads an engine, writes files.

ONNX models go with a config.pbtxt each; a graph of them goes as an ensemble where Triton has a word for all of it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from engine import Engine, FailedPrecondition, InvalidArgument, ModelDescription, Node, Plan, quoted
from serving.model_config import describe_config, described

CONFIG, ONNX, PLAN = "config.pbtxt", "model.onnx", "model.plan"
ONNX_PLATFORM = "onnxruntime_onnx"


def export_triton(engine: Engine, out: Path, platform: str) -> list[str]:
    """Writes the repository into `out`, which must not be there or be empty; a line for each model and graph, written or not.

    Raises InvalidArgument where `out` holds something, FailedPrecondition where nothing could be written or, for `tensorrt`, a
    model has no plan.
    """
    if out.exists() and any(out.iterdir()):
        raise InvalidArgument(f"{quoted(str(out))} is not empty")
    described = [engine.describe(name, version) for name, version, _ in engine.statistics()]
    models: dict[str, list[ModelDescription]] = {}
    for each in described:
        if each.traits.platform == ONNX_PLATFORM:
            models.setdefault(each.name, []).append(each)
    if not models:
        raise FailedPrecondition("the application serves no ONNX model from a repository: there is nothing to export")
    lines = []
    for name, versions in list(models.items()):
        if _has_scalars(versions[-1]):
            lines.append(f"{name}: not written, it has a tensor of shape [], which Triton has not")
            del models[name]
            continue
        threads = engine.spec.models[name].threads if name in engine.spec.models else 1
        _write_model(out / name, versions, threads, platform)
        told = ", ".join(str(each.version) for each in versions)
        lines.append(f"{name}: version {told}, {platform}")
    newest = {name: versions[-1] for name, versions in models.items()}
    for name in engine.spec.graphs:
        plan = engine.plan(name)
        reason = "it is not served" if plan is None else why_not(plan, newest)
        if plan is None or reason is not None:
            lines.append(f"{name}: not written, {reason}")
            continue
        _write_config(out / name, ensemble(plan, newest))
        (out / name / "1").mkdir()  # Triton wants the folder of a version, though nothing is in it
        lines.append(f"{name}: an ensemble of {', '.join(each.target.name for each in plan.nodes)}")
    others = {each.name for each in described if each.traits.platform != ONNX_PLATFORM} - engine.spec.graphs.keys()
    return lines + [f"{name}: not written, it is no ONNX model" for name in sorted(others)]


def _has_scalars(model: ModelDescription) -> bool:
    """Whether it has tensors of shape []; where rows batch, one number a row is something else."""
    return any(not each.shape for each in (*model.signature.inputs, *model.signature.outputs))


def _write_model(folder: Path, versions: Sequence[ModelDescription], threads: int, platform: str) -> None:
    for each in versions:
        source = Path(each.source)
        file = source if platform == "onnxruntime" else source.with_name(PLAN)
        if not file.exists():
            raise FailedPrecondition(
                f"model {quoted(each.name)} version {each.version} has no {PLAN} beside its {source.name}; plans are built on "
                f"the GPU that runs them: trtexec --onnx={source.name} --saveEngine={PLAN}, with --minShapes, --optShapes and "
                "--maxShapes of its inputs, and --fp16 where its scores stand that"
            )
        place = folder / str(each.version)
        place.mkdir(parents=True)
        shutil.copyfile(file, place / (ONNX if platform == "onnxruntime" else PLAN))
    _write_config(folder, model_config(versions[-1], threads, platform))


def _write_config(folder: Path, config: pb.ModelConfig) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(text_format.MessageToString(config))


def model_config(model: ModelDescription, threads: int, platform: str) -> pb.ModelConfig:
    """What Triton is told of one model: what is in force here, its batches warmed up with zeros."""
    config = describe_config(model)
    if platform == "tensorrt":
        config.platform, config.backend, config.default_model_filename = "tensorrt_plan", "tensorrt", PLAN
        config.instance_group[0].kind = pb.ModelInstanceGroup.KIND_GPU
    else:
        config.default_model_filename = ONNX
        config.parameters["intra_op_thread_count"].string_value = str(threads)
    for each in (*config.input, *config.output):
        if not each.dims:
            each.dims.append(1)  # Triton wants at least one, which the model does not see
            each.reshape.SetInParent()
    for rows in sorted({1, config.max_batch_size}) if config.max_batch_size else [0]:
        sample = config.model_warmup.add(name=f"rows_{rows or 1}", batch_size=rows)
        for each in config.input:
            made = sample.inputs[each.name]
            made.data_type, made.zero_data = each.data_type, True
            made.dims.extend(max(1, size) for size in each.dims)
    return config


def why_not(plan: Plan, models: Mapping[str, ModelDescription]) -> str | None:
    """Why a graph cannot be an ensemble; None where it can. Triton's wire every tensor from one place, and have no conditions,
    bounds, fallbacks, constants and records."""
    for node in plan.nodes:
        if (reason := _node_reason(node, models)) is not None:
            return f"node {quoted(node.name)} {reason}"
    slots = [each.choices for each in plan.outputs]
    inputs = len(plan.input_names)
    if any(len(each) != 1 or each[0] < inputs for each in slots) or len(set(slots)) < len(slots):
        return "an output is one of several tensors, an input, or the same as another"
    if plan.records:
        return "it records"
    if len({node.target.signature.batchable for node in plan.nodes}) > 1:
        return "only some of its nodes batch"
    return None


def _node_reason(node: Node, models: Mapping[str, ModelDescription]) -> str | None:
    if node.target.name not in models:
        return f"calls {quoted(node.target.name)}, which is no exported model"
    if node.when or node.on_error or node.on_late or node.timeout_ns is not None or node.timeout_share is not None:
        return "has a condition, a bound or a fallback"
    if any(wire.constant is not None or len(wire.choices) != 1 for wire in node.wires):
        return "has an input that is a constant, or one of several tensors"
    return None


def ensemble(plan: Plan, models: Mapping[str, ModelDescription]) -> pb.ModelConfig:
    """The graph as an ensemble; see `why_not`."""
    names = dict(enumerate(plan.input_names)) | {each.choices[0]: each.spec.name for each in plan.outputs}
    configs = [describe_config(models[node.target.name]) for node in plan.nodes]
    batches = plan.nodes[0].target.signature.batchable
    config = pb.ModelConfig(name=plan.name, platform="ensemble")
    config.version_policy.latest.num_versions = 1
    config.max_batch_size = min(each.max_batch_size for each in configs)
    for side, specs in ((config.input, plan.signature.inputs), (config.output, plan.signature.outputs)):
        for spec in specs:
            added = side.add(**described(spec, 1 if batches else 0))
            added.dims.extend([] if added.dims else [1])  # as the models have it
    for node in plan.nodes:
        step = config.ensemble_scheduling.step.add(model_name=node.target.name, model_version=node.target.version)
        for wire in node.wires:
            slot = wire.choices[0]
            step.input_map[wire.name] = names[slot]
        for output, slot in zip(node.outputs, node.slots, strict=True):
            step.output_map[output] = names.setdefault(slot, f"{node.name}.{output}")
    return config
