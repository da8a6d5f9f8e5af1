"""The composition root: the one file that knows every part, and the surface everything outside calls.

Data: `submit` finds the model, checks the request, and lets it wait; `flush` computes what waits, on this thread where
that is short. Control: `apply`, `load` and `unload` change what is wanted and wait until it is so.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

from engine.clock import NEVER_NS, Clock, monotonic
from engine.control.model_config import ConfigReader, ModelConfig, check_config
from engine.control.reconciler import IndexEntry, Reconciler
from engine.control.registry import Handle, Registry
from engine.control.repository import Repository
from engine.control.rollout import Artifact
from engine.declaration import TensorDeclaration
from engine.description import ModelDescription
from engine.errors import (
    FailedPrecondition,
    InvalidArgument,
    ModelFailed,
    ModelLoadError,
    Unavailable,
    VireoError,
    quoted,
)
from engine.features.declaration import FeatureViewSpec
from engine.features.store import FeatureStore
from engine.limits import LOOKUP_BATCH_ROWS_MAX, WARMUP_BYTES_MAX
from engine.request import Ledger, Request, Response
from engine.scheduling.batcher import BatchBounds
from engine.scheduling.job import Job
from engine.scheduling.queue import QueueBounds
from engine.scheduling.worker import Worker, WorkerOptions
from engine.servables.function import load_function
from engine.servables.onnx import OnnxOptions, load_onnx
from engine.servables.probe import sample_inputs
from engine.servables.servable import Servable
from engine.servables.signature import ANY, Signature, TensorSpec
from engine.spec import FunctionSpec, ModelSpec, Spec
from engine.telemetry import ModelStatistics
from engine.tensor import DATATYPES

Done = Callable[[Job], None]
Part = Callable[[Response], None]


@dataclass(slots=True)
class Hosted:
    """A loaded version with everything that runs it."""

    artifact: Artifact
    servable: Servable
    options: WorkerOptions
    statistics: ModelStatistics
    worker: Worker
    timeout_ns: int | None
    notes: tuple[str, ...] = ()


class ModelHost:
    """Makes a running model of an artifact."""

    def __init__(self, clock: Clock, features: FeatureStore) -> None:
        self._clock = clock
        self._features = features

    def load(self, artifact: Artifact) -> Hosted:
        """See `reconciler.Host`."""
        settings = artifact.settings
        servable = _load_servable(artifact, self._features)
        options = _worker_options(artifact, servable.signature)
        statistics = ModelStatistics()
        worker = Worker(artifact.name, artifact.version, servable, options, self._clock, statistics)
        timeout_ns = None if settings.timeout_ms is None else int(settings.timeout_ms * 1e6)
        return Hosted(artifact, servable, options, statistics, worker, timeout_ns)

    def warm(self, hosted: Hosted) -> None:
        """Runs every batch bucket (1, 2, 4, ... rows) on made-up inputs.

        A servable that refuses made-up values, or whose shapes had to be guessed, is served all the same and the fact
        noted; any other failure means that it cannot compute.
        """
        self._warm_up(hosted)
        self._features.warmed(hosted.artifact.name)

    def _warm_up(self, hosted: Hosted) -> None:
        if (problem := self._features.problem(hosted.artifact.name)) is not None:
            hosted.notes = (f"not warmed up: {problem}",)
            return
        for rows in warmup_rows(hosted.worker.batchable, hosted.options.batch.rows_max):
            inputs = sample_inputs(hosted.servable.signature, rows)
            if sum(each.bytes_size for each in inputs.values()) > WARMUP_BYTES_MAX:
                return
            try:
                hosted.worker.warm_up(inputs, rows)
            except Exception as error:
                refused = isinstance(error, InvalidArgument) and not isinstance(error, ModelFailed)
                if not refused and not _guessed(hosted.servable.signature):
                    raise ModelLoadError(f"warm-up with {rows} row(s) of zeros failed: {error}") from error
                hosted.notes = (f"not warmed up: made-up inputs of {rows} row(s) fail: {error}",)
                return

    def close(self, hosted: Hosted) -> None:
        """See `reconciler.Host`."""
        hosted.worker.close()
        hosted.servable.close()


def usable_cores() -> int:
    """Cores this process may run on: so many batches of a model in this process run at once unless told otherwise."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def warmup_rows(batchable: bool, rows_max: int) -> list[int]:
    """The batch buckets: powers of two up to `rows_max`, and `rows_max` itself."""
    if not batchable:
        return [1]
    return [1 << power for power in range(rows_max.bit_length()) if 1 << power < rows_max] + [rows_max]


def _guessed(signature: Signature) -> bool:
    start = 1 if signature.batchable else 0
    return any(ANY in each.shape[start:] for each in signature.inputs)


def _load_servable(artifact: Artifact, features: FeatureStore) -> Servable:
    settings = artifact.settings
    if isinstance(settings, FeatureViewSpec):
        from engine.servables.feature_lookup import load_feature_lookup

        return load_feature_lookup(features, artifact.name, settings)
    if isinstance(settings, FunctionSpec):
        return load_function(artifact.name, settings.call, _declared(settings))
    source, config = artifact.source, artifact.config
    assert source is not None
    if source.problem:
        raise ModelLoadError(source.problem)
    rows_max = config.rows_max if config else None
    servable = load_onnx(source.path, OnnxOptions(settings.threads, settings.providers, rows_max))
    if config is not None:
        check_config(config, servable.signature)
    return servable


def _declared(function: FunctionSpec) -> Signature:
    def spec(name: str, each: TensorDeclaration) -> TensorSpec:
        return TensorSpec(name, DATATYPES[each.datatype], each.shape, each.optional)

    return Signature(
        tuple(spec(name, each) for name, each in function.inputs.items()),
        tuple(spec(name, each) for name, each in function.outputs.items()),
        function.batchable,
    )


def _told(settings: ModelSpec | FunctionSpec | FeatureViewSpec) -> str:
    if isinstance(settings, FeatureViewSpec):
        return f"feature view of log {settings.source}"
    return f"function {settings.call}" if isinstance(settings, FunctionSpec) else "model"


def _worker_options(artifact: Artifact, signature: Signature) -> WorkerOptions:
    settings, config = artifact.settings, artifact.config
    if isinstance(settings, FeatureViewSpec):
        return WorkerOptions(BatchBounds(LOOKUP_BATCH_ROWS_MAX), instances=usable_cores())
    rows_max = min(settings.batching.rows_max, signature.rows_max or settings.batching.rows_max)
    return WorkerOptions(
        BatchBounds(rows_max, settings.batching.bytes_max),
        QueueBounds(settings.queue.requests_max, settings.queue.bytes_max),
        settings.instances or (config.instances if config else None) or usable_cores(),
        settings.batching.enabled,
        settings.inline_us_max,
    )


class Engine:
    """Serves what a spec says. Methods may be called from any thread, except `start` and `close`: once, by the owner."""

    def __init__(self, spec: Spec, *, clock: Clock = monotonic, read_config: ConfigReader | None = None) -> None:
        self.clock = clock
        self._spec = spec
        self._read_config = read_config
        self._registry: Registry[Hosted] = Registry()
        self.features = FeatureStore(clock=clock)
        """The logs and feature views of the spec."""
        self._reconciler: Reconciler[Hosted] = Reconciler(ModelHost(clock, self.features), self._registry, clock)
        self._repository: Repository | None = None
        self._ripe: list[Worker] = []
        self._accepting = False

    # Life.

    def start(self) -> None:
        """Loads and warms everything the spec wants; models that fail are in `problems`. Raises SpecError, NotFound."""
        self._reconciler.start()
        self.apply(self._spec)
        self._accepting = True

    def apply(self, spec: Spec) -> None:
        """Makes what is served what `spec` says, without failing a request; returns when that is so or has failed."""
        repository = Repository(spec.path(spec.repository.path), self._read_config) if spec.repository else None
        self.features.apply(spec)
        self._reconciler.apply(spec, repository)
        self._spec, self._repository = spec, repository

    def stop_accepting(self) -> None:
        """Refuses new requests as unavailable from now on; what was admitted is still computed."""
        self._accepting = False

    def close(self, drain_s: float | None = None) -> bool:
        """Refuses new requests, lets those in flight finish for up to `drain_s` (the spec's by default), unloads all.

        False where a model is still being loaded, by a daemon thread that nothing can stop.
        """
        self.stop_accepting()
        self.features.stop_waiting()
        ended = self._reconciler.stop(self._spec.server.drain_s if drain_s is None else drain_s)
        self.features.close()
        return ended

    # Requests.

    def submit(self, request: Request, done: Done, part: Part | None = None, *, at_once: bool = False) -> Job:
        """Lets a request wait for its model; `done` is called once, on the thread that ends it.

        Nothing is computed, and `done` not called, before `flush`; unless `at_once`, for a request behind which no
        other follows: then what `flush` would do is done for it here. Raises what the request is refused with:
        NotFound, InvalidArgument, Unavailable, ResourceExhausted, DeadlineExceeded.
        """
        received_ns = self.clock()
        if not self._accepting:
            raise Unavailable("the server is shutting down or not yet ready")
        handle = self._registry.acquire(request.model, request.version)
        worker = handle.hosted.worker
        try:
            job = self._job(handle, request, received_ns, done, part)
            if at_once and worker.run_at_once(job):
                return job
            worker.submit(job)
        except BaseException:
            handle.release()
            raise
        if at_once:
            worker.flush()
        elif self._ripe[-1:] != [worker]:  # a slice, because another thread may take the last one meanwhile
            self._ripe.append(worker)
        return job

    def _job(self, handle: Handle[Hosted], request: Request, received_ns: int, done: Done, part: Part | None) -> Job:
        hosted = handle.hosted
        job = Job(request, hosted.servable.signature.rows_of(request), Ledger(received_ns), done, part)
        job.release = handle.release
        if hosted.timeout_ns is not None and job.deadline_ns == NEVER_NS:
            job.deadline_ns = received_ns + hosted.timeout_ns
        return job

    def flush(self) -> None:
        """Computes what waits: short batches here and now, the rest on the workers' threads."""
        while self._ripe:
            try:
                worker = self._ripe.pop()
            except IndexError:  # another thread took the last one
                return
            worker.flush()

    def infer(self, request: Request) -> Response:
        """One request, waited for. Raises what it fails with."""
        ended = threading.Event()
        job = self.submit(request, lambda _: ended.set())
        self.flush()
        ended.wait()
        if job.error is not None:
            raise job.error
        assert job.response is not None
        return job.response

    # Questions.

    @property
    def spec(self) -> Spec:
        """The spec applied last."""
        return self._spec

    @property
    def ready(self) -> bool:
        """Whether requests are accepted and every wanted model answers."""
        return self._accepting and not self.problems()

    def problems(self) -> dict[str, str]:
        """Why each wanted model that does not answer does not, by name."""
        return self.features.problems() | self._reconciler.problems()

    def is_ready(self, name: str, version: int | None) -> bool:
        """Whether the model version answers. Raises NotFound for an unknown one."""
        try:
            self._registry.find(name, version)
        except Unavailable:
            return False
        return self._accepting and self.features.problem(name) is None

    def streams(self, name: str, version: int | None) -> bool:
        """Whether the model version may answer one request with many responses. Raises NotFound, Unavailable."""
        return self._registry.find(name, version).hosted.worker.streams

    def describe(self, name: str, version: int | None) -> ModelDescription:
        """What is known of a ready model version. Raises NotFound, Unavailable."""
        handle = self._registry.find(name, version)
        hosted = handle.hosted
        served = self._registry.snapshot.served.get(name)
        source = hosted.artifact.source
        expected = {
            rows: hosted.worker.expected_us(rows)
            for rows in warmup_rows(hosted.worker.batchable, hosted.options.batch.rows_max)
        }
        return ModelDescription(
            name=name,
            version=handle.version,
            ready_versions=tuple(sorted(served.versions)) if served else (handle.version,),
            signature=hosted.servable.signature,
            traits=hosted.servable.traits,
            options=hosted.options,
            batching=hosted.worker.batchable,
            source=str(source.path) if source else _told(hosted.artifact.settings),
            config=hosted.artifact.config,
            expected_us={rows: each for rows, each in expected.items() if each is not None},
            streams=hosted.worker.streams,
            notes=hosted.notes,
        )

    def statistics(self, name: str | None = None, version: int | None = None) -> list[tuple[str, int, ModelStatistics]]:
        """(name, version, statistics) of the ready versions asked for, all where nothing is named. Raises NotFound."""
        if name is not None:
            self._registry.find(name, version)
        return [
            (handle.name, handle.version, handle.hosted.statistics)
            for served in self._registry.snapshot.served.values()
            for handle in served.versions.values()
            if name in (None, handle.name) and version in (None, handle.version)
        ]

    def waiting(self) -> dict[tuple[str, int], int]:
        """Requests in queue now, by model version."""
        served = self._registry.snapshot.served.values()
        return {(h.name, h.version): h.hosted.worker.waiting for each in served for h in each.versions.values()}

    # Model control.

    def index(self) -> list[IndexEntry]:
        """Every model version known and its state."""
        return self._reconciler.index()

    def load(self, name: str, config_json: str | None = None) -> None:
        """Loads a model of the repository, or what is new of it, beside what serves; swaps when it is warm.

        `config_json` stands in for the model's `config.pbtxt`. Raises FailedPrecondition where the spec does not allow
        it, NotFound, ModelLoadError.
        """
        self._check_control()
        try:
            self._reconciler.load(name, self._given_config(config_json), config_json or "")
        except VireoError as error:
            raise type(error)(
                f"failed to load {quoted(name)}: {error.message}"
            ) from error  # scripts look for the words

    def _given_config(self, config_json: str | None) -> ModelConfig | None:
        if config_json is None:
            return None
        assert self._repository is not None
        return self._repository.parse_config(config_json, "json")

    def unload(self, name: str) -> None:
        """Takes a model out of service; requests in flight finish. Raises FailedPrecondition, NotFound."""
        self._check_control()
        self._reconciler.unload(name)

    def _check_control(self) -> None:
        repository = self._spec.repository
        if repository is None or repository.control != "explicit":
            control = quoted(repository.control if repository else "none")
            raise FailedPrecondition(
                f"model control is off: repository.control is {control}; loading and unloading needs 'explicit'"
            )
