"""The contract of everything a request can reach. It knows nothing of queues, versions or networks."""

from __future__ import annotations

import queue
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from engine.encoders.cache import EncodingCache
from engine.errors import VireoError
from engine.request import Request, Stage
from engine.servables.signature import Signature
from engine.tensor import Tensor

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Traits:
    """What was learnt about a servable when it was loaded, for `vireo explain` and the metadata calls.

    `platform` is the name clients know (for example `onnxruntime_onnx`); `batching` says in a sentence why rows of
    different requests may or may not be computed together. `parameters` are facts by name, for the configuration call.
    """

    platform: str
    batching: str
    notes: tuple[str, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class Servable(Protocol):
    """A loaded thing that computes. `execute` may be called by several threads at once; `close` once, when all are out."""

    @property
    def signature(self) -> Signature:
        """The tensors it takes and gives; constant over its life."""

    @property
    def traits(self) -> Traits:
        """What it is and why it is served the way it is; constant over its life."""

    def execute(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        """The tensors named in `outputs` (all of them where empty), computed from checked `inputs`.

        A batchable servable answers as many rows as it was given. Raises InvalidArgument where the values are to blame,
        Internal where it is itself.
        """

    def close(self) -> None:
        """Gives back what it holds."""


@runtime_checkable
class SampledServable(Servable, Protocol):
    """A servable that knows better than its signature what a request looks like: for warming it up."""

    def samples(self, rows: int) -> Tensors:
        """Inputs of `rows` rows that it answers."""


@runtime_checkable
class BoundServable(Servable, Protocol):
    """A servable of something that others may change under it."""

    def fits(self) -> bool:
        """Whether what is there now still has this signature; where it has not, it is to be loaded anew. At once, any thread."""


@runtime_checkable
class CachingServable(Servable, Protocol):
    """A servable that may keep what it encoded."""

    @property
    def cache(self) -> EncodingCache | None:
        """Where it does."""


@runtime_checkable
class StreamingServable(Servable, Protocol):
    """A servable that may answer one request with many responses."""

    def stream(self, inputs: Tensors, outputs: Sequence[str]) -> Generator[Tensors, None, None]:
        """The answers one by one; closing the generator stops the work."""


class RemoteCall(Protocol):
    """One request that another machine computes."""

    def cancel(self) -> None:
        """Nobody waits for it any more. Any thread; may come after its end."""


class Told(Protocol):
    """What a remote servable tells of a request."""

    def __call__(self, outcome: Tensors | VireoError, stages: tuple[Stage, ...] = (), /) -> None:
        """Its answer, with what that consisted of where it is known; or why there is none."""


@runtime_checkable
class RemoteServable(Servable, Protocol):
    """A servable on other machines: its requests wait for an answer, not for a thread. It batches itself."""

    def send(self, request: Request, deadline_ns: int, told: Told) -> RemoteCall:
        """Lets a request go out with the next `flush`, to be answered by `deadline_ns` whatever its own deadline is; `told` is
        called once, on a thread of the servable's, which it must not hold. Any thread. Raises Unavailable."""

    def flush(self) -> None:
        """Lets go what was given to `send`. Any thread."""


def answer_of(servable: RemoteServable, request: Request, deadline_ns: int) -> Tensors:
    """What a remote servable answers to a request that goes out now; waits for it. Raises what it fails with."""
    here: queue.SimpleQueue[Tensors | VireoError] = queue.SimpleQueue()

    def told(outcome: Tensors | VireoError, _: tuple[Stage, ...] = ()) -> None:
        here.put(outcome)

    servable.send(request, deadline_ns, told)
    servable.flush()
    outcome = here.get()
    if isinstance(outcome, VireoError):
        raise outcome
    return outcome
