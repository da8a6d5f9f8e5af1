"""A servable whose tensors have other shapes outside than in the model: `reshape` of a Triton `config.pbtxt`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from engine.errors import Internal, quoted
from engine.servables.servable import Servable, Tensors
from engine.servables.signature import Reshape, Signature, TensorSpec
from engine.tensor import Tensor


class Reshaped:
    """As the servable that it wraps; elements keep their order (row-major), and nothing is copied where numpy need not."""

    def __init__(self, servable: Servable, inputs: Mapping[str, Reshape], outputs: Mapping[str, Reshape]) -> None:
        self._servable, self._inputs, self._outputs = servable, inputs, outputs
        signature = servable.signature
        self._rows = 1 if signature.batchable else 0
        self.signature = Signature(
            self._specs(signature.inputs, inputs), self._specs(signature.outputs, outputs),
            signature.batchable, signature.rows_max,
        )  # fmt: skip
        self.traits = servable.traits

    def _specs(self, specs: Sequence[TensorSpec], known: Mapping[str, Reshape]) -> tuple[TensorSpec, ...]:
        return tuple(
            replace(each, shape=(*each.shape[: self._rows], *known[each.name].outside)) if each.name in known else each
            for each in specs
        )

    def execute(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        """See `Servable.execute`. Raises Internal where the model gives an output of another size than configured."""
        within = {
            name: self._shaped(each, self._inputs[name].inside) if name in self._inputs else each
            for name, each in inputs.items()
        }
        found = dict(self._servable.execute(within, outputs))
        for name, reshape in self._outputs.items():
            if name in found:
                found[name] = self._output(name, found[name], reshape)
        return found

    def _output(self, name: str, tensor: Tensor, reshape: Reshape) -> Tensor:
        try:
            return self._shaped(tensor, reshape.outside)
        except ValueError as error:
            raise Internal(
                f"output {quoted(name)} has shape {list(tensor.array.shape)}, config.pbtxt makes {list(reshape.outside)} of "
                f"{list(reshape.inside)}"
            ) from error

    def _shaped(self, tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
        return Tensor(tensor.datatype, tensor.array.reshape(*tensor.array.shape[: self._rows], *shape))

    def close(self) -> None:
        """See `Servable.close`."""
        self._servable.close()
