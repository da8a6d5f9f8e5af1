"""What the answers of a servable come from, as far as the spec tells: what it calls, the collections that these read, and what
of it nothing tells. Pure."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from engine.candidates.declaration import GatherSpec
from engine.control.registry import Snapshot
from engine.errors import SpecError, quoted
from engine.generation.declaration import LanguageModelSpec
from engine.generation.handing_on import reached
from engine.graph.board import called_names
from engine.graph.declaration import GraphSpec, TrafficSpec
from engine.placement import DeploymentSpec
from engine.strict_yaml import Place
from engine.vectors.declaration import VectorSearchSpec

_BYTES_MAX: Final = 1 << 40
_TTL_S_MAX: Final = 366 * 86400


class Declared(Protocol):
    """What of a spec says what comes to what."""

    @property
    def functions(self) -> Mapping[str, object]:
        """By name."""

    @property
    def feature_views(self) -> Mapping[str, object]:
        """By name."""

    @property
    def triton_models(self) -> Mapping[str, object]:
        """By name."""

    @property
    def graphs(self) -> Mapping[str, GraphSpec]:
        """By name."""

    @property
    def traffic(self) -> Mapping[str, TrafficSpec]:
        """By name."""

    @property
    def searches(self) -> Mapping[str, VectorSearchSpec]:
        """By name."""

    @property
    def gathers(self) -> Mapping[str, GatherSpec]:
        """By name."""

    @property
    def language_models(self) -> Mapping[str, LanguageModelSpec]:
        """By name."""

    @property
    def placement(self) -> Mapping[str, DeploymentSpec]:
        """By name."""


@dataclass(slots=True)
class Reach:
    """`servables`, its own name the first, and `collections` by names or aliases, in an order that is always the same. `untold`:
    why the same request may be answered otherwise though all these are the same, the first reason found."""

    servables: list[str] = field(default_factory=list)
    collections: list[str] = field(default_factory=list)
    untold: str | None = None


def reach_of(spec: Declared, name: str) -> Reach:
    """See the module."""
    found = Reach()
    waiting = [name]
    while waiting:
        each = waiting.pop()
        if each in found.servables:
            continue
        found.servables.append(each)
        found.untold = found.untold or _untold(spec, each)
        found.collections += [one for one in _collections(spec, each) if one not in found.collections]
        declared = spec.graphs.get(each) or spec.traffic.get(each)
        waiting += [] if declared is None else sorted(called_names(declared))
    return found


def state_of(reach: Reach, snapshot: Snapshot[Any], collection: Callable[[str], Hashable]) -> Hashable:
    """Which versions are loaded, and the state of each collection: equal while all this is so."""
    served = snapshot.served
    versions = [served[each].versions.values() if each in served else () for each in reach.servables]
    loaded = tuple(tuple(sorted(each.serial for each in some)) for some in versions)
    return tuple(reach.servables), loaded, tuple(collection(each) for each in reach.collections)


def _collections(spec: Declared, name: str) -> list[str]:
    if name in spec.searches:
        return [spec.searches[name].collection]
    sources = spec.gathers[name].sources if name in spec.gathers else ()
    return [each.collection for each in sources if each.collection is not None]


def _untold(spec: Declared, name: str) -> str | None:
    """Why one servable, not what it calls, may answer otherwise."""
    called = quoted(name)
    code_or_state = {
        f"function {called} may read what it likes": spec.functions,
        f"feature view {called} changes with its events": spec.feature_views,
        f"model {called} is another server's": spec.triton_models,
        f"split {called} chooses by chance": spec.traffic,
    }
    for reason, declared in code_or_state.items():
        if name in declared:
            return reason
    placed = {each for declared in spec.placement.values() for each in declared.serves}
    if name in placed or not placed.isdisjoint(_collections(spec, name)):
        return f"{called} is placed in another process" if name in placed else f"{called} searches other processes"
    if name in spec.gathers and any(each.view is not None for each in spec.gathers[name].sources):
        return f"gather {called} reads features, which change with their events"
    if (graph := spec.graphs.get(name)) is not None:
        if graph.records:
            return f"graph {called} records each request"
        if any(node.on_error is not None or node.on_late is not None for node in graph.nodes.values()):
            return f"graph {called} has fallbacks"
    return None


def check_answers(spec: Declared, place: Place) -> None:
    """Raises SpecError, with the place, for kept answers that can't be, or that could be told when nothing says they are old."""
    for name, model in spec.language_models.items():
        for key, problem in _problems(spec, name, model):
            raise SpecError(f"{place(f'language_models.{name}.answers{key}')}: {problem}")


def _problems(spec: Declared, name: str, model: LanguageModelSpec) -> Iterator[tuple[str, str]]:
    answers = model.answers
    if answers is None:
        return
    if not 1 <= answers.bytes_max <= _BYTES_MAX:
        yield ".bytes_max", f"must be from 1 to {_BYTES_MAX}, got {answers.bytes_max}"
    if answers.ttl_s is not None and not 0.001 <= answers.ttl_s <= _TTL_S_MAX:
        yield ".ttl_s", f"must be from 0.001 to {_TTL_S_MAX}, got {answers.ttl_s}"
    if answers.always:
        if answers.ttl_s is None:
            yield ".always", "needs ttl_s, which then alone says how old an answer may be"
        return
    for each in sorted(reached(name, {one: declared.asks for one, declared in spec.language_models.items()})):
        reason = _model_untold(spec, each)
        if reason is not None:
            yield (
                "",
                f"{reason}, so nothing tells when an answer is old; 'always: true' with a ttl_s keeps them so long",
            )


def _model_untold(spec: Declared, name: str) -> str | None:
    model = spec.language_models[name]
    if model.call is not None:
        return f"language model {quoted(name)} is code of your own"
    if model.upstream is not None:
        return f"language model {quoted(name)} is answered by other servers"
    return None if model.servable is None else reach_of(spec, model.servable).untold
