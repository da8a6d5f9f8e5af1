"""A traffic split resolved against what is loaded: its variants, its shadows, its key, and the signature all of them share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from engine.errors import FailedPrecondition, VireoError, nearest, quoted
from engine.graph.declaration import ShadowSpec, TrafficSpec, VariantSpec
from engine.graph.port import Target
from engine.graph.shapes import both, either, fits, told
from engine.servables.signature import ANY, Signature, TensorSpec
from engine.tensor import BF16, BYTES, DATATYPES

REQUEST_ID: Final = "$id"
"""As the key of a split: the request's id."""

Find = Callable[[str, int | None], Target]


@dataclass(frozen=True, slots=True)
class PlannedVariant:
    """One candidate. `drops`: optional inputs of the split that it does not take. `outputs`: those it is asked for where a
    request asks for none, empty where these are all it has, in the split's order."""

    name: str
    target: Target
    weight: float
    drops: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlannedShadow:
    """Gets a copy of `share` of the requests; `drops` as a variant's."""

    name: str
    target: Target
    share: float
    drops: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TrafficPlan:
    """A whole split. `key`: an input of BYTES or whole numbers, `$id`, or None: by chance. `exposures`: a log."""

    name: str
    signature: Signature
    variants: tuple[PlannedVariant, ...]
    shadows: tuple[PlannedShadow, ...] = ()
    key: str | None = None
    exposures: str | None = None
    streams: bool = False


def resolve_traffic(name: str, spec: TrafficSpec, find: Find) -> TrafficPlan:
    """The plan of split `name`, whose servables `find` gives by name and version.

    Its inputs and outputs are those of its first variant; sizes that only some variants fix are fixed for inputs, free for
    outputs. Raises FailedPrecondition where the variants differ, and what `find` raises; both name split and variant.
    """
    where = f"split {quoted(name)}"
    targets = {
        each: _found(f"{where}, variant {quoted(each)}", declared, find) for each, declared in spec.variants.items()
    }
    signature = _common(where, targets)
    streams = {target.streams for target in targets.values()}
    if len(streams) > 1:
        kinds = ", ".join(
            f"{quoted(each)} {'streams' if target.streams else 'does not'}" for each, target in targets.items()
        )
        raise FailedPrecondition(f"{where}: all variants stream their answers or none does; {kinds}")
    if spec.key is not None and spec.key_datatype is not None:
        signature = _with_own_key(where, spec.key, spec.key_datatype, signature)
    _check_key(where, spec.key, signature)
    variants = tuple(_variant(each, targets[each], spec.variants[each].weight, signature) for each in targets)
    shadows = tuple(_shadow(where, each, declared, find, signature) for each, declared in spec.shadows.items())
    return TrafficPlan(name, signature, variants, shadows, spec.key, spec.exposures, streams == {True})


def _found(where: str, declared: VariantSpec | ShadowSpec, find: Find) -> Target:
    try:
        return find(declared.call, declared.version)
    except VireoError as error:
        raise type(error)(f"{where}: {error.message}", retry_after_s=error.retry_after_s) from error


def _common(where: str, targets: Mapping[str, Target]) -> Signature:
    """What a caller may count on whichever variant answers."""
    (first, *rest) = targets.items()
    inputs, outputs = list(first[1].signature.inputs), list(first[1].signature.outputs)
    for name, target in rest:
        with_name = f"{where}, variant {quoted(name)}"
        inputs = _taken(with_name, inputs, first, target)
        outputs = [_given(with_name, each, first, target) for each in outputs]
    called = [each.signature for each in targets.values()]
    batchable = all(each.batchable for each in called)
    rows_max = min((each.rows_max for each in called if each.rows_max is not None), default=None)
    return Signature(tuple(inputs), tuple(outputs), batchable, rows_max if batchable else None)


def _taken(where: str, inputs: list[TensorSpec], first: tuple[str, Target], target: Target) -> list[TensorSpec]:
    """`inputs`, as narrow as `target` takes them. Raises FailedPrecondition where it cannot be given them."""
    known = target.signature.input_named
    narrowed = []
    for each in inputs:
        taken = known.get(each.name)
        if taken is None:
            if not each.optional:
                raise FailedPrecondition(
                    f"{where}: {_version(target)} has no input {quoted(each.name)}, which {quoted(first[0])} takes"
                )
            narrowed.append(each)
            continue
        _check_fits(f"{where}, input {quoted(each.name)}", taken, each, first, target, "takes")
        if each.optional and not taken.optional:
            raise FailedPrecondition(
                f"{where}: {_version(target)} needs input {quoted(each.name)}, optional for {quoted(first[0])}"
            )
        narrowed.append(replace(each, shape=both(each.shape, taken.shape)))
    given = {each.name for each in inputs}
    for each in target.signature.inputs:
        if each.name not in given and not each.optional:
            raise FailedPrecondition(
                f"{where}: {_version(target)} needs input {quoted(each.name)}, which {quoted(first[0])} does not take"
            )
    return narrowed


def _given(where: str, output: TensorSpec, first: tuple[str, Target], target: Target) -> TensorSpec:
    for each in target.signature.outputs:
        if each.name == output.name:
            _check_fits(f"{where}, output {quoted(each.name)}", each, output, first, target, "gives")
            return replace(output, shape=either((output.shape, each.shape)))
    raise FailedPrecondition(
        f"{where}: {_version(target)} has no output {quoted(output.name)}, which {quoted(first[0])} gives"
    )


def _check_fits(
    where: str, got: TensorSpec, wanted: TensorSpec, first: tuple[str, Target], target: Target, does: str
) -> None:
    if got.datatype is not wanted.datatype or not fits(got.shape, wanted.shape):
        raise FailedPrecondition(
            f"{where}: {_version(target)} {does} {told(got.datatype, got.shape)}, "
            f"{quoted(first[0])} {told(wanted.datatype, wanted.shape)}"
        )


def _with_own_key(where: str, key: str, datatype: str, signature: Signature) -> Signature:
    """`signature` with a key that the split takes for itself: its variants are not given it."""
    if key in signature.input_named:
        raise FailedPrecondition(f"{where}, key_datatype: its variants take {quoted(key)} themselves")
    own = TensorSpec(key, DATATYPES[datatype], (ANY,), optional=True)
    return Signature((*signature.inputs, own), signature.outputs, signature.batchable, signature.rows_max)


def _check_key(where: str, key: str | None, signature: Signature) -> None:
    if key is None or key == REQUEST_ID:
        return
    found = signature.input_named.get(key)
    if found is None:
        known = nearest(key, [*signature.input_named, REQUEST_ID])
        raise FailedPrecondition(f"{where}, key: its variants take no input {quoted(key)}{known}")
    if found.datatype is not BYTES and (found.datatype is BF16 or found.datatype.dtype.kind not in "iu"):
        raise FailedPrecondition(f"{where}, key {quoted(key)}: is {found.datatype}; a key is BYTES or whole numbers")
    if signature.batchable and math.prod(each for each in found.shape[1:] if each != ANY) != 1:
        raise FailedPrecondition(f"{where}, key {quoted(key)}: has shape {list(found.shape)}; a key is one value a row")


def _variant(name: str, target: Target, weight: float, signature: Signature) -> PlannedVariant:
    same = target.signature.output_names == signature.output_names
    return PlannedVariant(name, target, weight, _drops(target, signature), () if same else signature.output_names)


def _shadow(where: str, name: str, declared: ShadowSpec, find: Find, signature: Signature) -> PlannedShadow:
    at = f"{where}, shadow {quoted(name)}"
    target = _found(at, declared, find)
    _taken(at, list(signature.inputs), ("the split", target), target)
    return PlannedShadow(name, target, declared.share, _drops(target, signature))


def _drops(target: Target, signature: Signature) -> tuple[str, ...]:
    return tuple(each.name for each in signature.inputs if each.name not in target.signature.input_named)


def _version(target: Target) -> str:
    return f"{quoted(target.name)} version {target.version}"
