"""Where the servables of a spec run on a cluster: in named deployments apart, or beside the doors. Pure.

A host of one machine runs all of them in its process, whatever is said here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from engine.errors import SpecError, nearest, quoted
from engine.strict_yaml import Place

INGRESS: Final = "ingress"
"""The deployment with the doors: all that is placed nowhere else runs there."""

REPLICAS_MAX: Final = 1024
SHARDS_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class AutoscalingSpec:
    """Between how many replicas. There are more where requests wait longer than `queue_wait_ms` for a worker (all but a
    twentieth wait less), where more than the share `misses_max` of them is refused or answered past its deadline, or where
    more than `calls_target` are in work or waiting at each replica; None leaves a bound out. There are fewer, one by one,
    after `calm_s` in which all of this would hold with one less. With `replicas_min` 0, for language models alone, the last one
    goes after `calm_s` without a call, and the first call after that waits until there is one again.
    """

    replicas_min: int = 1
    replicas_max: int = 1
    queue_wait_ms: float | None = 5.0
    misses_max: float | None = 0.01
    calls_target: float | None = None
    calm_s: float = 300.0


@dataclass(frozen=True, slots=True)
class DeploymentSpec:
    """Replicas that serve `serves`, functions, models and language models by name, and what each of them needs: cores, GPUs
    (parts of one are shared), and a node with these labels. `autoscaling` in the place of a fixed number.

    With `shards` it serves feature views and collections, by name: each shard has its part of the entities or points and as many
    replicas as said here. `on_lost`: a lookup or search of which a shard does not answer in time fails, or is answered in part
    and tells which entities, or shards, it lacks.
    """

    serves: tuple[str, ...] = ()
    replicas: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    node_labels: Mapping[str, str] = field(default_factory=dict)
    autoscaling: AutoscalingSpec | None = None
    shards: int | None = None
    on_lost: Literal["fail", "partial"] = "fail"

    @property
    def replicas_max(self) -> int:
        """The most there may be, apart from updates."""
        return self.replicas if self.autoscaling is None else self.autoscaling.replicas_max

    @property
    def rests_after_s(self) -> float | None:
        """So long nobody must have called until it has no replica; None where it always has one."""
        scaling = self.autoscaling
        return None if scaling is None or scaling.replicas_min > 0 else scaling.calm_s


def fingerprint_of(settings: object) -> str:
    """Of how a servable is declared: the same in every replica that reads the same spec, another for another declaration."""
    return hashlib.blake2b(repr(settings).encode(), digest_size=8).hexdigest()


def shard_name(deployment: str, number: int, of: int) -> str:
    """What shard `number` (from 0) of `of` is called as a deployment: shards made anew are never mistaken for others."""
    return f"{deployment}-{number}-of-{of}"


def deployment_of(placement: Mapping[str, DeploymentSpec], name: str) -> str | None:
    """The deployment that serves `name` apart; None where it runs beside the doors."""
    return next((each for each, declared in placement.items() if name in declared.serves), None)


def check_placement(
    placement: Mapping[str, DeploymentSpec],
    *,
    apart: Collection[str],
    others: Mapping[str, str],
    keyed: Mapping[str, str | None],
    models_may: str | None,
    may_rest: Collection[str],
    alone: str | None,
    place: Place,
) -> None:
    """Raises SpecError. `apart`: the functions and models; `others`: the kind of each further servable, which keeps state or is
    made of others; `keyed`: of those what can have shards, with what keeps it from them; `models_may`: why models that are not
    listed may not be placed, None where they may; `may_rest`: what need not be there while nobody calls; `alone`: a section
    because of which there can be only one ingress.
    """
    placed: dict[str, str] = {}
    for name, each in placement.items():
        where = f"placement.{name}"
        if name == INGRESS and each.serves:
            raise SpecError(f"{place(where)}.serves: the ingress serves what is placed nowhere else; leave it out")
        if name != INGRESS and not each.serves:
            raise SpecError(f"{place(where)}: needs 'serves', the functions and models that run there")
        _check_shards(name, each, keyed, place(where))
        for servable in each.serves:
            if servable in placed:
                raise SpecError(
                    f"{place(where)}.serves: {quoted(servable)} is placed in {quoted(placed[servable])} already"
                )
            if servable in others and each.shards is None:
                raise SpecError(
                    f"{place(where)}.serves: {quoted(servable)} is a {others[servable]}, which runs beside the doors"
                )
            if servable not in {*apart, *others, *keyed} and models_may is not None:
                told = nearest(servable, apart)
                raise SpecError(f"{place(where)}.serves: {quoted(servable)} cannot be placed: {models_may}{told}")
            placed[servable] = name
        _check_size(each, place(where))
        if each.rests_after_s is not None and (name == INGRESS or not set(each.serves) <= set(may_rest)):
            raise SpecError(f"{place(where)}.autoscaling.replicas_min: 0 is for a deployment of language models alone")
    _check_shard_names(placement, place)
    if alone is not None and INGRESS in placement and placement[INGRESS].replicas_max > 1:
        raise SpecError(f"{place('placement.ingress')}: several replicas cannot share the folders of '{alone}'")


def _check_shards(name: str, each: DeploymentSpec, keyed: Mapping[str, str | None], where: str) -> None:
    if each.shards is None:
        if each.on_lost != "fail":
            raise SpecError(f"{where}.on_lost: says what a lost shard means; there are no 'shards'")
        return
    if name == INGRESS:
        raise SpecError(
            f"{where}.shards: the ingress has replicas only; shards are of a deployment of feature views or collections"
        )
    for servable in each.serves:
        if servable not in keyed:
            raise SpecError(
                f"{where}.shards: {quoted(servable)} is no feature view or collection, and only those have shards"
            )
        if (problem := keyed[servable]) is not None:
            raise SpecError(f"{where}.serves: {quoted(servable)} cannot have shards: {problem}")


def _check_shard_names(placement: Mapping[str, DeploymentSpec], place: Place) -> None:
    for name, each in placement.items():
        for number in range(each.shards or 0):
            if (taken := shard_name(name, number, each.shards or 0)) in placement:
                raise SpecError(f"{place(f'placement.{taken}')}: a shard of {quoted(name)} is called so already")


def _check_size(each: DeploymentSpec, where: str) -> None:
    bounds: dict[str, tuple[float, float, float]] = {
        "replicas": (each.replicas, 1, REPLICAS_MAX),
        "cpus": (each.cpus, 0, 1024),
        "gpus": (each.gpus, 0, 64),
    }
    if each.shards is not None:
        bounds["shards"] = each.shards, 1, SHARDS_MAX
    scaling = each.autoscaling
    if scaling is not None:
        bounds["autoscaling.replicas_max"] = scaling.replicas_max, 1, REPLICAS_MAX
        bounds["autoscaling.replicas_min"] = scaling.replicas_min, 0, scaling.replicas_max
        bounds["autoscaling.calm_s"] = scaling.calm_s, 1, 86_400
        wanted = {
            "queue_wait_ms": (scaling.queue_wait_ms, 0.1, 1e6),
            "misses_max": (scaling.misses_max, 1e-6, 1),
            "calls_target": (scaling.calls_target, 0.1, 1e6),
        }
        if all(value is None for value, *_ in wanted.values()):
            raise SpecError(f"{where}.autoscaling: needs a bound, one of {', '.join(wanted)}, by which it scales")
        bounds |= {
            f"autoscaling.{key}": (value, low, high) for key, (value, low, high) in wanted.items() if value is not None
        }
    for key, (value, low, high) in bounds.items():
        if not low <= value <= high:
            raise SpecError(f"{where}.{key}: must be from {low:g} to {high:g}, got {value:g}")
