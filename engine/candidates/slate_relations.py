"""What the slates of a spec may say, checked with the place in the file. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final

from engine.candidates.declaration import SlateSpec
from engine.candidates.gather_relations import Declared, Problem, Tensors
from engine.declaration import TensorDeclaration, timeout_problems
from engine.errors import SpecError
from engine.limits import SEARCH_K_MAX, SLATE_CAPS_MAX, VECTOR_DIMENSIONS_MAX
from engine.strict_yaml import Place

SCORES: Final = "scores"
VECTORS: Final = "vectors"
CHOSEN: Final = "chosen"


def check_slates(
    slates: Mapping[str, SlateSpec], taken: Collection[str], place: Place
) -> dict[str, tuple[Tensors, Tensors]]:
    """What each slate takes and gives. Raises SpecError. `taken`: names of what else is called as a model."""
    for name, slate in slates.items():
        where = f"slates.{name}"
        if name in taken:
            raise SpecError(f"{place(where)}: something else has that name already; all are called by it")
        for key, what in _problems(slate):
            raise SpecError(f"{place(f'{where}.{key}')}: {what}")
    return {name: tensors_of(each) for name, each in slates.items()}


def _problems(slate: SlateSpec) -> Iterator[Problem]:
    if not 1 <= slate.k <= SEARCH_K_MAX:
        yield "k", f"must be from 1 to {SEARCH_K_MAX}, got {slate.k}"
    if not 0 < slate.relevance <= 1:
        yield "relevance", f"must be above 0 and at most 1, got {slate.relevance}"
    if (slate.size is None) != (slate.relevance == 1):
        yield (
            "size",
            "is given where 'relevance' is below 1, and only there: the dimensions of the vectors that are compared",
        )
    if slate.size is not None and not 1 <= slate.size <= VECTOR_DIMENSIONS_MAX:
        yield "size", f"must be from 1 to {VECTOR_DIMENSIONS_MAX}, got {slate.size}"
    yield from _column_problems(slate)
    if len(slate.caps) > SLATE_CAPS_MAX:
        yield "caps", f"at most {SLATE_CAPS_MAX} are allowed, got {len(slate.caps)}"
    for name, cap in slate.caps.items():
        if name in (SCORES, VECTORS):
            yield f"caps.{name}", "is the name of another input"
        if cap < 1:
            yield f"caps.{name}", f"must be 1 or more, got {cap}"
    yield from timeout_problems(slate.timeout_ms)


def _column_problems(slate: SlateSpec) -> Iterator[Problem]:
    if slate.width is None:
        if slate.first:
            yield "first", "is given with 'width' alone: how many columns the input has, of which 'size' are compared"
    elif slate.size is None:
        yield "width", "is of vectors that are compared: give 'size' too"
    elif not 1 <= slate.width <= VECTOR_DIMENSIONS_MAX:
        yield "width", f"must be from 1 to {VECTOR_DIMENSIONS_MAX}, got {slate.width}"
    elif not 0 <= slate.first <= slate.width - slate.size:
        yield (
            "first",
            f"must be from 0 to {slate.width - slate.size}, so that {slate.size} of {slate.width} columns follow",
        )


def tensors_of(slate: SlateSpec) -> tuple[Declared, Declared]:
    """By name; there are no problems."""
    inputs = {SCORES: TensorDeclaration("FP32", (-1,))}
    if slate.size is not None:
        inputs[VECTORS] = TensorDeclaration("FP32", (-1, slate.width or slate.size))
    inputs |= {name: TensorDeclaration("INT64", (-1,)) for name in slate.caps}
    return inputs, {CHOSEN: TensorDeclaration("INT64", (-1,))}
