"""What to do next so that what is loaded becomes what is wanted. Pure: facts in, one action out.

The order preserves availability (as TensorFlow Serving's aspired versions do): a new version is loaded and warmed
beside the old one; the old one is retired only when a wanted one serves; where every wanted version failed, the old one
stays.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from engine.candidates.declaration import GatherSpec, SlateSpec
from engine.control.lifecycle import State
from engine.control.model_config import ModelConfig
from engine.control.repository import FoundModel, FoundVersion
from engine.encoders.declaration import EncoderSpec, RerankerSpec
from engine.errors import NotFound, SpecError, quoted
from engine.execution.declaration import placed
from engine.features.declaration import FeatureViewSpec
from engine.graph.edges import reached
from engine.placement import DeploymentSpec, deployment_of
from engine.spec import FunctionSpec, ModelSpec, Spec, VersionSpec
from engine.triton.declaration import TritonModelSpec
from engine.vectors.declaration import CollectionSpec, VectorSearchSpec

KIND_WORDS = {
    "functions": "function",
    "triton_models": "model on Triton",
    "searches": "search",
    "feature_views": "feature view",
    "collection_shards": "shard of a collection",
    "gathers": "gather",
    "slates": "slate",
    "encoders": "encoder",
    "rerankers": "reranker",
    "graphs": "graph",
    "traffic": "traffic split",
}
"""What each of a section of the spec is called."""
_DECLARED = tuple(KIND_WORDS)
"""Sections of the spec that say themselves what is served."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """One wanted version. Two artifacts with the same `key` are the same thing, already loaded or not.

    `source` is the model file, or None for what the spec itself declares.
    """

    name: str
    version: int
    fingerprint: str
    settings: (
        ModelSpec
        | FunctionSpec
        | FeatureViewSpec
        | VectorSearchSpec
        | GatherSpec
        | SlateSpec
        | EncoderSpec
        | RerankerSpec
        | TritonModelSpec
        | CollectionSpec
    )
    source: FoundVersion | None = None
    config: ModelConfig | None = None
    deployment: str | None = None
    """That serves it apart; None: beside the doors."""
    placed: DeploymentSpec | None = None
    """Of a deployment with shards, how it is declared."""

    @property
    def key(self) -> str:
        """Identity: name, version, and a fingerprint of everything that would load differently."""
        where = "" if self.deployment is None else f"@{self.deployment}"
        if self.placed is not None:
            where += f"/{self.placed.shards}/{self.placed.on_lost}"
        return f"{self.name}/{self.version}{where}/{self.fingerprint}"

    @property
    def origin(self) -> str:
        """Where it comes from, in words."""
        if self.source is not None:
            return str(self.source.path)
        match self.settings:
            case FeatureViewSpec() as view:
                found = f"feature view of log {view.source}"
            case VectorSearchSpec() as search:
                found = f"search of collection {search.collection}"
            case CollectionSpec():
                found = f"shard of collection {self.name}"
            case GatherSpec():
                found = "gather"
            case SlateSpec():
                found = "slate"
            case TritonModelSpec() as remote:
                found = f"Triton {', '.join(remote.servers)}"
            case EncoderSpec() | RerankerSpec() as encoder:
                found = encoder.model
            case FunctionSpec() as function:
                found = f"function {function.call}"
            case _:
                found = "model"
        return found


@dataclass(frozen=True, slots=True)
class Fact:
    """One version that exists in the engine now. `idle`: nobody uses it any more, or the drain bound has passed."""

    key: str
    name: str
    state: State
    idle: bool = True


@dataclass(frozen=True, slots=True)
class Action:
    """One step: load and warm an artifact, retire a ready version, unload a drained one, or forget a failed one."""

    kind: Literal["load", "retire", "unload", "forget"]
    key: str


def choose_versions(policy: VersionSpec | str | None, available: Collection[int]) -> list[int]:
    """The versions to serve, ascending. None means the newest alone; a specific version that is absent is left out."""
    ordered = sorted(available)
    if policy == "all":
        return ordered
    if isinstance(policy, VersionSpec) and policy.specific:
        return [each for each in ordered if each in policy.specific]
    latest = policy.latest if isinstance(policy, VersionSpec) else None
    return ordered[-(latest or 1) :]


def wanted_artifacts(spec: Spec, found: Mapping[str, FoundModel], selected: Collection[str]) -> list[Artifact]:
    """Every version that should serve: functions, models on Triton, of the `selected` models the versions their policy chooses,
    slates, encoders and rerankers, searches, feature views, late, because they may take long to catch up with their logs, and
    gathers, which take of both."""
    functions = [
        Artifact(name, 1, f"{each!r}", each, deployment=deployment_of(spec.placement, name))
        for name, each in spec.functions.items()
    ]
    remote = [Artifact(name, 1, f"{each!r}|{spec.folder}", each) for name, each in spec.triton_models.items()]
    declared = declared_names(spec)
    names = sorted(name for name in selected if name in found and name not in declared)
    models = [artifact for name in names for artifact in _of_model(spec, found[name])]
    views = [
        Artifact(name, 1, _view_mark(spec, name), each, deployment=place, placed=spec.placement.get(place or ""))
        for name, each in spec.feature_views.items()
        for place in [deployment_of(spec.placement, name)]
    ]
    slates = [Artifact(name, 1, f"{each!r}", each) for name, each in spec.slates.items()]
    shards = [Artifact(name, 1, f"{each!r}", each) for name, each in spec.collection_shards.items()]
    late = [*_encoders(spec), *_searches(spec), *views, *shards, *_gathers(spec)]
    return functions + remote + models + slates + late


def _encoders(spec: Spec) -> Iterator[Artifact]:
    """With the paths of their files."""
    declared: tuple[tuple[str, EncoderSpec | RerankerSpec], ...] = (*spec.encoders.items(), *spec.rerankers.items())
    for name, each in declared:
        model, tokenizer = (str(spec.path(path)) for path in (each.model, each.tokenizer))
        providers = placed(each.providers, spec.path)
        settings = replace(each, model=model, tokenizer=tokenizer, providers=providers)
        yield Artifact(name, each.version, f"{settings!r}", settings)


def _view_mark(spec: Spec, name: str) -> str:
    view = spec.feature_views[name]
    return f"{view!r}|{spec.logs.get(view.source)!r}|{spec.folder}"


def _collection_mark(spec: Spec, name: str) -> str:
    store = spec.vectors
    assert store is not None, "checked with the spec"
    return f"{store.path}|{store.collections.get(name)!r}|{spec.folder}"


def _gathers(spec: Spec) -> Iterator[Artifact]:
    """Loaded anew with what they take from."""
    for name, each in spec.gathers.items():
        marks = [_view_mark(spec, source.view) for source in each.sources if source.view is not None]
        marks += [_collection_mark(spec, source.collection) for source in each.sources if source.collection is not None]
        yield Artifact(name, 1, "|".join((f"{each!r}", *marks)), each)


def _searches(spec: Spec) -> Iterator[Artifact]:
    for name, each in spec.searches.items():
        yield Artifact(name, 1, f"{each!r}|{_collection_mark(spec, each.collection)}", each)


def declared_names(spec: Spec) -> set[str]:
    """What the spec itself declares to be served, without a repository."""
    return {name for kind in _DECLARED for name in getattr(spec, kind)}


def declared_kind(spec: Spec, name: str) -> str:
    """The section of the spec that declares `name`."""
    return next(kind for kind in _DECLARED if name in getattr(spec, kind))


def selected_at_start(spec: Spec, found: Mapping[str, FoundModel]) -> set[str]:
    """The models of a repository to load first. Raises SpecError where one has a name of the spec, NotFound where one to load is
    not there."""
    twice = sorted(declared_names(spec) & found.keys())
    if twice:
        raise SpecError(f"{declared_kind(spec, twice[0])}.{twice[0]}: the repository has a model of that name")
    repository = spec.repository
    if repository is None:
        return set()
    if repository.control != "explicit" or "*" in repository.load:
        return set(found)
    absent = sorted(set(repository.load) - found.keys())
    if absent:
        raise NotFound(f"repository.load: model {quoted(absent[0])} is not in the repository")
    return with_steps(repository.load, found)


def with_steps(names: Iterable[str], found: Mapping[str, FoundModel]) -> set[str]:
    """`names`, and the models of the repository that ensembles among them call, directly or through others."""
    calls = {
        name: [] if model.graph is None else sorted({each.call for each in model.graph.nodes.values()} & found.keys())
        for name, model in found.items()
    }
    return reached(calls, list(names))


def served_versions(spec: Spec, model: FoundModel) -> list[int]:
    """Those of a model of the repository that its policy chooses, ascending. Where none is written, those that `vireo optimize`
    made are left out, as nobody wished for them; unless there are no others."""
    settings = spec.models.get(model.name, ModelSpec())
    policy = settings.versions or (model.config.versions if model.config else None)
    originals = [number for number, each in model.versions.items() if policy is not None or not each.derived]
    return choose_versions(policy, originals or model.versions.keys())


def _of_model(spec: Spec, model: FoundModel) -> list[Artifact]:
    settings = spec.model(model.name)
    return [
        Artifact(
            model.name,
            version,
            f"{model.versions[version].fingerprint}|{model.config_fingerprint}|{settings!r}",
            settings,
            model.versions[version],
            model.config,
            deployment_of(spec.placement, model.name),
        )
        for version in served_versions(spec, model)
    ]


def next_action(wanted: Sequence[Artifact], facts: Sequence[Fact]) -> Action | None:
    """The next step, or None where everything is as wanted (or waits for users to leave)."""
    for fact in facts:
        if fact.state is State.DRAINING and fact.idle:
            return Action("unload", fact.key)
    known = {fact.key: fact.state for fact in facts}
    for artifact in wanted:
        if artifact.key not in known:
            return Action("load", artifact.key)
    wanted_keys = {artifact.key for artifact in wanted}
    for fact in facts:
        if fact.key in wanted_keys:
            continue
        if fact.state is State.FAILED:
            return Action("forget", fact.key)
        if fact.state is State.READY and _may_retire(fact.name, wanted, known):
            return Action("retire", fact.key)
    return None


def _may_retire(name: str, wanted: Iterable[Artifact], known: Mapping[str, State]) -> bool:
    states = [known[artifact.key] for artifact in wanted if artifact.name == name]
    return not states or State.READY in states
