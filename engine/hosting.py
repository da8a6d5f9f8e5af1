"""How one version, or one graph, is made to run: loaded, warmed, given a worker or a runner. The lower half of the composition
root: beside `engine.engine` the one file that knows every part.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import Random

from engine.candidates.declaration import GatherSpec, SlateSpec
from engine.clock import Clock
from engine.control.model_config import ModelConfig, check_config
from engine.control.registry import Handle, Snapshot, find
from engine.control.rollout import Artifact
from engine.cores import short_us_max, usable_cores
from engine.encoders.declaration import EncoderSpec, RerankerSpec
from engine.errors import InvalidArgument, ModelFailed, ModelLoadError, Unavailable
from engine.features.declaration import FeatureViewSpec
from engine.features.store import FeatureStore
from engine.graph.alarm import Alarm
from engine.graph.board import Find
from engine.graph.declaration import GraphSpec, TrafficSpec
from engine.graph.delivery import Delivery
from engine.graph.port import NodePort, Target
from engine.graph.records import RecordWriter
from engine.graph.resolution import resolve
from engine.graph.runner import GraphRunner
from engine.graph.shadow import Shadows
from engine.graph.traffic import TrafficRunner
from engine.graph.traffic_plan import resolve_traffic
from engine.limits import (
    BATCH_ROWS_MAX,
    ENCODER_TOKEN_BYTES,
    GATHER_BATCH_ROWS_MAX,
    INLINE_COMPUTE_US_MAX,
    LOOKUP_BATCH_ROWS_MAX,
    SEARCH_BATCH_ROWS_MAX,
    WARMUP_BYTES_MAX,
)
from engine.optimization.record import told_of
from engine.placement import fingerprint_of, shard_name
from engine.scheduling.batcher import BatchBounds
from engine.scheduling.queue import QueueBounds
from engine.scheduling.remote import RemoteWorker
from engine.scheduling.worker import Worker, WorkerOptions
from engine.servables.function import load_function
from engine.servables.linked import LINK_CALLS_MAX, Link, load_linked
from engine.servables.onnx import OnnxOptions, load_onnx
from engine.servables.probe import sample_inputs
from engine.servables.servable import (
    BoundServable,
    RemoteServable,
    SampledServable,
    Servable,
    StreamingServable,
    Tensors,
    Traits,
)
from engine.servables.signature import ANY, Signature, declared_specs
from engine.spec import FunctionSpec
from engine.telemetry import ModelStatistics
from engine.triton.declaration import TritonModelSpec
from engine.triton.servers import TritonServers
from engine.vectors.declaration import CollectionSpec, VectorSearchSpec
from engine.vectors.store import VectorStore


@dataclass(slots=True)
class Hosted:
    """A loaded version with everything that runs it. Of a graph, `worker` is its runner, and there is no `servable`."""

    name: str
    signature: Signature
    traits: Traits
    options: WorkerOptions
    statistics: ModelStatistics
    worker: Worker | RemoteWorker | GraphRunner | TrafficRunner
    timeout_ns: int | None
    source: str
    servable: Servable | None = None
    config: ModelConfig | None = None
    may_hang: bool = False
    seed: int | None = None
    """Of the made-up inputs that warm it; None is zeros."""
    declared: str | None = None
    """See `fingerprint_of`; None for graphs."""
    notes: tuple[str, ...] = ()


class ModelHost:
    """Makes a running model of an artifact. `after`: see `Worker`. `links`: the ways to deployments, by name; what is placed in
    others runs here.
    """

    def __init__(
        self, clock: Clock, features: FeatureStore, vectors: VectorStore, triton: TritonServers, after: Callable[[], None],
        links: Mapping[str, Link],
    ) -> None:  # fmt: skip
        self._clock = clock
        self._features = features
        self._vectors = vectors
        self._triton = triton
        self._after = after
        self._links = links

    def load(self, artifact: Artifact) -> Hosted:
        """See `reconciler.Host`."""
        settings = artifact.settings
        servable = self._load_linked(artifact)
        linked = servable is not None
        if servable is None:
            servable = _load_servable(artifact, self._features, self._vectors, self._triton)
            linked = isinstance(settings, VectorSearchSpec) and self._vectors.is_elsewhere
        options = _worker_options(artifact, servable.signature)
        if linked:
            options = replace(options, instances=LINK_CALLS_MAX, inline_us_max=0)
        statistics = ModelStatistics()
        worker = self._worker(artifact, servable, options, statistics)
        timeout_ms = None if isinstance(settings, CollectionSpec) else settings.timeout_ms
        timeout_ns = None if timeout_ms is None else int(timeout_ms * 1e6)
        return Hosted(
            artifact.name, servable.signature, servable.traits, options, statistics, worker, timeout_ns, artifact.origin,
            servable, artifact.config, isinstance(settings, FunctionSpec) or linked,
            0 if isinstance(settings, VectorSearchSpec) else None,  # zeros have no direction
            declared=fingerprint_of(settings),
        )  # fmt: skip

    def _load_linked(self, artifact: Artifact) -> Servable | None:
        """What is placed in another deployment that there is a way to; None where it is to run here."""
        name, deployment, placed = artifact.name, artifact.deployment, artifact.placed
        if deployment is None:
            return None
        if placed is not None and shard_name(deployment, 0, placed.shards or 1) in self._links:
            from engine.servables.sharded_lookup import load_sharded_lookup

            settings = artifact.settings
            assert isinstance(settings, FeatureViewSpec)
            return load_sharded_lookup(self._features, name, settings, deployment, placed, self._links, self._clock)
        link = self._links.get(deployment)
        if link is None:
            return None
        return load_linked(name, artifact.version, deployment, link, self._clock, fingerprint_of(artifact.settings))

    def _worker(
        self, artifact: Artifact, servable: Servable, options: WorkerOptions, statistics: ModelStatistics
    ) -> Worker | RemoteWorker:
        name, version = artifact.name, artifact.version
        if isinstance(servable, RemoteServable) and not isinstance(servable, StreamingServable):
            return RemoteWorker(name, version, servable, options, self._clock, statistics, self._after)
        return Worker(name, version, servable, options, self._clock, statistics, self._after)

    def warm(self, hosted: Hosted, before: Hosted | None) -> None:
        """Runs every batch bucket (1, 2, 4, ... rows) on made-up inputs. What is loaded anew, `before` serving meanwhile, is run
        on one row only: its code is warm, and every further run would delay who is served.

        A servable that refuses made-up values, or whose shapes had to be guessed, is served all the same and the fact
        noted; any other failure means that it cannot compute.
        """
        self._warm_up(hosted, before)
        self._features.warmed(hosted.name)

    def _warm_up(self, hosted: Hosted, before: Hosted | None) -> None:
        if (problem := self._features.problem(hosted.name)) is not None:
            hosted.notes = (f"not warmed up: {problem}",)
            return
        worker = hosted.worker
        assert isinstance(worker, Worker | RemoteWorker)
        lone = before is not None or isinstance(worker, RemoteWorker)  # what lives elsewhere is warm there
        for rows in [1] if lone else warmup_rows(worker.batchable, hosted.options.batch.rows_max):
            inputs = _samples(hosted, rows)
            if sum(each.bytes_size for each in inputs.values()) > WARMUP_BYTES_MAX:
                return
            try:
                worker.warm_up(inputs, rows)
            except Unavailable as error:  # what it takes from is still restoring
                hosted.notes = (f"not warmed up: {error.message}",)
                return
            except Exception as error:
                refused = isinstance(error, InvalidArgument) and not isinstance(error, ModelFailed)
                if not refused and not _guessed(hosted.signature):
                    raise ModelLoadError(f"warm-up with {rows} row(s) of zeros failed: {error}") from error
                hosted.notes = (f"not warmed up: made-up inputs of {rows} row(s) fail: {error}",)
                return
        if before is not None and isinstance(worker, Worker) and isinstance(before.worker, Worker):
            worker.follow(before.worker, 1)

    def close(self, hosted: Hosted) -> None:
        """See `reconciler.Host`."""
        hosted.worker.close()
        if hosted.servable is not None:
            hosted.servable.close()

    def stale(self, hosted: Hosted) -> bool:
        """See `reconciler.Host`: a search or gather is, whose collection has other tensors now than when it was loaded, or is for
        another embedder; and a model on Triton servers that have another by now."""
        return isinstance(hosted.servable, BoundServable) and not hosted.servable.fits()


def _samples(hosted: Hosted, rows: int) -> Tensors:
    if isinstance(hosted.servable, SampledServable):
        return hosted.servable.samples(rows)
    return sample_inputs(hosted.signature, rows, hosted.seed)


def search_signature(search: VectorSearchSpec, collection: CollectionSpec) -> Signature:
    """What a search of such a collection would take and give. Raises FailedPrecondition."""
    from engine.servables.vector_search import signature_of

    return signature_of(search, collection)


def warmup_rows(batchable: bool, rows_max: int) -> list[int]:
    """The batch buckets: powers of two up to `rows_max`, and `rows_max` itself."""
    if not batchable:
        return [1]
    return [1 << power for power in range(rows_max.bit_length()) if 1 << power < rows_max] + [rows_max]


def _guessed(signature: Signature) -> bool:
    start = 1 if signature.batchable else 0
    return any(ANY in each.shape[start:] for each in signature.inputs)


def _load_servable(artifact: Artifact, features: FeatureStore, vectors: VectorStore, triton: TritonServers) -> Servable:
    settings = artifact.settings
    if isinstance(settings, TritonModelSpec):
        from engine.servables.tritonserver import load_triton

        return load_triton(triton, artifact.name, settings)
    if isinstance(settings, FeatureViewSpec):
        from engine.servables.feature_lookup import load_feature_lookup

        return load_feature_lookup(features, artifact.name, settings)
    if isinstance(settings, VectorSearchSpec | CollectionSpec):
        return _load_of_store(artifact.name, settings, vectors)
    if isinstance(settings, GatherSpec):
        from engine.servables.gather import load_gather

        return load_gather(artifact.name, settings, features, vectors)
    if isinstance(settings, FunctionSpec | SlateSpec | EncoderSpec | RerankerSpec):
        return _load_declared(artifact.name, settings)
    source, config = artifact.source, artifact.config
    assert source is not None
    if source.problem:
        raise ModelLoadError(source.problem)
    rows_max = config.rows_max if config else None
    batch_rows = settings.batching.rows_max if settings.batching.enabled else 1
    options = OnnxOptions(settings.threads, settings.providers, rows_max, batch_rows, settings.parity)
    servable = load_onnx(source.path, options)
    if config is not None:
        check_config(config, servable.signature)
    if source.derived:
        notes, parameters = told_of(source.path)
        servable.traits = replace(servable.traits, notes=(*servable.traits.notes, *notes), parameters=parameters)
    from engine.servables.reshaped import Reshaped

    reshapes = config.reshapes if config else ()
    return Reshaped(servable, *reshapes) if any(reshapes) else servable


def _load_of_store(name: str, settings: VectorSearchSpec | CollectionSpec, vectors: VectorStore) -> Servable:
    """A search, or the shard of a collection that is here."""
    if isinstance(settings, CollectionSpec):
        from engine.servables.collection_shard import CollectionShard

        return CollectionShard(name, vectors)
    from engine.servables.vector_search import load_vector_search

    return load_vector_search(vectors, name, settings)


def _load_declared(name: str, settings: FunctionSpec | SlateSpec | EncoderSpec | RerankerSpec) -> Servable:
    """Of what needs nothing but its declaration."""
    if isinstance(settings, SlateSpec):
        from engine.servables.slate import Slate

        return Slate(settings)
    if isinstance(settings, EncoderSpec):
        from engine.servables.text_encoder import load_text_encoder

        return load_text_encoder(settings)
    if isinstance(settings, RerankerSpec):
        from engine.servables.reranker import load_reranker

        return load_reranker(settings)
    signature = Signature(declared_specs(settings.inputs), declared_specs(settings.outputs), settings.batchable)
    return load_function(name, settings.call, signature)


def _worker_options(artifact: Artifact, signature: Signature) -> WorkerOptions:
    settings, config = artifact.settings, artifact.config
    if isinstance(settings, FeatureViewSpec | VectorSearchSpec | CollectionSpec):
        found_rows_max = LOOKUP_BATCH_ROWS_MAX if isinstance(settings, FeatureViewSpec) else SEARCH_BATCH_ROWS_MAX
        return WorkerOptions(BatchBounds(found_rows_max), instances=usable_cores(), inline_us_max=short_us_max())
    if isinstance(settings, GatherSpec):
        return WorkerOptions(BatchBounds(GATHER_BATCH_ROWS_MAX), instances=usable_cores(), inline_us_max=short_us_max())
    if isinstance(settings, TritonModelSpec):
        bounds = BatchBounds(signature.rows_max or BATCH_ROWS_MAX)
        queue = QueueBounds(settings.requests_max, settings.bytes_max)
        return WorkerOptions(bounds, queue, settings.streams_max, batching=False, inline_us_max=0)
    if isinstance(settings, SlateSpec):
        return WorkerOptions(instances=usable_cores(), inline_us_max=short_us_max())
    if isinstance(settings, EncoderSpec | RerankerSpec):
        batching = settings.batching
        cached = isinstance(settings, EncoderSpec) and settings.cache_bytes_max is not None  # then times tell nothing
        return WorkerOptions(
            BatchBounds(batching.rows_max, batching.tokens_max * ENCODER_TOKEN_BYTES),
            instances=settings.instances or usable_cores(),
            batching=batching.enabled,
            inline_us_max=0 if cached else INLINE_COMPUTE_US_MAX,
        )
    rows_max = min(settings.batching.rows_max, signature.rows_max or settings.batching.rows_max)
    return WorkerOptions(
        BatchBounds(rows_max, settings.batching.bytes_max),
        QueueBounds(settings.queue.requests_max, settings.queue.bytes_max, settings.queue.batch_share),
        settings.instances or (config.instances if config else None) or usable_cores(),
        settings.batching.enabled,
        short_us_max() if settings.inline_us_max is None else settings.inline_us_max,
    )


Running = Worker | RemoteWorker | GraphRunner | TrafficRunner


class GraphHost:
    """Makes running graphs and splits of what the spec declares, and offers what is loaded to them.

    `ripen` and `flush` are the engine's: see `GraphRunner`. `idle`: whether no request is in flight.
    """

    def __init__(
        self,
        clock: Clock,
        features: FeatureStore,
        ripen: Callable[[NodePort], None],
        flush: Callable[[], None],
        idle: Callable[[], bool],
    ) -> None:
        self._clock, self._features = clock, features
        self._ripen, self._flush, self._idle = ripen, flush, idle
        self._alarm = Alarm(clock)
        self._random = Random()
        self.writers: dict[str, RecordWriter] = {}
        """Of records and exposures, by log."""

    def target(self, handle: Handle[Hosted]) -> Target:
        """A loaded version as graphs call it."""
        hosted = handle.hosted
        return Target(
            handle.name, handle.version, hosted.signature, hosted.worker.streams, hosted.worker, hosted.may_hang
        )

    def host(self, name: str, declared: GraphSpec | TrafficSpec, find: Find) -> Hosted:
        """The graph or the split, running. Raises what it cannot be resolved for."""
        return (
            self._graph(name, declared, find) if isinstance(declared, GraphSpec) else self._split(name, declared, find)
        )

    def check(
        self, name: str, declared: GraphSpec | TrafficSpec, snapshot: Snapshot[Hosted], changed: Mapping[str, Signature]
    ) -> None:  # fmt: skip
        """Raises FailedPrecondition where a graph could not be resolved if what it calls had the signatures of `changed`."""

        def look_up(each: str, version: int | None) -> Target:
            target = self.target(find(snapshot, each, version))
            return replace(target, signature=changed.get(each, target.signature))

        if isinstance(declared, GraphSpec):
            resolve(name, declared, look_up)

    def _graph(self, name: str, declared: GraphSpec, find: Find) -> Hosted:
        plan = resolve(name, declared, find)
        statistics = ModelStatistics()
        runner = GraphRunner(
            plan, clock=self._clock, alarm=self._alarm, statistics=statistics, ripen=self._ripen, flush=self._flush,
            delivery=Delivery(plan, self._writer, self._flush),
        )  # fmt: skip
        names = ", ".join(each.name for each in plan.nodes)
        batching = "requests that come together go through as one" if runner.joins else "a node takes what waits at it"
        traits = Traits("vireo_graph", batching, (f"nodes: {names}",))
        may_hang = any(each.may_hang for each in plan.targets)
        return _hosted(name, plan.signature, traits, statistics, runner, plan.slo_ns, may_hang=may_hang)

    def _split(self, name: str, declared: TrafficSpec, find: Find) -> Hosted:
        plan = resolve_traffic(name, declared, find)
        statistics = ModelStatistics()
        shadows = None
        if plan.shadows:
            shadows = Shadows(
                name, plan.shadows, idle=self._idle, flush=self._flush, random=self._random, clock=self._clock
            )
        runner = TrafficRunner(
            plan, clock=self._clock, statistics=statistics, random=self._random, ripen=self._ripen, flush=self._flush,
            expose=None if plan.exposures is None else self._writer(plan.exposures).offer, shadows=shadows,
        )  # fmt: skip
        weights = ", ".join(f"{each.name}: {each.weight:g}" for each in plan.variants)
        traits = Traits("vireo_traffic", "each variant's own", (f"weights: {weights}",))
        may_hang = any(each.target.may_hang for each in plan.variants)
        return _hosted(name, plan.signature, traits, statistics, runner, None, may_hang=may_hang)

    def _writer(self, log: str) -> RecordWriter:
        found = self.writers.get(log)
        if found is None:
            store = self._features
            found = self.writers[log] = RecordWriter(log, push=store.record, schema=store.schema, clock=self._clock)
        return found

    def close_graph(self, hosted: Hosted, gone: Callable[[], None]) -> None:
        """Ends a graph or a split that nobody uses any more; `gone` is called when nothing of it runs."""
        running = hosted.worker
        if isinstance(running, GraphRunner):
            running.close(gone)
        elif isinstance(running, TrafficRunner):

            def end() -> None:
                running.close()
                gone()

            threading.Thread(target=end, name=f"vireo-end-{hosted.name}", daemon=True).start()  # it waits for shadows

    def close(self) -> None:
        """Ends what all graphs share; what was to be recorded is, where its log takes it."""
        self._alarm.close()
        for writer in self.writers.values():
            writer.close()


def _hosted(
    name: str,
    signature: Signature,
    traits: Traits,
    statistics: ModelStatistics,
    running: Running,
    timeout_ns: int | None,
    *,
    may_hang: bool,
) -> Hosted:
    options = WorkerOptions(BatchBounds(signature.rows_max or BATCH_ROWS_MAX))
    source = "traffic split" if isinstance(running, TrafficRunner) else "graph"
    return Hosted(name, signature, traits, options, statistics, running, timeout_ns, source, may_hang=may_hang)
