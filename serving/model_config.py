"""Triton's ModelConfig: read from `config.pbtxt` or JSON, and written for the configuration call."""

from __future__ import annotations

from math import prod
from typing import Any

from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2 as pb

from engine import (
    ConfigTensor,
    EnsembleStep,
    ModelConfig,
    ModelDescription,
    ModelLoadError,
    TensorSpec,
    VersionSpec,
    limits,
    quoted,
)

_NEWEST = -1
_TO_OURS = {"STRING": "BYTES"}
_TO_THEIRS = {ours: theirs for theirs, ours in _TO_OURS.items()}
_REFUSED = ("sequence_batching", "batch_input", "batch_output", "model_operations")
_IGNORED = (
    "optimization",
    "model_warmup",
    "response_cache",
    "cc_model_filenames",
    "metric_tags",
    "parameters",
    "runtime",
)


def read_config(text: str, form: str) -> ModelConfig:
    """A configuration in `form` "pbtxt" or "json". Raises ModelLoadError with the line or key at fault."""
    message = pb.ModelConfig()
    try:
        if form == "json":
            json_format.Parse(text, message)
        else:
            text_format.Parse(text, message)
    except (text_format.ParseError, json_format.ParseError, ValueError, RecursionError) as error:
        raise ModelLoadError(f"{'config.pbtxt' if form == 'pbtxt' else 'config'}: {error}") from error
    _check(message)
    return ModelConfig(
        name=message.name,
        platform=message.platform or message.backend,
        max_batch_size=message.max_batch_size,
        inputs=tuple(_tensor(each) for each in message.input),
        outputs=tuple(_tensor(each) for each in message.output),
        versions=_versions(message.version_policy),
        instances=sum(each.count or 1 for each in message.instance_group) or None,
        file_name=message.default_model_filename,
        ignored=tuple(each.name for each, _ in message.ListFields() if each.name in _IGNORED),
        steps=tuple(_step(number, each) for number, each in enumerate(message.ensemble_scheduling.step, 1)),
    )


def _check(message: pb.ModelConfig) -> None:
    for name in _REFUSED:
        if any(each.name == name for each, _ in message.ListFields()):
            raise ModelLoadError(f"config.pbtxt: {name} is not supported")
    ensemble = message.platform == "ensemble" or message.HasField("ensemble_scheduling")
    platform, backend = ("ensemble", "") if ensemble else ("onnxruntime_onnx", "onnxruntime")
    for field, accepted in (("platform", platform), ("backend", backend)):
        if getattr(message, field) not in ("", accepted):
            raise ModelLoadError(
                f"config.pbtxt: {field} {getattr(message, field)!r} is not supported; expected {accepted!r}"
            )
    if ensemble and not message.ensemble_scheduling.step:
        raise ModelLoadError("config.pbtxt: the ensemble has no steps")
    if ensemble and message.instance_group:
        raise ModelLoadError("config.pbtxt: an ensemble has no instance_group: its models have")
    if message.max_batch_size < 0:
        raise ModelLoadError(f"config.pbtxt: max_batch_size is {message.max_batch_size}, expected 0 or more")
    for each in (*message.input, *message.output):
        _check_tensor(each, ensemble=ensemble)


def _check_tensor(tensor: Any, *, ensemble: bool) -> None:  # noqa: ANN401  ModelInput or ModelOutput
    dims, inside = list(tensor.dims), list(tensor.reshape.shape)
    if tensor.data_type not in pb.DataType.values():  # any number can be written
        raise ModelLoadError(f"config.pbtxt: {quoted(tensor.name)} has data_type {tensor.data_type}, which is none")
    if (count := max(len(dims), len(inside))) > limits.TENSOR_DIMENSIONS_MAX:
        raise ModelLoadError(
            f"config.pbtxt: {quoted(tensor.name)} has {count} dims, at most {limits.TENSOR_DIMENSIONS_MAX} are allowed"
        )
    if not tensor.HasField("reshape"):
        return
    where = f"config.pbtxt: reshape of {quoted(tensor.name)}"
    if ensemble:
        raise ModelLoadError(f"{where}: an ensemble's tensors have one shape")
    if any(size < 0 for size in (*dims, *inside)):
        raise ModelLoadError(f"{where}: free sizes are not supported, got {dims} to {inside}")
    if prod(dims) != prod(inside):
        raise ModelLoadError(f"{where}: {dims} and {inside} are not of as many elements")


def _tensor(message: Any) -> ConfigTensor:  # noqa: ANN401  ModelInput or ModelOutput
    theirs = pb.DataType.Name(message.data_type).removeprefix("TYPE_")
    return ConfigTensor(
        message.name, _TO_OURS.get(theirs, theirs), tuple(message.dims), getattr(message, "optional", False),
        tuple(message.reshape.shape) if message.HasField("reshape") else None,
    )  # fmt: skip


def _step(number: int, message: Any) -> EnsembleStep:  # noqa: ANN401  ModelEnsembling.Step
    where = f"config.pbtxt: step {number} (model {quoted(message.model_name)})"
    if message.model_namespace:
        raise ModelLoadError(f"{where}: model_namespace is not supported")
    if message.model_version < _NEWEST:
        raise ModelLoadError(f"{where}: model_version is {message.model_version}, expected -1 or more")
    version = message.model_version if message.model_version > 0 else None
    return EnsembleStep(message.model_name, version, dict(message.input_map), dict(message.output_map))


def _versions(policy: Any) -> VersionSpec | str | None:  # noqa: ANN401
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return "all"
    if choice == "specific":
        return VersionSpec(specific=tuple(policy.specific.versions))
    return VersionSpec(latest=policy.latest.num_versions or 1) if choice == "latest" else None


def describe_config(model: ModelDescription) -> pb.ModelConfig:
    """The configuration that is in force, in Triton's form: shapes without the batch dimension where rows batch."""
    rows_max = (model.signature.rows_max or model.options.batch.rows_max) if model.signature.batchable else 0
    message = pb.ModelConfig(
        name=model.name,
        platform=model.traits.platform,
        backend="onnxruntime" if model.traits.platform == "onnxruntime_onnx" else "python",
        max_batch_size=rows_max,
        default_model_filename=(model.config.file_name if model.config else "") or "model.onnx",
    )
    start = 1 if rows_max else 0
    for spec in model.signature.inputs:
        message.input.add(**described(spec, start), optional=spec.optional)
    for spec in model.signature.outputs:
        message.output.add(**described(spec, start))
    for tensors, reshapes in zip(
        (message.input, message.output), model.config.reshapes if model.config else (), strict=False
    ):
        for each in tensors:
            if each.name in reshapes:
                each.reshape.shape.extend(reshapes[each.name].inside)
                each.reshape.SetInParent()  # an empty shape is one
    message.version_policy.specific.versions.extend(model.ready_versions)
    message.instance_group.add(name=model.name, count=model.options.instances, kind=pb.ModelInstanceGroup.KIND_CPU)
    if model.batching:
        message.dynamic_batching.SetInParent()
    if model.streams:
        message.model_transaction_policy.decoupled = True
    for name, value in model.traits.parameters.items():
        message.parameters[name].string_value = value
    return message


def described(spec: TensorSpec, start: int) -> dict[str, Any]:
    """A tensor as Triton's configuration has it, with its dimensions from `start` on."""
    name = spec.datatype.name
    return {"name": spec.name, "data_type": f"TYPE_{_TO_THEIRS.get(name, name)}", "dims": spec.shape[start:]}
