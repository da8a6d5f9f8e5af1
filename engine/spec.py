"""The application spec: what should be served, and how. Frozen values, read from strict YAML and checked for sense."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from engine.candidates.declaration import GatherSpec, SlateSpec
from engine.candidates.gather_relations import Sources, check_gathers
from engine.candidates.slate_relations import check_slates
from engine.declaration import TensorDeclaration, call_problem
from engine.documents.declaration import DocumentsSpec
from engine.documents.relations import check_documents
from engine.encoders.declaration import EncoderSpec, RerankerSpec
from engine.encoders.relations import check_encoders, with_encodings
from engine.errors import SpecError, nearest, quoted
from engine.execution.declaration import CPU, ParitySpec, Providers, placed, provider_problems
from engine.features.declaration import FeatureViewSpec
from engine.features.relations import check_compiled, check_logs, check_views, sharding_problem
from engine.generation.declaration import LanguageModelSpec
from engine.generation.relations import check_language_models
from engine.graph.declaration import GraphSpec, TrafficSpec
from engine.graph.known import Known
from engine.graph.relations import Surroundings, check_graphs
from engine.limits import (
    BATCH_BYTES_MAX,
    BATCH_CLASS_SHARE,
    BATCH_ROWS_MAX,
    DRAIN_S_DEFAULT,
    INLINE_COMPUTE_US_MAX,
    MESSAGE_BYTES_MAX,
    QUEUE_BYTES_MAX,
    QUEUE_REQUESTS_MAX,
)
from engine.log.declaration import LogSpec, ShardSpec
from engine.placement import DeploymentSpec, check_placement, fingerprint_of
from engine.reach import check_answers
from engine.strict_yaml import Place, plain_of, read_plain, read_strict
from engine.tensor import DATATYPES
from engine.triton.declaration import TritonModelSpec, check_triton_models
from engine.vectors.declaration import CollectionSpec, VectorSearchSpec, VectorStoreSpec
from engine.vectors.relations import check_in_shards, check_vector_store, collection_sharding_problem
from engine.vectors.search_tensors import check_searches


@dataclass(frozen=True, slots=True)
class TlsSpec:
    """PEM files. With `client_ca`, clients must present a certificate it signed (mutual TLS)."""

    certificate: str
    key: str
    client_ca: str | None = None


@dataclass(frozen=True, slots=True)
class AuthSpec:
    """Bearer tokens, one a line of a file or comma-separated in an environment variable."""

    tokens_file: str | None = None
    tokens_env: str | None = None


@dataclass(frozen=True, slots=True)
class TracingSpec:
    """OpenTelemetry spans, sent by OTLP over HTTP: of requests whose traceparent says sampled, and of `sample` (0 to 1) of
    those that come without one. `endpoint` is the collector's URL, null for what the variables OTEL_EXPORTER_OTLP_* say.
    `service` is the name spans are found by, null for the server's.
    """

    endpoint: str | None = None
    sample: float = 0.01
    service: str | None = None


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """Where and how clients connect. Port 0 takes a free port; a null port turns that front off.

    `transport`: `native` serves gRPC, HTTP/2 and HTTP/1.1 on each port, and on `unix_socket`; `grpcio` serves gRPC on one
    port and on `unix_socket`, and HTTP/1.1 on the other port; `auto` is native where it is installed. `flight_port` is
    Arrow Flight's. `share_ports`: other processes of this machine may listen on the same ports, and each gets some of the
    connections.
    """

    name: str = "vireo"
    host: str = "127.0.0.1"
    grpc_port: int | None = 8001
    http_port: int | None = 8000
    flight_port: int | None = None
    unix_socket: str | None = None
    transport: Literal["auto", "native", "grpcio"] = "auto"
    message_bytes_max: int = MESSAGE_BYTES_MAX
    drain_s: float = DRAIN_S_DEFAULT
    auth: AuthSpec | None = None
    tls: TlsSpec | None = None
    tracing: TracingSpec | None = None
    allow_remote_without_auth: bool = False
    share_ports: bool = False


@dataclass(frozen=True, slots=True)
class RepositorySpec:
    """A folder of models. `control`: what may change while serving.

    `none`: what is there at the start; `explicit`: clients load and unload; `poll`: the folder is read again every
    `poll_s`. `load` names the models to load at the start under `explicit`; "*" is all.
    """

    path: str
    control: Literal["none", "explicit", "poll"] = "none"
    poll_s: float = 5.0
    load: tuple[str, ...] = ("*",)


@dataclass(frozen=True, slots=True)
class VersionSpec:
    """Which of the versions found are served: the newest `latest`, or the `specific` ones; `all` as a plain word."""

    latest: int | None = None
    specific: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class BatchingSpec:
    """Requests that wait while a worker is busy run together, up to these bounds."""

    enabled: bool = True
    rows_max: int = BATCH_ROWS_MAX
    bytes_max: int = BATCH_BYTES_MAX


@dataclass(frozen=True, slots=True)
class QueueSpec:
    """How much may wait for one model version; more is refused with RESOURCE_EXHAUSTED. `batch_share`: of the rows computed
    while both priority classes wait, at least this share (0 to 1) is of the batch class.
    """

    requests_max: int = QUEUE_REQUESTS_MAX
    bytes_max: int = QUEUE_BYTES_MAX
    batch_share: float = BATCH_CLASS_SHARE


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """How one model of the repository is served; a model that is not listed takes these defaults.

    `timeout_ms` is the deadline of a request that brings none. `inline_us_max`: batches expected to be shorter run on
    the transport's own thread; null is 1,000, and 5,000 in a process that has one core.
    """

    versions: VersionSpec | Literal["all"] | None = None
    batching: BatchingSpec = field(default_factory=BatchingSpec)
    queue: QueueSpec = field(default_factory=QueueSpec)
    instances: int | None = None
    threads: int = 1
    providers: Providers = CPU
    parity: ParitySpec | None = field(default_factory=ParitySpec)
    timeout_ms: float | None = None
    inline_us_max: int | None = None


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """A Python function served as a model, version 1. `call` is "package.module:name".

    With `batchable`, dimension 0 of every tensor counts independent rows.
    """

    call: str
    inputs: Mapping[str, TensorDeclaration]
    outputs: Mapping[str, TensorDeclaration]
    batchable: bool = False
    batching: BatchingSpec = field(default_factory=BatchingSpec)
    queue: QueueSpec = field(default_factory=QueueSpec)
    instances: int = 1
    timeout_ms: float | None = None
    inline_us_max: int = INLINE_COMPUTE_US_MAX


@dataclass(frozen=True, slots=True)
class Spec:
    """Everything one application serves. `folder` is where relative paths start."""

    server: ServerSpec = field(default_factory=ServerSpec)
    repository: RepositorySpec | None = None
    models: Mapping[str, ModelSpec] = field(default_factory=dict)
    triton_models: Mapping[str, TritonModelSpec] = field(default_factory=dict)
    functions: Mapping[str, FunctionSpec] = field(default_factory=dict)
    logs: Mapping[str, LogSpec] = field(default_factory=dict)
    feature_views: Mapping[str, FeatureViewSpec] = field(default_factory=dict)
    graphs: Mapping[str, GraphSpec] = field(default_factory=dict)
    traffic: Mapping[str, TrafficSpec] = field(default_factory=dict)
    vectors: VectorStoreSpec | None = None
    searches: Mapping[str, VectorSearchSpec] = field(default_factory=dict)
    gathers: Mapping[str, GatherSpec] = field(default_factory=dict)
    slates: Mapping[str, SlateSpec] = field(default_factory=dict)
    language_models: Mapping[str, LanguageModelSpec] = field(default_factory=dict)
    encoders: Mapping[str, EncoderSpec] = field(default_factory=dict)
    rerankers: Mapping[str, RerankerSpec] = field(default_factory=dict)
    documents: Mapping[str, DocumentsSpec] = field(default_factory=dict)
    placement: Mapping[str, DeploymentSpec] = field(default_factory=dict)
    folder: Path = field(default_factory=Path)

    def path(self, relative: str) -> Path:
        """`relative` to the folder of the spec file."""
        return self.folder / Path(relative).expanduser()

    def declared(self, name: str) -> str:
        """See `fingerprint_of`: of a function, a feature view, a language model, or a collection of which one shard is here, else
        of a model."""
        language = {each: declared.apart for each, declared in self.language_models.items()}
        known: tuple[Mapping[str, object], ...] = (self.functions, self.feature_views, language, self.collection_shards)
        return fingerprint_of(next((each[name] for each in known if name in each), None) or self.model(name))

    @property
    def collection_shards(self) -> Mapping[str, CollectionSpec]:
        """Collections of which this process has one shard."""
        return {} if self.vectors is None or self.vectors.shard is None else self.vectors.collections

    def model(self, name: str) -> ModelSpec:
        """How a model of the repository is loaded: as declared, else by default; with the paths of its files."""
        found = self.models.get(name, ModelSpec())
        return dataclasses.replace(found, providers=placed(found.providers, self.path))

    def part(self, deployment: str, shard: ShardSpec | None = None) -> Spec:
        """What a replica of `deployment`, or of a shard of it, serves: its functions and models of either kind, or its feature
        views and collections with their part of the logs; with no door of its own."""
        names = self.placement[deployment].serves
        if shard is not None:
            return self._shard(names, shard)
        functions = {name: each for name, each in self.functions.items() if name in names}
        language = {name: each.apart for name, each in self.language_models.items() if name in names}
        models = tuple(name for name in names if name not in functions and name not in language)
        repository = None if self.repository is None or not models else dataclasses.replace(
            self.repository, control="explicit", load=models
        )  # fmt: skip
        listed = {name: each for name, each in self.models.items() if name in models}
        return Spec(
            self._without_doors(), repository, listed, functions=functions, language_models=language, folder=self.folder
        )

    def _shard(self, names: Collection[str], shard: ShardSpec) -> Spec:
        views = {name: each for name, each in self.feature_views.items() if name in names}
        logs = {name: self.logs[name].sharded(shard) for name in dict.fromkeys(each.source for each in views.values())}
        vectors, store = None, self.vectors
        collections = {name: each for name, each in (store.collections if store else {}).items() if name in names}
        if store is not None and collections:
            path = f"{store.path}/{shard.number}-of-{shard.of}"
            vectors = VectorStoreSpec(path, collections, fixed=True, shard=shard)
        return Spec(self._without_doors(), logs=logs, feature_views=views, vectors=vectors, folder=self.folder)

    def _without_doors(self) -> ServerSpec:
        return dataclasses.replace(
            self.server, grpc_port=None, http_port=None, flight_port=None, unix_socket=None, tracing=None
        )


def load_spec(path: Path) -> Spec:
    """The spec in a YAML file, or, for a folder, one that serves it as a model repository with every default."""
    if path.is_dir():
        return Spec(repository=RepositorySpec(str(path.resolve())))
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read: {error}") from error
    return parse_spec(text, folder=path.parent.resolve(), source=path.name)


def parse_spec(text: str, *, folder: Path, source: str = "spec") -> Spec:
    """The spec in YAML `text`. Raises SpecError with `source`, the line and the key."""
    spec, place = read_strict(text, Spec, source)
    _check(spec, place)
    vectors = with_encodings(spec.vectors, spec.encoders, place)
    return dataclasses.replace(spec, folder=folder, vectors=vectors)


def spec_as_plain(spec: Spec) -> dict[str, Any]:
    """`spec` as JSON has it, without its folder: `spec_of_plain` reads it back."""
    found: dict[str, Any] = plain_of(spec)
    return found


def spec_of_plain(plain: Mapping[str, Any], *, folder: Path, source: str = "spec") -> Spec:
    """The spec that JSON says. Raises SpecError with `source` and the key."""
    spec = read_plain(plain, Spec, source)
    _check(spec, lambda where: f"{source}.{where}")
    return dataclasses.replace(spec, folder=folder)


def _check(spec: Spec, place: Place) -> None:
    """Bounds and relations that types cannot say."""
    server, repository = spec.server, spec.repository
    for name in ("grpc_port", "http_port", "flight_port"):
        _in_range(place, f"server.{name}", getattr(server, name), 0, 65535)
    _in_range(place, "server.message_bytes_max", server.message_bytes_max, 1024, (1 << 31) - 1)
    _in_range(place, "server.drain_s", server.drain_s, 0, 3600)
    if server.tracing is not None:
        _check_tracing(place, server.tracing)
    if repository is not None:
        _in_range(place, "repository.poll_s", repository.poll_s, 0.05, 86400)
    for name, model in spec.models.items():
        _check_scheduling(place, f"models.{name}", model)
        _in_range(place, f"models.{name}.threads", model.threads, 1, 1024)
        _check_versions(place, f"models.{name}.versions", model.versions)
        for key, problem in provider_problems(model.providers, model.parity):
            raise SpecError(f"{place(f'models.{name}.{key}')}: {problem}")
    for name, function in spec.functions.items():
        _check_scheduling(place, f"functions.{name}", function)
        _check_function(place, f"functions.{name}", function)
    check_triton_models(spec.triton_models, place)
    check_logs(spec.logs, place)
    check_views(spec.feature_views, spec.logs, spec.functions, place)
    looked_up = check_compiled(spec.feature_views, spec.logs, place)
    if spec.models and repository is None:
        raise SpecError(f"{place('models')}: needs a repository; add 'repository: {{path: ...}}'")
    known = {
        name: Known("function", each.inputs, each.outputs, each.batchable) for name, each in spec.functions.items()
    }
    known |= {name: Known("feature view", *tensors, rows=True) for name, tensors in looked_up.items()}
    found = check_searches(spec.searches, spec.vectors, known, place)
    known |= {name: Known("search", *tensors, rows=True) for name, tensors in found.items()}
    collections = spec.vectors.collections if spec.vectors else {}
    sources = Sources(spec.vectors is not None, collections, spec.feature_views, looked_up)
    found = check_gathers(spec.gathers, sources, known, place)
    known |= {name: Known("gather", *tensors, rows=True) for name, tensors in found.items()}
    found = check_slates(spec.slates, known, place)
    known |= {name: Known("slate", *tensors) for name, tensors in found.items()}
    encoders, rerankers = check_encoders(spec.encoders, spec.rerankers, known, place)
    known |= {name: Known("encoder", *tensors, rows=True) for name, tensors in encoders.items()}
    known |= {name: Known("reranker", *tensors, rows=True) for name, tensors in rerankers.items()}
    models = None if repository is None and not spec.triton_models else {**spec.models, **spec.triton_models}
    graphs = check_graphs(spec.graphs, spec.traffic, Surroundings(known, spec.logs, models), place)
    loaded = dict.fromkeys((*spec.graphs, *spec.traffic, *spec.models, *spec.triton_models))
    check_language_models(spec.language_models, {**loaded, **known, **graphs}, place)
    check_answers(spec, place)
    _check_places(spec, place)
    taken = {f"logs.{name}.local.path": log.local.path for name, log in spec.logs.items() if log.local}
    if repository is not None:
        taken["repository.path"] = repository.path
    check_vector_store(spec.vectors, taken, place)
    check_documents(spec.documents, spec.vectors, spec.encoders, place)


def _check_places(spec: Spec, place: Place) -> None:
    kinds = {
        "feature view": spec.feature_views, "search": spec.searches, "gather": spec.gathers, "slate": spec.slates,
        "graph": spec.graphs, "traffic split": spec.traffic, "model on Triton": spec.triton_models,
        "encoder": spec.encoders, "reranker": spec.rerankers,
        "language model made of others": {name: each for name, each in spec.language_models.items() if not each.computes},
    }  # fmt: skip
    language = {name for name, each in spec.language_models.items() if each.computes}
    others = {name: kind for kind, declared in kinds.items() for name in declared}
    collections = spec.vectors.collections if spec.vectors else {}
    models_may = None
    if spec.repository is None:
        models_may = "there is no such function, and no repository"
    elif spec.repository.control != "none":
        models_may = f"models of a repository with control '{spec.repository.control}' run beside the doors"
    gathered = {source.view for each in spec.gathers.values() for source in each.sources}
    sources = {source.collection or "" for each in spec.gathers.values() for source in each.sources}
    vectors_apart = check_in_shards(
        spec.vectors, {name for each in spec.placement.values() for name in each.serves}, place
    )
    keeps = {
        "logs": any(each.local for each in spec.logs.values()),
        "vectors": spec.vectors is not None and not vectors_apart,
    }
    views: dict[str, str | None] = {
        name: sharding_problem(each, spec.logs[each.source], gathered=name in gathered)
        for name, each in spec.feature_views.items()
    }
    check_placement(
        spec.placement,
        apart={*spec.functions, *language, *(() if models_may else spec.models)},
        others=others,
        keyed=views
        | {
            name: collection_sharding_problem(
                name, each, taken={*others, *language, *spec.functions, *spec.models}, gathered=sources
            )
            for name, each in collections.items()
        },
        models_may=models_may,
        may_rest=language,
        alone=next((section for section, there in keeps.items() if there), None),
        place=place,
    )


def _check_tracing(place: Place, tracing: TracingSpec) -> None:
    _in_range(place, "server.tracing.sample", tracing.sample, 0, 1)
    endpoint = tracing.endpoint
    if endpoint is not None and not endpoint.startswith(("http://", "https://")):
        where = place("server.tracing.endpoint")
        raise SpecError(f"{where}: expected an http:// or https:// URL, got {quoted(endpoint)}")


def _check_scheduling(place: Place, where: str, spec: ModelSpec | FunctionSpec) -> None:
    _in_range(place, f"{where}.batching.rows_max", spec.batching.rows_max, 1, 1 << 20)
    _in_range(place, f"{where}.batching.bytes_max", spec.batching.bytes_max, 1, 1 << 40)
    _in_range(place, f"{where}.queue.requests_max", spec.queue.requests_max, 1, 1 << 24)
    _in_range(place, f"{where}.queue.bytes_max", spec.queue.bytes_max, 1, 1 << 40)
    _in_range(place, f"{where}.queue.batch_share", spec.queue.batch_share, 0, 1)
    _in_range(place, f"{where}.instances", spec.instances, 1, 256)
    _in_range(place, f"{where}.timeout_ms", spec.timeout_ms, 0.001, 86_400_000)
    _in_range(place, f"{where}.inline_us_max", spec.inline_us_max, 0, 10_000_000)


def _check_versions(place: Place, where: str, versions: VersionSpec | str | None) -> None:
    if isinstance(versions, VersionSpec):
        if (versions.latest is None) == (not versions.specific):
            raise SpecError(f"{place(where)}: give either 'latest' or 'specific'")
        _in_range(place, f"{where}.latest", versions.latest, 1, 1 << 20)


def _check_function(place: Place, where: str, function: FunctionSpec) -> None:
    if (problem := call_problem(function.call)) is not None:
        raise SpecError(f"{place(f'{where}.call')}: {problem}")
    for side, tensors in (("inputs", function.inputs), ("outputs", function.outputs)):
        for tensor, declared in tensors.items():
            datatype, shape = (place(f"{where}.{side}.{tensor}.{key}") for key in ("datatype", "shape"))
            if declared.datatype not in DATATYPES:
                known = nearest(declared.datatype, DATATYPES)
                raise SpecError(f"{datatype}: unknown datatype {quoted(declared.datatype)}{known}")
            if any(size < -1 for size in declared.shape):
                raise SpecError(f"{shape}: sizes are -1 or more, got {list(declared.shape)}")
            if function.batchable and declared.shape[:1] != (-1,):
                raise SpecError(f"{shape}: a batchable function's tensors begin with -1, got {list(declared.shape)}")


def _in_range(place: Place, where: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise SpecError(f"{place(where)}: must be from {low} to {high}, got {value}")
