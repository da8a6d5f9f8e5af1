"""Whether a resolved graph is what the config.pbtxt of an ensemble says that it is. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from engine.errors import FailedPrecondition, quoted
from engine.graph.declaration import EnsembleSpec
from engine.graph.port import Target
from engine.graph.shapes import fits, told
from engine.servables.signature import Signature


def as_configured(spec: EnsembleSpec, signature: Signature, targets: Mapping[str, Target]) -> Signature:
    """`signature` with the configured bound on a request's rows; `targets` are those that the nodes call, by their names.

    Raises FailedPrecondition where an output is another than configured, or a step takes fewer rows.
    """
    for output in signature.outputs:
        configured = spec.configured[output.name]
        if configured.datatype != output.datatype.name or not fits(configured.shape, output.shape):
            raise FailedPrecondition(
                f"config.pbtxt: output {quoted(output.name)} is {configured.datatype} {list(configured.shape)}, its step "
                f"gives {told(output.datatype, output.shape)} ({quoted(str(spec.outputs[output.name]))})"
            )
    if spec.rows_max is None:
        return signature
    for node, target in targets.items():
        most = target.signature.rows_max if target.signature.batchable else 0
        if most is not None and most < spec.rows_max:
            raise FailedPrecondition(
                f"config.pbtxt: max_batch_size is {spec.rows_max}, but step {quoted(node)} calls {quoted(target.name)}, "
                f"{f'which takes at most {most} rows' if most else 'which does not batch'}"
            )
    if not signature.batchable:
        raise FailedPrecondition(f"config.pbtxt: max_batch_size is {spec.rows_max}, but a step has no input with rows")
    return replace(signature, rows_max=spec.rows_max)
