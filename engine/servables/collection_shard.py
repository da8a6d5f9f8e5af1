"""One shard of a collection as a servable, and collections whose shards are asked over links. Questions and answers are what
engine/vectors/shard.py says, one a row: clients have no way to them.
"""

from __future__ import annotations

import queue
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from engine.clock import Clock, Deadline
from engine.errors import Unavailable, VireoError, quoted
from engine.limits import SEARCH_BATCH_ROWS_MAX
from engine.log.log import Offsets
from engine.placement import deployment_of, fingerprint_of, shard_name
from engine.request import Request, Stage
from engine.servables.linked import Link, Linked
from engine.servables.partial_answer import LOST, shards_deadline_ns
from engine.servables.servable import RemoteCall, Tensors, Traits
from engine.servables.signature import Signature, TensorSpec
from engine.tensor import BYTES, Tensor
from engine.vectors.store import VectorStore
from engine.work import interruptible_work

if TYPE_CHECKING:
    from engine.spec import Spec
    from engine.vectors.declaration import CollectionSpec
    from engine.vectors.shard import Question
    from engine.vectors.sharded import ShardedCollection, Told

_QUESTION: Final = "question"
_ANSWER: Final = "answer"
_SIGNATURE: Final = Signature(
    (TensorSpec(_QUESTION, BYTES, (-1,)),), (TensorSpec(_ANSWER, BYTES, (-1,)),), batchable=True,
    rows_max=SEARCH_BATCH_ROWS_MAX,
)  # fmt: skip


class CollectionShard:
    """Answers for the part of a collection that is followed here. Any number of threads."""

    def __init__(self, name: str, store: VectorStore) -> None:
        self._name, self._store = name, store
        self.signature = _SIGNATURE
        self.traits = Traits("vireo_collection_shard", "every question is answered alone")

    def execute(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        """See `Servable.execute`. Raises what the collection could not be opened for."""
        from engine.vectors.followed import FollowedCollection
        from engine.vectors.shard import answered

        collection = self._store.collection(self._name)
        assert isinstance(collection, FollowedCollection), "shards follow topics"
        return {_ANSWER: _bytes([answered(collection, each) for each in inputs[_QUESTION].array.tolist()])}

    def samples(self, rows: int) -> Tensors:
        """See `SampledServable`."""
        from engine.vectors.shard import Question

        return {_QUESTION: _bytes([Question("info", {}).encoded()] * rows)}

    def close(self) -> None:
        """The collection is the store's."""


def _bytes(rows: Sequence[bytes]) -> Tensor:
    found = np.empty(len(rows), object)
    found[:] = rows
    return Tensor(BYTES, found)


class ShardLinks:
    """See `engine.vectors.sharded.Shards`. `partial`: where questions need not be whole, shards that can't be had in time are
    left out, unless that is all of them."""

    def __init__(
        self, collection: str, names: Sequence[str], shards: Sequence[Linked], clock: Clock, *, partial: bool
    ) -> None:
        self._collection, self.names, self._shards = collection, names, shards
        self._clock, self._partial = clock, partial

    def ask(self, questions: Mapping[int, Question], after: Offsets, deadline: Deadline, *, whole: bool) -> Told:
        """See `Shards.ask`."""
        from engine.log.sharding import offsets_by_shard
        from engine.vectors.sharded import Told

        leaves_out = self._partial and not whole
        asking = _Asking(self._shards)
        until_ns = shards_deadline_ns(deadline.at_ns, self._clock()) if leaves_out else deadline.at_ns
        own = offsets_by_shard(after, len(self._shards))
        for number, question in questions.items():
            inputs = {_QUESTION: _bytes([question.encoded()])}
            asking.send(
                number, Request(self._collection, inputs, after=own.get(number)), until_ns, patient=not leaves_out
            )
        found, lost = asking.answers(LOST if leaves_out else ())
        if lost and not found:
            raise Unavailable(
                f"collection {quoted(self._collection)}: no shard answers: {next(iter(lost.values())).message}"
            )
        return Told(found, tuple([self.names[number] for number in sorted(lost)]))


class _Asking:
    """Questions on their way. For one thread."""

    def __init__(self, shards: Sequence[Linked]) -> None:
        self._shards = shards
        self._calls: dict[int, RemoteCall] = {}
        self._outcomes: queue.SimpleQueue[tuple[int, Tensors | VireoError]] = queue.SimpleQueue()

    def send(self, number: int, request: Request, until_ns: int, *, patient: bool) -> None:
        """Lets a question to a shard go out."""
        told = partial(self._told, number)
        self._calls[number] = self._shards[number].send(request, until_ns, told, patient=patient)

    def _told(self, number: int, outcome: Tensors | VireoError, _: tuple[Stage, ...] = ()) -> None:
        self._outcomes.put((number, outcome))

    def answers(self, left_out: tuple[type[VireoError], ...]) -> tuple[dict[int, object], dict[int, VireoError]]:
        """By shard; the second: those that failed with what may be left out. Raises what another fails with."""
        from engine.vectors.shard import answer_of

        found, lost = dict[int, object](), dict[int, VireoError]()
        for number in self._calls:
            self._shards[number].flush()
        work = interruptible_work()
        with nullcontext() if work is None else work.interrupting(self._cancel):
            for _ in self._calls:
                number, outcome = self._outcomes.get()
                try:
                    if isinstance(outcome, VireoError):
                        raise outcome
                    found[number] = answer_of(outcome[_ANSWER].array[0])
                except left_out as error:
                    lost[number] = error
                except VireoError:
                    self._cancel()  # nobody waits for the others
                    raise
        return found, lost

    def _cancel(self) -> None:
        for each in self._calls.values():
            each.cancel()


def sharded_collections(
    spec: Spec, links: Mapping[str, Link], clock: Clock
) -> dict[str, ShardedCollection | VireoError]:
    """The collections of `spec` that are in shards to which there are `links`, once all shards answer; or why one does not."""
    found: dict[str, ShardedCollection | VireoError] = {}
    for name, each in (spec.vectors.collections if spec.vectors else {}).items():
        deployment = deployment_of(spec.placement, name)
        placed = None if deployment is None else spec.placement[deployment]
        if placed is None or placed.shards is None or deployment is None:
            continue
        names = [shard_name(deployment, number, placed.shards) for number in range(placed.shards)]
        if names[0] in links:
            try:
                found[name] = _opened(
                    name, each, {of: links[of] for of in names}, clock, partial=placed.on_lost == "partial"
                )
            except VireoError as error:
                found[name] = error
    return found


def _opened(
    name: str, spec: CollectionSpec, links: Mapping[str, Link], clock: Clock, *, partial: bool
) -> ShardedCollection:
    from engine.vectors.sharded import ShardedCollection

    declared = fingerprint_of(spec)
    for link in links.values():
        link.describe(name, 1, declared)
    shards = [Linked(name, 1, each, link, _SIGNATURE, clock, declared) for each, link in links.items()]
    return ShardedCollection(name, spec, ShardLinks(name, tuple(links), shards, clock, partial=partial))
