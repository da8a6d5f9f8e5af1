"""Makes running logs and views of declared ones: which parts, with which paths and bounds. Loads Arrow and the kernels."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from engine.clock import Clock
from engine.duration import duration_us
from engine.errors import FailedPrecondition, quoted
from engine.features.bootstrap import bootstrap_of
from engine.features.compilation import compile_view
from engine.features.dead_letters import DeadLetterFile, DeadLetters, Outlet
from engine.features.declaration import FeatureViewSpec, SnapshotSpec
from engine.features.lag import Lag
from engine.features.lookup import FeatureView
from engine.features.pipeline import Pipeline
from engine.features.sample_file import SampleFile
from engine.features.sampling import Sampling
from engine.features.saving import Saving
from engine.features.shards import Shards
from engine.features.snapshot import SnapshotFolder
from engine.features.state import warm_kernels
from engine.features.view import View
from engine.limits import INTERPRETER_SWITCH_S_MAX
from engine.log.declaration import LogSpec
from engine.log.local import LocalLog
from engine.log.log import Log
from engine.log.schema import arrow_schema

if TYPE_CHECKING:
    from engine.spec import Spec


class Source(Protocol):
    """A log that is open."""

    name: str
    spec: LogSpec

    def current(self) -> Log:
        """The log, another one after it was opened anew."""


def place_of(spec: LogSpec, whole: Spec) -> str:
    """Where a log lives: two of one place cannot be open at once, or need not."""
    return str(whole.path(spec.local.path).resolve()) if spec.local is not None else repr(spec)


def open_log(name: str, spec: LogSpec, whole: Spec) -> Log:
    """The log. Raises what its implementation does where it is damaged, in use, or cannot be made."""
    schema = arrow_schema(spec.schema, f"logs.{name}.schema")
    if spec.local is not None:
        return LocalLog(spec.local, schema, whole.path(spec.local.path))
    assert spec.kafka is not None
    from engine.log.kafka import KafkaLog

    return KafkaLog(spec.kafka, schema)


def open_view(
    name: str,
    spec: FeatureViewSpec,
    source: Source,
    path_of: Callable[[str], Path],
    *,
    clock: Clock,
    wall_us: Callable[[], int],
    closed: Callable[[FeatureView], None],
) -> FeatureView:
    """The view, begun. `path_of` places the paths it names; `closed` is called once it is. Raises SpecError."""
    schema = source.current().schema
    view = compile_view(name, spec, schema)
    warm_kernels()  # here, so that the first time on a machine is not taken from the time to restore
    bootstrap = None
    if spec.bootstrap is not None:
        table = path_of(spec.bootstrap.table)
        bootstrap = bootstrap_of(spec.bootstrap, table, schema)
    identity = _identity(view, spec)
    snapshots = None
    if spec.snapshot is not None:
        path, keep = path_of(spec.snapshot.path), spec.snapshot.keep
        snapshots = SnapshotFolder(path, view=name, identity=identity, keep=keep, store=spec.snapshot.store)
    letters = DeadLetters(name, _outlets(spec, source.spec, path_of))
    every_s = duration_us(spec.snapshot.every) / 1e6 if spec.snapshot is not None else 0.0
    saving = Saving(snapshots, identity, letters, every_s=every_s, clock=clock)
    kafka = source.spec.kafka
    shared = kafka is not None and kafka.group is not None
    apart = shared or (kafka is not None and kafka.shard is not None)
    shards = Shards(view, snapshots, apart=apart, shared=shared, bootstrap=bootstrap, save=saving.save)
    log, own = source.current, None
    if shared:
        own = _own_member(source, view, spec)
        log = partial(_same, own)
    sampling = _sampling(view, spec, path_of, clock, wall_us)
    pipeline = Pipeline(name, log, shards, saving, letters, sampling)
    _share_the_interpreter()
    pipeline.start()
    return FeatureView(
        view,
        schema.field(view.entity).type,
        shards=shards,
        pipeline=pipeline,
        lag=Lag(log, apart=kafka is not None),
        wall_us=wall_us,
        closed=partial(_end, own, closed),
        sampling=sampling,
    )


def _sampling(
    view: View, spec: FeatureViewSpec, path_of: Callable[[str], Path], clock: Clock, wall_us: Callable[[], int]
) -> Sampling | None:
    if spec.sample is None:
        return None
    every = (spec.snapshot or SnapshotSpec("")).every
    file = SampleFile(path_of(spec.sample.path), view, declared_digest(view, spec))
    return Sampling(file, rows_max=spec.sample.rows, every_s=duration_us(every) / 1e6, clock=clock, wall_us=wall_us)


def _share_the_interpreter() -> None:
    """For the whole process: a thread that computes in Python gives way after less than CPython's default of 5 ms.

    A view's thread needs the interpreter some three times a chunk. Beside one busy thread, 12 ms passed from acknowledged to
    visible; with this it is 2 ms.
    """
    if sys.getswitchinterval() > INTERPRETER_SWITCH_S_MAX:
        sys.setswitchinterval(INTERPRETER_SWITCH_S_MAX)


def _same(log: Log) -> Log:
    return log


def _end(own: Log | None, closed: Callable[[FeatureView], None], view: FeatureView) -> None:
    if own is not None:
        own.close()
    closed(view)


def _identity(view: View, spec: FeatureViewSpec) -> str:
    """Of a state: the view's own fingerprint, and the table that it began with."""
    began = "" if spec.bootstrap is None else repr(spec.bootstrap)
    return hashlib.sha256(f"{view.fingerprint}|{began}".encode()).hexdigest()


def _outlets(spec: FeatureViewSpec, log: LogSpec, path_of: Callable[[str], Path]) -> list[Outlet]:
    outlets: list[Outlet] = []
    if spec.dead_letters is not None:
        path = path_of(spec.dead_letters)
        try:
            outlets.append(DeadLetterFile(path))
        except OSError as error:
            raise FailedPrecondition(f"dead letters: {quoted(str(path))} cannot be written: {error}") from error
    if log.kafka is not None and log.kafka.dead_letter_topic is not None:
        from engine.log.kafka import DeadLetterTopic

        outlets.append(DeadLetterTopic(log.kafka))
    return outlets


def _own_member(source: Source, view: View, spec: FeatureViewSpec) -> Log:
    """The log read as a consumer group of this very view: in one group, two views would have half of the entries each.

    Where its files lie is no part of the name: members on other machines may keep them elsewhere.
    """
    from engine.log.kafka import KafkaLog

    kafka = source.spec.kafka
    assert kafka is not None
    group = f"{kafka.group}-{view.name}-{declared_digest(view, spec)[:8]}"
    return KafkaLog(replace(kafka, group=group), source.current().schema)


def declared_digest(view: View, spec: FeatureViewSpec) -> str:
    """Of all that a view's answers depend on; where its files lie is no part of it."""
    alike = replace(spec, snapshot=None, dead_letters=None, sample=None, timeout_ms=None)
    return hashlib.sha256(f"{view.fingerprint}|{alike!r}".encode()).hexdigest()
