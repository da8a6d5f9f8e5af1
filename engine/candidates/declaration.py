"""How gathers and slates are declared in the spec. Frozen values; docs/reference/candidates.md says what each key means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class GatherSourceSpec:
    """Some columns of a gather: a vector of a collection, or features of a feature view; exactly one of the two.

    `size`: of the vector, where the spec does not declare the collection (an alias names it, or a client makes it); its ids are
    then whole numbers. `features` are numbers that the view aggregates. `default` stands where a key, or a feature of it, is not
    there: one number for all columns, or one for each.
    """

    collection: str | None = None
    vector: str | None = None
    size: int | None = None
    view: str | None = None
    features: tuple[str, ...] = ()
    default: float | tuple[float, ...] = 0.0


@dataclass(frozen=True, slots=True)
class GatherSpec:
    """Rows of numbers for keys, served as a model, version 1: the columns of all `sources`, one after the other, written once,
    into the buffer that the next model reads. `key`: the name of its input; see engine/servables/gather.py."""

    sources: tuple[GatherSourceSpec, ...]
    key: str = "key"
    timeout_ms: float | None = None


@dataclass(frozen=True, slots=True)
class SlateSpec:
    """The list that is shown, chosen of scored candidates, served as a model, version 1: at most `k`, in order.

    `relevance`: the weight of a candidate's score against its likeness to those chosen before it, 1 is scores alone; below 1
    `size` is the dimensions of the vectors that likeness is of. These are all of the input's columns, or, where it is rows of
    `width` numbers such as a gather's, those from `first` on. `caps`: input name to how many candidates of one value of it may be
    shown. See engine/servables/slate.py.
    """

    k: int
    relevance: float = 1.0
    size: int | None = None
    first: int = 0
    width: int | None = None
    caps: Mapping[str, int] = field(default_factory=dict)
    timeout_ms: float | None = None
