"""What a model's `config.pbtxt` says, as plain values, and whether the model file agrees. Pure.

Reading the protobuf text is the serving layer's business: the engine is given a `ConfigReader`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from engine.errors import ModelLoadError, nearest, quoted
from engine.servables.signature import ANY, Reshape, Signature, TensorSpec
from engine.spec import VersionSpec


@dataclass(frozen=True, slots=True)
class ConfigTensor:
    """One input or output as configured; `shape` has no batch dimension where `max_batch_size` is above 0.

    `inside`: the shape that the model file has it in, where that is another; of as many elements, and all sizes fixed.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False
    inside: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class EnsembleStep:
    """One call of an ensemble: the model, its version (None: the newest), and its tensors' names to the ensemble's."""

    model: str
    version: int | None
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The parts of Triton's ModelConfig that Vireo acts on. `ignored` names parts that are set and have no effect."""

    name: str = ""
    platform: str = ""
    max_batch_size: int = 0
    inputs: tuple[ConfigTensor, ...] = ()
    outputs: tuple[ConfigTensor, ...] = ()
    versions: VersionSpec | str | None = None
    instances: int | None = None
    file_name: str = ""
    ignored: tuple[str, ...] = ()
    steps: tuple[EnsembleStep, ...] = ()
    """Of an ensemble, which has at least one."""

    @property
    def rows_max(self) -> int | None:
        """Bound on a request's rows, 0 for none batchable, None to read it from the model file."""
        return self.max_batch_size if self.max_batch_size or self.inputs or self.outputs else None

    @property
    def reshapes(self) -> tuple[dict[str, Reshape], dict[str, Reshape]]:
        """Of the inputs, and of the outputs, that the model file has in another shape."""
        inputs, outputs = (
            {each.name: Reshape(each.shape, each.inside) for each in side if each.inside is not None}
            for side in (self.inputs, self.outputs)
        )
        return inputs, outputs


ConfigReader = Callable[[str, str], ModelConfig]
"""(text, format "pbtxt" or "json") to a ModelConfig; raises ModelLoadError with the line."""


def check_config(config: ModelConfig, signature: Signature) -> None:
    """Raises ModelLoadError where the configured tensors and the model's own disagree."""
    batched = config.max_batch_size > 0
    for side, configured, actual in (
        ("input", config.inputs, signature.inputs),
        ("output", config.outputs, signature.outputs),
    ):
        _check_side(side, configured, actual, batched)
    missing = [each.name for each in signature.inputs if not each.optional]
    if config.inputs and (absent := set(missing) - {each.name for each in config.inputs}):
        raise ModelLoadError(f"config.pbtxt lacks input {', '.join(map(quoted, sorted(absent)))} of the model file")


def _check_side(side: str, configured: Sequence[ConfigTensor], actual: Sequence[TensorSpec], batched: bool) -> None:
    known = {each.name: each for each in actual}
    for each in configured:
        spec = known.get(each.name)
        if spec is None:
            raise ModelLoadError(
                f"config.pbtxt: the model file has no {side} {quoted(each.name)}{nearest(each.name, known)}"
            )
        if each.datatype != spec.datatype.name:
            raise ModelLoadError(
                f"config.pbtxt: {side} {quoted(each.name)} is {each.datatype}, in the model file {spec.datatype.name}"
            )
        shape = each.shape if each.inside is None else each.inside
        shape = (ANY, *shape) if batched else shape
        if len(shape) != len(spec.shape) or any(
            ANY not in (a, b) and a != b for a, b in zip(shape, spec.shape, strict=True)
        ):
            raise ModelLoadError(
                f"config.pbtxt: {side} {quoted(each.name)} has shape {list(shape)}, in the model file {list(spec.shape)}"
            )
