"""What a traffic split must say to make sense, checked with the place in the file before anything is loaded. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

from engine.declaration import TensorDeclaration
from engine.errors import SpecError, nearest, quoted
from engine.graph.declaration import ShadowSpec, TrafficSpec
from engine.graph.known import Known, mismatch
from engine.graph.relations_graph import Find
from engine.graph.relations_records import check_exposures
from engine.log.declaration import LogSpec
from engine.strict_yaml import Place

REQUEST_ID = "$id"
"""As the key of a split: the request's id."""

_KEYS = ("BYTES", *(f"{kind}{bits}" for kind in ("INT", "UINT") for bits in (8, 16, 32, 64)))


def check_split(split: TrafficSpec, where: str, find: Find, logs: Mapping[str, LogSpec], place: Place) -> Known | None:
    """What is known of a split: what is known of its first variant, whose likes the others must be. Raises SpecError."""
    _check_weights(split, where, place)
    first: tuple[str, Known] | None = None
    for name, variant in split.variants.items():
        key = f"{where}.variants.{name}"
        known = find(variant.call, variant.version, key)
        if known is not None and first is not None:
            _check_alike(variant.call, known, first, f"{key}.call", place)
        if known is not None and first is None:
            first = (variant.call, known)
    for name, shadow in split.shadows.items():
        _check_shadow(shadow, f"{where}.shadows.{name}", first, find, place)
    if split.key_datatype is not None:
        first = _with_own_key(split, split.key_datatype, where, first, place)
    _check_key(split, where, first, place)
    if split.exposures is not None:
        check_exposures(split.exposures, f"{where}.exposures", logs, place)
    return None if first is None else Known("split", first[1].inputs, first[1].outputs, first[1].rows)


def _check_weights(split: TrafficSpec, where: str, place: Place) -> None:
    if not split.variants:
        raise SpecError(f"{place(f'{where}.variants')}: a split needs at least one variant")
    for name, variant in split.variants.items():
        if not 0 <= variant.weight < math.inf:
            key = place(f"{where}.variants.{name}.weight")
            raise SpecError(f"{key}: a weight is 0 or more, got {variant.weight}")
    total = sum(each.weight for each in split.variants.values())
    if not 0 < total < math.inf:
        raise SpecError(f"{place(f'{where}.variants')}: the weights must have a sum above 0, got {total}")


def _check_alike(call: str, known: Known, first: tuple[str, Known], key: str, place: Place) -> None:
    """Whoever calls a split must not see which variant answers."""
    _check_takes(call, known, first, key, place)
    for name, wanted in first[1].outputs.items():
        if name not in known.outputs:
            raise SpecError(f"{place(key)}: {quoted(call)} has no output {quoted(name)}, which {quoted(first[0])} has")
        problem = mismatch(known.outputs[name], wanted)
        if problem is not None:
            raise SpecError(f"{place(key)}: output {quoted(name)} of {quoted(call)}: {problem}, as {quoted(first[0])}")


def _check_takes(call: str, known: Known, first: tuple[str, Known], key: str, place: Place) -> None:
    for name, wanted in first[1].inputs.items():
        if name not in known.inputs:
            if wanted is not None and wanted.optional:
                continue
            raise SpecError(f"{place(key)}: {quoted(call)} has no input {quoted(name)}, which {quoted(first[0])} takes")
        problem = mismatch(known.inputs[name], wanted)
        if problem is not None:
            raise SpecError(f"{place(key)}: input {quoted(name)} of {quoted(call)}: {problem}, as {quoted(first[0])}")
    for name, taken in known.inputs.items():
        if taken is not None and taken.optional:
            continue
        if name not in first[1].inputs:
            raise SpecError(
                f"{place(key)}: {quoted(call)} needs input {quoted(name)}, which {quoted(first[0])} does not take"
            )
        given = first[1].inputs[name]
        if given is not None and given.optional:
            raise SpecError(f"{place(key)}: {quoted(call)} needs input {quoted(name)}, optional for {quoted(first[0])}")


def _check_shadow(shadow: ShadowSpec, where: str, first: tuple[str, Known] | None, find: Find, place: Place) -> None:
    if not 0 <= shadow.share <= 1:
        raise SpecError(f"{place(f'{where}.share')}: must be from 0 to 1, got {shadow.share}")
    known = find(shadow.call, shadow.version, where)
    if known is not None and first is not None:
        _check_takes(shadow.call, known, first, f"{where}.call", place)


def _with_own_key(
    split: TrafficSpec, datatype: str, where: str, first: tuple[str, Known] | None, place: Place
) -> tuple[str, Known] | None:
    """What is known, with the key among the inputs: the split takes it for itself."""
    if split.key is None or split.key == REQUEST_ID:
        raise SpecError(f"{place(f'{where}.key_datatype')}: belongs to a key that is an input of the split")
    if datatype not in _KEYS:
        raise SpecError(f"{place(f'{where}.key_datatype')}: a key is BYTES or whole numbers, got {quoted(datatype)}")
    if first is None:
        return None
    call, known = first
    if split.key in known.inputs:
        raise SpecError(f"{place(f'{where}.key_datatype')}: {quoted(call)} takes {quoted(split.key)} itself")
    own = TensorDeclaration(datatype, (-1,), optional=True)
    return call, Known(known.kind, {**known.inputs, split.key: own}, known.outputs, known.rows)


def _check_key(split: TrafficSpec, where: str, first: tuple[str, Known] | None, place: Place) -> None:
    if split.key is None or split.key == REQUEST_ID or first is None:
        return
    call, known = first
    key = place(f"{where}.key")
    if split.key not in known.inputs:
        hint = nearest(split.key, [*known.inputs, REQUEST_ID])
        raise SpecError(f"{key}: {quoted(call)} takes no input {quoted(split.key)}{hint}")
    found = known.inputs[split.key]
    if found is None:
        return
    if found.datatype not in _KEYS:
        raise SpecError(f"{key}: {quoted(split.key)} is {found.datatype}; a key is BYTES or whole numbers")
    if known.rows and math.prod(size for size in found.shape[1:] if size != -1) != 1:
        raise SpecError(f"{key}: {quoted(split.key)} has shape {list(found.shape)}; a key is one value a row")
