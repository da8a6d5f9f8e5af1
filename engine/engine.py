"""The composition root: the one file that knows every part, and the surface everything outside calls.

Data: `submit` finds the model, checks the request, and lets it wait; `flush` computes what waits, on this thread where
that is short. Control: `apply`, `load` and `unload` change what is wanted and wait until it is so.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial

from engine.candidates.gather_relations import alias_problems
from engine.clock import NEVER_NS, Clock, monotonic
from engine.control.book import IndexEntry
from engine.control.model_config import ConfigReader, ModelConfig
from engine.control.reconciler import Reconciler
from engine.control.registry import Handle, Registry
from engine.control.repository import Repository
from engine.description import ModelDescription
from engine.encoders.cache import EncodingCache
from engine.errors import FailedPrecondition, Unavailable, VireoError, quoted
from engine.features.store import FeatureStore
from engine.generation.loading import load_language_model
from engine.generation.store import LanguageModels
from engine.graph.board import GraphBoard, called_names
from engine.graph.plan import Plan
from engine.graph.port import NodePort
from engine.graph.records import RecordStatistics
from engine.graph.runner import GraphRunner
from engine.graph.shadow import ShadowStatistics
from engine.graph.statistics import NodeStatistics
from engine.graph.traffic import TrafficRunner, VariantStatistics
from engine.home import Home
from engine.hosting import GraphHost, Hosted, ModelHost, search_signature, warmup_rows
from engine.reach import reach_of, state_of
from engine.request import Ledger, Request, Response
from engine.scheduling.job import Job
from engine.servables.collection_shard import sharded_collections
from engine.servables.linked import Link, way_to
from engine.servables.servable import CachingServable
from engine.spec import Spec
from engine.telemetry import ModelStatistics
from engine.triton.servers import TritonServers
from engine.triton.statistics import ServerStatistics
from engine.vectors.declaration import CollectionSpec
from engine.vectors.store import VectorStore

log = logging.getLogger("vireo.engine")

Done = Callable[[Job], None]
Part = Callable[[Response], None]
_NO_LINKS: Mapping[str, Link] = {}


class Engine:
    """Serves what a spec says. Methods may be called from any thread, except `start` and `close`: once, by the owner."""

    def __init__(
        self,
        spec: Spec,
        *,
        clock: Clock = monotonic,
        read_config: ConfigReader | None = None,
        links: Mapping[str, Link] = _NO_LINKS,
    ) -> None:
        """`links`: the ways to deployments of the spec's placement, by name; what is placed in others runs here."""
        self.clock, self._spec, self._read_config = clock, spec, read_config
        self._ripe: list[NodePort] = []
        self.features = FeatureStore(clock=clock, ask=self.infer)
        """The logs and feature views of the spec."""
        self.vectors = VectorStore(partial(sharded_collections, links=links, clock=clock))
        """The vector collections, of the spec and of clients."""
        self.home = home = Home()
        """The event loop of what waits for others: a host that has one binds it before `start`."""
        way = lambda name: way_to(name, self._spec.placement, links)  # noqa: E731
        load = partial(load_language_model, self.submit, clock, home, way)
        state = lambda name: state_of(reach_of(self._spec, name), self._registry.snapshot, self.vectors.state)  # noqa: E731
        self.language_models = LanguageModels(clock, home, load, state)
        """The language models of the spec."""
        self._graphs = GraphHost(clock, self.features, self._ripen, self.flush, self._idle)
        self._board = GraphBoard(self._graphs.host, self._graphs.target, self._graphs.close_graph)
        self._registry: Registry[Hosted] = Registry(self._board)
        self._triton = TritonServers(clock, home)
        host = ModelHost(clock, self.features, self.vectors, self._triton, self.flush, links)
        self._reconciler: Reconciler[Hosted] = Reconciler(host, self._registry, clock)
        self.vectors.on_change = self._renew_readers
        self._triton.on_change = lambda name: self._reconciler.renew([name])
        self.vectors.before_aliases = self._check_aliases
        self._repository: Repository | None = None
        self._accepting = False

    # Life.

    def start(self) -> None:
        """Loads and warms everything the spec wants; models that fail are in `problems`. Raises SpecError, NotFound."""
        self._reconciler.start()
        self.apply(self._spec)
        self._accepting = True

    def apply(self, spec: Spec) -> None:
        """Makes what is served what `spec` says, without failing a request; returns when that is so or has failed.

        A graph that does not resolve as it is declared now answers as before where what it calls is still there.
        """
        repository = Repository(spec.path(spec.repository.path), self._read_config) if spec.repository else None
        self.features.apply(spec)
        self.vectors.apply(spec)
        self._triton.apply(spec.triton_models, spec.folder)
        before = self._board.declared
        self._board.apply({**spec.graphs, **spec.traffic})
        try:
            self._reconciler.apply(spec, repository)
        except BaseException:  # refused as a whole: the old spec is followed
            self._board.apply(before)
            raise
        self._spec, self._repository = spec, repository
        self.language_models.apply(spec.language_models, spec.folder, spec.server.drain_s)
        for name in (*self.spec.graphs, *spec.traffic):
            if (reason := self._registry.snapshot.unserved.get(name)) is not None:
                log.error("%s is not served: %s", name, reason)
            elif (reason := self._board.behind.get(name)) is not None:
                log.error("%s answers as it was declared before: %s", name, reason)

    def _renew_readers(self, collections: Collection[str]) -> None:
        """Those whose collection was not there when they were loaded, or is another now."""
        searches, gathers = self._spec.searches, self._spec.gathers
        names = [name for name, each in searches.items() if each.collection in collections]
        names += [name for name, each in gathers.items() if any(one.collection in collections for one in each.sources)]
        if names:
            self._reconciler.renew(names)

    def _check_aliases(self, meant: Mapping[str, CollectionSpec]) -> None:
        """Raises FailedPrecondition where a gather, or a graph that is served, could not be with these collections behind the
        aliases."""
        snapshot, declared = self._registry.snapshot, {**self._registry.snapshot.ensembles, **self._board.declared}
        moved = {name: each for name, each in self._spec.searches.items() if each.collection in meant}
        graphs = {each: called_names(declared[each]) & moved.keys() for each in declared if each in snapshot.served}
        try:
            called = {name for names in graphs.values() for name in names}
            changed = {name: search_signature(moved[name], meant[moved[name].collection]) for name in sorted(called)}
            for name in [name for name, names in graphs.items() if names]:
                self._graphs.check(name, declared[name], snapshot, changed)
        except VireoError as error:
            raise FailedPrecondition(f"alias {', '.join(map(quoted, meant))}: {error.message}") from error
        for problem in alias_problems(self._spec.gathers, meant):
            raise FailedPrecondition(problem)

    def stop_accepting(self) -> None:
        """Refuses new requests as unavailable from now on; what was admitted is still computed."""
        self._accepting = False
        self.language_models.stop_accepting()

    def close(self, drain_s: float | None = None) -> bool:
        """Refuses new requests, lets those in flight finish for up to `drain_s` (the spec's by default), unloads all.

        False where a model is still being loaded, by a daemon thread that nothing can stop.
        """
        self.stop_accepting()
        self.features.stop_waiting()
        self._board.apply({})
        drain_s = self._spec.server.drain_s if drain_s is None else drain_s
        self._triton.close()
        ended = self._reconciler.stop(drain_s)
        ended = self.language_models.close(drain_s) and ended
        self._graphs.close()
        self.features.close()
        self.vectors.close()
        self.home.close()
        return ended

    # Requests.

    def submit(
        self,
        request: Request,
        done: Done,
        part: Part | None = None,
        *,
        at_once: bool = False,
        declared: str | None = None,
    ) -> Job:
        """Lets a request wait for its model; `done` is called once, on the thread that ends it.

        Nothing is computed, and `done` not called, before `flush`; unless `at_once`, for a request behind which no
        other follows: then what `flush` would do is done for it here. `declared`: it is for a version that is declared so (see
        `fingerprint_of`), of those that answer or are held. Raises what the request is refused with: NotFound,
        InvalidArgument, Unavailable, ResourceExhausted, DeadlineExceeded.
        """
        received_ns = self.clock()
        if not self._accepting:
            raise Unavailable("the server is shutting down or not yet ready")
        acquire = self._registry.acquire
        handle = acquire(request.model, request.version) if declared is None else self._acquire_such(request, declared)
        worker = handle.hosted.worker
        try:
            job = self._job(handle, request, received_ns, done, part)
            begun = at_once and worker.run_at_once(job)
            if not begun:
                worker.submit(job)
        except BaseException:
            handle.release()
            raise
        if not at_once:
            self._ripen(worker)
            return job
        if not begun:
            worker.flush()
        if self._ripe:  # a graph that streams, or others that this thread helped on
            self.flush()
        return job

    def _acquire_such(self, request: Request, declared: str) -> Handle[Hosted]:
        found = self._registry.acquire_such(request.model, request.version, lambda each: each.declared == declared)
        if found is None:
            raise Unavailable(f"model {quoted(request.model)} is not here as it is declared where it is called")
        return found

    def has(self, name: str, version: int | None, declared: str) -> bool:
        """Whether `submit` would find a version that is `declared` so."""
        found = self._registry.acquire_such(name, version, lambda each: each.declared == declared)
        if found is not None:
            found.release()
        return found is not None

    def hold(self) -> Callable[[], None]:
        """Keeps what answers now for `submit` with `declared`, until what this gives is called, or after an `apply` until the
        drain of what it replaced is over."""
        return self._registry.hold()

    def _ripen(self, port: NodePort) -> None:
        """Remembers whom to flush."""
        if self._ripe[-1:] != [port]:  # a slice, because another thread may take the last one meanwhile
            self._ripe.append(port)

    def _job(self, handle: Handle[Hosted], request: Request, received_ns: int, done: Done, part: Part | None) -> Job:
        hosted = handle.hosted
        job = Job(request, hosted.signature.rows_of(request), Ledger(received_ns), done, part)
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
            error, job.error = job.error, None  # raised, it holds this frame, which holds the job
            try:
                raise error
            finally:
                del error
        assert job.response is not None
        return job.response

    # Questions.

    @property
    def spec(self) -> Spec:
        """The spec applied last, the ensembles of its model repository among the graphs."""
        return replace(self._spec, graphs={**self._spec.graphs, **self._registry.snapshot.ensembles})

    @property
    def ready(self) -> bool:
        """Whether requests are accepted, and every wanted model and every collection answers."""
        return self._accepting and not self.problems()

    def problems(self) -> dict[str, str]:
        """Why each wanted model that does not answer does not, by name; and each vector collection, by "collection NAME"."""
        searches = {name: problem for name in self._spec.searches if (problem := self._search_problem(name))}
        stored = self.features.problems() | self.vectors.problems() | self.language_models.problems()
        return stored | searches | self._reconciler.problems()

    def _search_problem(self, name: str) -> str | None:
        """Why a search of the spec does not answer, though it is loaded: an alias may have gone since."""
        search = self._spec.searches.get(name)
        return None if search is None else self.vectors.problem(search.collection)

    def is_ready(self, name: str, version: int | None) -> bool:
        """Whether the model version answers. Raises NotFound for an unknown one."""
        try:
            self._registry.find(name, version)
        except Unavailable:
            return False
        return self._accepting and self.features.problem(name) is None and self._search_problem(name) is None

    def streams(self, name: str, version: int | None) -> bool:
        """Whether the model version may answer one request with many responses. Raises NotFound, Unavailable."""
        return self._registry.find(name, version).hosted.worker.streams

    def describe(self, name: str, version: int | None) -> ModelDescription:
        """What is known of a ready model version. Raises NotFound, Unavailable."""
        handle = self._registry.find(name, version)
        hosted = handle.hosted
        served = self._registry.snapshot.served.get(name)
        expected = {
            rows: hosted.worker.expected_us(rows)
            for rows in warmup_rows(hosted.worker.batchable, hosted.options.batch.rows_max)
        }
        return ModelDescription(
            name=name,
            version=handle.version,
            ready_versions=tuple(sorted(served.versions)) if served else (handle.version,),
            signature=hosted.signature,
            traits=hosted.traits,
            options=hosted.options,
            batching=hosted.worker.batchable,
            source=hosted.source,
            config=hosted.config,
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

    def plan(self, name: str) -> Plan | None:
        """How the graph `name` is resolved now; None where `name` is no graph. Raises NotFound, Unavailable."""
        worker = self._registry.find(name, None).hosted.worker
        return worker.plan if isinstance(worker, GraphRunner) else None

    def stage_statistics(self) -> list[tuple[str, str, NodeStatistics]]:
        """(graph, node, its counts) of every graph that is served."""
        return [
            (name, node, counted)
            for name, served in self._registry.snapshot.served.items()
            if isinstance(runner := served.newest.hosted.worker, GraphRunner)
            for node, counted in runner.nodes.read()
        ]

    def encoding_caches(self) -> list[tuple[str, int, EncodingCache]]:
        """(name, version, its cache) of every encoder that is served and keeps what it encoded."""
        return [
            (handle.name, handle.version, servable.cache)
            for served in self._registry.snapshot.served.values()
            for handle in served.versions.values()
            if isinstance(servable := handle.hosted.servable, CachingServable) and servable.cache is not None
        ]

    def traffic_statistics(self) -> list[tuple[str, str, VariantStatistics]]:
        """(split, variant, its counts) of every split that is served."""
        return [
            (name, variant, counted) for name, split in self._splits() for variant, counted in split.traffic().items()
        ]

    def shadow_statistics(self) -> list[tuple[str, str, ShadowStatistics]]:
        """(split, shadow, its counts) of every split that is served."""
        return [
            (name, shadow, counted)
            for name, split in self._splits()
            if split.shadows is not None
            for shadow, counted in split.shadows.statistics().items()
        ]

    def triton_statistics(self) -> list[ServerStatistics]:
        """What the Triton servers of each model that is served there have counted."""
        return self._triton.statistics()

    def record_statistics(self) -> list[tuple[str, RecordStatistics]]:
        """(log, what was recorded in it) of the records and exposures so far."""
        return [(name, writer.statistics()) for name, writer in list(self._graphs.writers.items())]

    def _splits(self) -> Iterator[tuple[str, TrafficRunner]]:
        for name, served in self._registry.snapshot.served.items():
            if isinstance(running := served.newest.hosted.worker, TrafficRunner):
                yield name, running

    def _idle(self) -> bool:
        """Whether no request waits or goes through a graph."""
        return not any(self.waiting().values())

    # Model control.

    def index(self) -> list[IndexEntry]:
        """Every model version known and its state, graphs and traffic splits among them."""
        graphs = self.spec.graphs
        models = [each for each in self._reconciler.index() if each.name not in graphs]
        return sorted([*models, *self._graph_entries()], key=lambda each: (each.name, each.version or 0))

    def _graph_entries(self) -> Iterator[IndexEntry]:
        snapshot = self._registry.snapshot
        for name in (*self.spec.graphs, *self._spec.traffic):
            if name in snapshot.served:
                reason = self._board.behind.get(name)
                told = "" if reason is None else f"as it was declared before: {reason}"
                yield IndexEntry(name, 1, "READY", told)
            else:
                yield IndexEntry(name, None, "UNAVAILABLE", snapshot.unserved.get(name, "not resolved"))

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
