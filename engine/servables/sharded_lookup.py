"""A feature view whose entities are in shards elsewhere: a lookup is split by shard, asked of all at once, joined in order."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from engine.clock import NEVER_NS, Clock
from engine.errors import ModelLoadError, VireoError
from engine.features.declaration import FeatureViewSpec
from engine.features.store import FeatureStore
from engine.log.sharding import offsets_by_shard, rows_by_shard
from engine.placement import DeploymentSpec, fingerprint_of, shard_name
from engine.request import Request, Stage
from engine.servables.linked import Link, Linked
from engine.servables.partial_answer import LOST, shards_deadline_ns
from engine.servables.servable import RemoteCall, Tensors, Told, Traits, answer_of
from engine.tensor import Tensor

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from engine.features.sharded_view import ShardedView


class ShardedLookup:
    """Looks entities up in the shards that have them: see `RemoteServable`. Any number of threads.

    `partitions`: of the log; entities are found by it, so it must stay as it is. With `partial`, what a shard does not answer in
    time is told as lost (status 3), else the lookup fails.
    """

    def __init__(
        self, view: ShardedView, shards: Sequence[Linked], *, partitions: int, partial: bool, store: FeatureStore, clock: Clock
    ) -> None:  # fmt: skip
        self._view, self._tensors, self._shards = view, view.tensors, shards
        self._partitions, self._partial = partitions, partial
        self._store, self._clock = store, clock
        self.signature = view.tensors.signature
        notes = (f"in {len(shards)} shards, by {partitions} partitions of its log", *view.tensors.notes)
        self.traits = Traits("vireo_feature_view", "what waits for a shard goes as one", notes)

    def send(self, request: Request, deadline_ns: int, told: Told) -> RemoteCall:
        """See `RemoteServable.send`. Told is what a shard fails with; with `partial` not that it cannot be had in time."""
        keys = self._tensors.keys(request.inputs)
        rows = rows_by_shard(keys, self._partitions, len(self._shards))
        after = offsets_by_shard(request.after or {}, len(self._shards))
        until_ns = shards_deadline_ns(deadline_ns, self._clock()) if self._partial else deadline_ns
        gathering = _Gathering(self._tensors.lost(len(keys)), request.outputs, len(rows), told, partial=self._partial)
        for number, part in rows.items():
            own = request.inputs if len(rows) == 1 else _rows_of(request.inputs, part)
            asked = replace(request, inputs=own, after=after.get(number), layout=None)
            answered = partial(gathering.answered, part)
            gathering.follow(self._shards[number].send(asked, until_ns, answered, patient=not self._partial))
        return gathering

    def flush(self) -> None:
        """See `RemoteServable.flush`."""
        for each in self._shards:
            each.flush()

    def execute(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        """See `Servable.execute`. Waits for the shards."""
        return answer_of(self, Request(self._view.name, inputs, outputs=tuple(outputs)), NEVER_NS)

    def close(self) -> None:
        """The links are their owner's."""
        self._store.show_no_more(self._view)


class _Gathering:
    """One lookup on its way: what the shards have answered so far. Any thread."""

    def __init__(
        self, answer: dict[str, Tensor], outputs: Sequence[str], shards: int, told: Told, *, partial: bool
    ) -> None:
        self._answer = {name: answer[name] for name in outputs} if outputs else answer
        self._told, self._partial = told, partial
        self._lock = threading.Lock()
        self._left = shards
        self._over = False
        self._calls: list[RemoteCall] = []
        self._stages: tuple[Stage, ...] = ()

    def follow(self, call: RemoteCall) -> None:
        """One more call, to be cancelled with the others."""
        with self._lock:
            self._calls.append(call)
            over = self._over
        if over:
            call.cancel()

    def answered(
        self, rows: npt.NDArray[np.int64], outcome: Tensors | VireoError, stages: tuple[Stage, ...] = ()
    ) -> None:
        """What one shard says of `rows`."""
        lost = isinstance(outcome, LOST)
        if isinstance(outcome, VireoError):
            if not (lost and self._partial):
                self._end(outcome)
                return
        else:
            for name, tensor in self._answer.items():
                tensor.array[rows] = outcome[name].array
        with self._lock:
            self._left -= 1
            self._stages += stages
            whole = self._left == 0
        if whole:
            self._end(self._answer)

    def _end(self, outcome: Tensors | VireoError) -> None:
        with self._lock:
            if self._over:
                return
            self._over = True
            calls, self._calls = self._calls, []
        if isinstance(outcome, VireoError):
            for each in calls:  # nobody waits for them
                each.cancel()
        self._told(outcome, self._stages)

    def cancel(self) -> None:
        """See `RemoteCall`: each shard's call says that it is cancelled."""
        with self._lock:
            calls = list(self._calls)
        for each in calls:
            each.cancel()


def _rows_of(inputs: Tensors, rows: npt.NDArray[np.int64]) -> Tensors:
    return {name: Tensor(each.datatype, each.array[rows]) for name, each in inputs.items()}


def load_sharded_lookup(
    store: FeatureStore, name: str, spec: FeatureViewSpec, deployment: str, placed: DeploymentSpec,
    links: Mapping[str, Link], clock: Clock,
) -> ShardedLookup:  # fmt: skip
    """The view `name`, once every shard of it answers. Raises ModelLoadError."""
    count, declared = placed.shards or 1, fingerprint_of(spec)
    names = [shard_name(deployment, number, count) for number in range(count)]
    try:
        for each in names:
            links[each].describe(name, 1, declared)
        view, partitions = store.show_sharded(name, spec)
    except VireoError as error:
        raise ModelLoadError(error.message) from error
    shards = [Linked(name, 1, each, links[each], view.tensors.signature, clock, declared) for each in names]
    return ShardedLookup(
        view, shards, partitions=partitions, partial=placed.on_lost == "partial", store=store, clock=clock
    )
