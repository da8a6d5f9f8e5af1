"""The pure policy: which versions, and what to do next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import ModelConfig, Spec, VersionSpec
from engine.control.lifecycle import State
from engine.control.repository import FoundModel, FoundVersion
from engine.control.rollout import (
    Action,
    Artifact,
    Fact,
    choose_versions,
    next_action,
    served_versions,
    wanted_artifacts,
)
from engine.spec import FunctionSpec, ModelSpec

NAMES = ("a", "b")


def _artifact(name: str, version: int, fingerprint: str = "f") -> Artifact:
    return Artifact(name, version, fingerprint, ModelSpec())


def _fact(artifact: Artifact, state: State, idle: bool = True) -> Fact:
    return Fact(artifact.key, artifact.name, state, idle)


@pytest.mark.parametrize(
    ("policy", "available", "chosen"),
    [
        (None, [1, 3, 2], [3]),
        (None, [], []),
        ("all", [3, 1], [1, 3]),
        (VersionSpec(latest=2), [1, 10, 9], [9, 10]),
        (VersionSpec(latest=5), [1, 2], [1, 2]),
        (VersionSpec(specific=(3, 1, 7)), [1, 2, 3], [1, 3]),
        (VersionSpec(specific=(9,)), [1, 2], []),
    ],
)
def test_versions_are_chosen_by_policy(
    policy: VersionSpec | str | None, available: list[int], chosen: list[int]
) -> None:
    assert choose_versions(policy, available) == chosen


@pytest.mark.parametrize(
    ("policy", "chosen"),
    [(None, [2]), ("all", [1, 2, 3]), (VersionSpec(latest=1), [3]), (VersionSpec(specific=(1, 3)), [1, 3])],
)
def test_version_that_was_derived_is_served_only_where_a_policy_is_written(
    policy: VersionSpec | Literal["all"] | None, chosen: list[int]
) -> None:
    versions = {each: FoundVersion(Path(f"/a/{each}"), "f", derived=each == 3) for each in (1, 2, 3)}
    model = FoundModel("a", versions)
    assert served_versions(Spec(models={"a": ModelSpec(versions=policy)}), model) == chosen
    alone = FoundModel("a", {3: versions[3]})
    assert served_versions(Spec(), alone) == [3]
    configured = FoundModel("a", versions, ModelConfig(versions=VersionSpec(latest=1)))
    assert served_versions(Spec(), configured) == [3]


def test_wanted_are_the_functions_and_the_chosen_versions_of_selected_models() -> None:
    found = {
        name: FoundModel(name, {each: FoundVersion(Path(f"/{name}/{each}"), f"fp{each}") for each in (1, 2)})
        for name in ("a", "b")
    }
    spec = Spec(models={"a": ModelSpec(versions="all")}, functions={"f": FunctionSpec("m:f", {}, {})}, folder=Path("/"))
    wanted = wanted_artifacts(spec, found, {"a", "gone"})
    assert [(each.name, each.version) for each in wanted] == [("f", 1), ("a", 1), ("a", 2)]
    assert wanted[1].source is found["a"].versions[1]


def test_what_would_load_differently_has_another_key() -> None:
    found = {"a": FoundModel("a", {1: FoundVersion(Path("/a/1"), "fp")})}
    (base,) = wanted_artifacts(Spec(), found, {"a"})
    touched = {"a": FoundModel("a", {1: FoundVersion(Path("/a/1"), "other")})}
    configured = {"a": FoundModel("a", found["a"].versions, None, "config")}
    threaded = Spec(models={"a": ModelSpec(threads=2)})
    others = [
        wanted_artifacts(Spec(), touched, {"a"})[0],
        wanted_artifacts(Spec(), configured, {"a"})[0],
        wanted_artifacts(threaded, found, {"a"})[0],
    ]
    assert len({base.key, *(each.key for each in others)}) == 4
    assert wanted_artifacts(Spec(), dict(found), ["a"])[0].key == base.key


def test_new_version_is_loaded_before_the_old_one_is_retired() -> None:
    old, new = _artifact("a", 1), _artifact("a", 2)
    facts = [_fact(old, State.READY)]
    assert next_action([new], facts) == Action("load", new.key)
    facts.append(_fact(new, State.READY))
    assert next_action([new], facts) == Action("retire", old.key)


def test_old_version_stays_where_every_new_one_failed() -> None:
    old, new = _artifact("a", 1), _artifact("a", 2)
    assert next_action([new], [_fact(old, State.READY), _fact(new, State.FAILED)]) is None


def test_another_models_readiness_does_not_help() -> None:
    old, new, other = _artifact("a", 1), _artifact("a", 2), _artifact("b", 1)
    facts = [_fact(old, State.READY), _fact(new, State.FAILED), _fact(other, State.READY)]
    assert next_action([new, other], facts) is None


def test_model_nobody_wants_is_retired_at_once() -> None:
    old = _artifact("a", 1)
    assert next_action([], [_fact(old, State.READY)]) == Action("retire", old.key)


def test_draining_version_is_unloaded_only_when_idle() -> None:
    old = _artifact("a", 1)
    assert next_action([], [_fact(old, State.DRAINING, idle=False)]) is None
    assert next_action([], [_fact(old, State.DRAINING)]) == Action("unload", old.key)


def test_failed_version_is_forgotten_once_unwanted_and_not_tried_again_while_wanted() -> None:
    broken = _artifact("a", 1)
    assert next_action([broken], [_fact(broken, State.FAILED)]) is None
    assert next_action([], [_fact(broken, State.FAILED)]) == Action("forget", broken.key)


@dataclass
class World:
    """The naive reconciler: does what it is told, one thing at a time. `broken` keys fail to load."""

    facts: dict[str, Fact]
    broken: frozenset[str]

    def do(self, action: Action, name: str) -> None:
        """Carries one action out."""
        if action.kind == "load":
            state = State.FAILED if action.key in self.broken else State.READY
            self.facts[action.key] = Fact(action.key, name, state)
        elif action.kind == "retire":
            assert self.facts[action.key].state is State.READY
            self.facts[action.key] = replace(self.facts[action.key], state=State.DRAINING)
        else:
            expected = State.DRAINING if action.kind == "unload" else State.FAILED
            assert self.facts.pop(action.key).state is expected

    def ready(self, name: str) -> set[str]:
        """Keys of the versions of `name` that serve."""
        return {key for key, each in self.facts.items() if each.name == name and each.state is State.READY}


artifacts = st.builds(_artifact, st.sampled_from(NAMES), st.integers(1, 3), st.sampled_from(["f", "g"]))
at_rest = st.sampled_from([State.READY, State.DRAINING, State.FAILED])


@given(
    st.lists(artifacts, unique_by=lambda each: each.key),
    st.lists(st.tuples(artifacts, at_rest), unique_by=lambda each: each[0].key),
    st.sets(artifacts.map(lambda each: each.key)),
)
def test_from_any_facts_repeated_steps_reach_the_wish_and_never_take_away_the_last_that_serves(
    wanted: list[Artifact], existing: list[tuple[Artifact, State]], broken: set[str]
) -> None:
    world = World({each.key: _fact(each, state) for each, state in existing}, frozenset(broken))
    names = {each.key: each.name for each in (*wanted, *(each for each, _ in existing))}
    wanted_keys = {each.key for each in wanted}
    for _ in range(3 * (len(wanted) + len(existing)) + 1):
        action = next_action(wanted, list(world.facts.values()))
        if action is None:
            break
        name = names[action.key]
        before = world.ready(name)
        world.do(action, name)
        if action.kind == "retire" and any(each.name == name for each in wanted):
            assert world.ready(name) & wanted_keys, "the last version that serves was taken away"
        if action.kind != "retire":
            assert world.ready(name) >= before
    else:
        pytest.fail("the steps never end")
    for name in NAMES:
        wish = {each.key for each in wanted if each.name == name}
        possible = {key for key in wish if key in world.facts and world.facts[key].state is State.READY}
        assert wish <= world.facts.keys()
        if possible or not wish:
            assert world.ready(name) == possible
            leftover = {key for key, each in world.facts.items() if each.name == name} - wish
            assert not leftover
