"""What graphs and traffic splits must say of each other and of what they call, checked before anything is loaded. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from engine.errors import SpecError, nearest, quoted
from engine.graph.declaration import GraphSpec, TrafficSpec
from engine.graph.edges import cycle_in, depths, fallbacks_of, in_order
from engine.graph.known import Known
from engine.graph.relations_fallback import check_fallback
from engine.graph.relations_graph import GraphRelations
from engine.graph.relations_records import check_records
from engine.graph.relations_traffic import check_split
from engine.limits import GRAPH_DEPTH_MAX, NAME_CHARS_MAX
from engine.log.declaration import LogSpec
from engine.strict_yaml import Place

Declared = GraphSpec | TrafficSpec


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What else a spec declares: `known`, functions and feature views; `logs`; `models`, those of the repository that are listed,
    None where there is no repository: then nothing unknown can be one of its models."""

    known: Mapping[str, Known]
    logs: Mapping[str, LogSpec]
    models: Collection[str] | None


def check_graphs(
    graphs: Mapping[str, GraphSpec], traffic: Mapping[str, TrafficSpec], around: Surroundings, place: Place
) -> dict[str, Known]:
    """What is known of each graph and split. Raises SpecError with the place of whatever cannot work, whatever models do."""
    declared: dict[str, tuple[str, Declared]] = {}
    for section, specs in (("graphs", graphs), ("traffic", traffic)):
        for name, spec in specs.items():
            _check_name(name, f"{section}.{name}", declared, around, place)
            declared[name] = (f"{section}.{name}", spec)
    calls = _calls(declared)
    _check_circle(declared, calls, place)
    _check_depth(declared, calls, place)
    return _check_each(declared, in_order(calls), around, place)


def _check_name(
    name: str, where: str, declared: Mapping[str, tuple[str, Declared]], around: Surroundings, place: Place
) -> None:
    if not 1 <= len(name) <= NAME_CHARS_MAX or not name.isprintable():
        raise SpecError(f"{place(where)}: a name has from 1 to {NAME_CHARS_MAX} printable characters")
    other = None
    if name in around.known:
        other = around.known[name].kind
    elif name in declared:
        other = "graph"
    elif name in (around.models or ()):
        other = "model"
    if other is not None:
        raise SpecError(f"{place(where)}: a {other} has that name; both are called by it")


def called_at(spec: Declared) -> Iterator[tuple[str, str]]:
    """Key below the graph or split, and name, of everything it calls."""
    if isinstance(spec, GraphSpec):
        for name, node in spec.nodes.items():
            yield f"nodes.{name}.call", node.call
            for key, fallback in fallbacks_of(node):
                if fallback.call is not None:
                    yield f"nodes.{name}.{key}.call", fallback.call
        return
    for name, variant in spec.variants.items():
        yield f"variants.{name}.call", variant.call
    for name, shadow in spec.shadows.items():
        yield f"shadows.{name}.call", shadow.call


def _calls(declared: Mapping[str, tuple[str, Declared]]) -> dict[str, tuple[str, ...]]:
    """For each graph and split those it calls."""
    return {
        name: tuple(dict.fromkeys(called for _, called in called_at(spec) if called in declared))
        for name, (_, spec) in declared.items()
    }


def _check_circle(
    declared: Mapping[str, tuple[str, Declared]], calls: Mapping[str, tuple[str, ...]], place: Place
) -> None:
    cycle = cycle_in(calls)
    if cycle is None:
        return
    caller, called = cycle[0], cycle[-2]  # a cycle runs from what is called to who calls it
    where, spec = declared[caller]
    key = next(key for key, name in called_at(spec) if name == called)
    what = f"{quoted(caller)} calls itself" if caller == called else "graphs call each other in a circle"
    raise SpecError(f"{place(f'{where}.{key}')}: {what}: {' -> '.join(reversed(cycle))}")


def _check_depth(
    declared: Mapping[str, tuple[str, Declared]], calls: Mapping[str, tuple[str, ...]], place: Place
) -> None:
    for name, depth in depths(calls).items():
        if depth > GRAPH_DEPTH_MAX:
            raise SpecError(
                f"{place(declared[name][0])}: graphs call each other {depth} deep, at most {GRAPH_DEPTH_MAX} are allowed"
            )


def _check_each(
    declared: Mapping[str, tuple[str, Declared]], order: Collection[str], around: Surroundings, place: Place
) -> dict[str, Known]:
    found: dict[str, Known] = {}

    def find(name: str, version: int | None, where: str) -> Known | None:
        known = around.known.get(name) or found.get(name)
        if known is None and name not in declared and around.models is None:
            callable_names = [*around.known, *declared]
            raise SpecError(
                f"{place(f'{where}.call')}: there is no {quoted(name)} to call, and no repository with models"
                f"{nearest(name, callable_names)}"
            )
        if version is not None and version < 1:
            raise SpecError(f"{place(f'{where}.version')}: versions are numbers from 1, got {version}")
        if version not in (None, 1) and (known is not None or name in declared):
            raise SpecError(f"{place(f'{where}.version')}: {quoted(name)} has version 1 only, got {version}")
        return known

    for name in order:
        where, spec = declared[name]
        if isinstance(spec, TrafficSpec):
            known = check_split(spec, where, find, around.logs, place)
        else:
            known = _check_graph(GraphRelations(spec, where, find, place), around.logs)
        if known is not None:
            found[name] = known
    return found


def _check_graph(relations: GraphRelations, logs: Mapping[str, LogSpec]) -> Known:
    relations.check()
    for name, node in relations.graph.nodes.items():
        for key, fallback in fallbacks_of(node):
            check_fallback(relations, name, f"nodes.{name}.{key}", fallback)
    check_records(relations, logs)
    return Known("graph", relations.graph.inputs, relations.outputs)
