"""A servable that another process hosts, called over a link. How the link carries a call, this file does not know."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from typing import Final, Protocol

from engine.clock import Clock, Deadline
from engine.errors import VireoError
from engine.generation.call import GenerationAnswer, GenerationCall, GenerationKind
from engine.generation.language_model import ModelCard
from engine.placement import DeploymentSpec, deployment_of
from engine.request import INTERACTIVE, Request, Response, Stage
from engine.servables.servable import RemoteCall, Tensors, Told, Traits
from engine.servables.signature import Signature
from engine.work import current_work, interruptible_work

LINK_CALLS_MAX: Final = 32
"""To one servable of another deployment, from one replica, where each call has a thread: those that are answered in parts."""


@dataclass(frozen=True, slots=True)
class Described:
    """What a servable elsewhere takes and gives, and whether one request may have many responses."""

    signature: Signature
    streams: bool


class LinkCall(Protocol):
    """One call on its way. `cancel` may be called from any thread, more than once."""

    def result(self) -> Response:
        """Waits for the response. Raises VireoError: what the other side said, Unavailable where it is lost."""

    def parts(self) -> Generator[Response, None, None]:
        """In its place, the responses one by one; closing the generator stops the work."""

    def cancel(self) -> None:
        """Nobody waits any more: the work is dropped there too, and who waits here hears Cancelled."""


Answered = Callable[[Response | VireoError], None]
"""What a link tells of a request."""


@dataclass(frozen=True, slots=True)
class DescribedLanguage:
    """What a language model elsewhere answers, and by which names."""

    kinds: frozenset[GenerationKind]
    cards: tuple[ModelCard, ...]


class LanguageLink(Protocol):
    """The way to the language models of one deployment. Awaited on the loop of `LanguageModel.answer`."""

    async def describe(self, name: str, declared: str) -> DescribedLanguage:
        """Of a model there, as soon as a replica has it warmed and `declared` so (see `fingerprint_of`); where there is none,
        one comes. Raises VireoError."""

    async def answer(self, call: GenerationCall) -> GenerationAnswer:
        """See `LanguageModel`; with the first bytes of the answer. Raises Unavailable too, where the way there is lost."""


class Link(Protocol):
    """The way to one deployment. Any thread may call it."""

    @property
    def languages(self) -> LanguageLink:
        """The way to its language models."""

    def describe(self, name: str, version: int, declared: str | None = None) -> Described:
        """Of a servable there, once it is warmed, `declared` so (see `fingerprint_of`) where that is said. Raises VireoError."""

    def send(
        self, request: Request, declared: str, answered: Answered, *, alone: bool, patient: bool = True
    ) -> RemoteCall:
        """Lets a request go out with the next `flush`; unless it is to go `alone`, those to one servable may go together, and
        wait for each other's answers. It is computed by a servable that is `declared` so, though another be there by now.
        `answered` is called once, on the link's thread: where `patient`, perhaps a little past the deadline, at which the other
        side answers by itself."""

    def flush(self) -> None:
        """Lets go what was given to `send`."""

    def begin(self, request: Request, *, stream: bool) -> LinkCall:
        """Sends a request off."""


@dataclass(frozen=True, slots=True)
class Way:
    """To a language model that is placed apart: its deployment, and the link there."""

    deployment: str
    placed: DeploymentSpec
    link: LanguageLink


def way_to(name: str, placement: Mapping[str, DeploymentSpec], links: Mapping[str, Link]) -> Way | None:
    """None where `name` runs here. `links`: by deployment."""
    deployment = deployment_of(placement, name)
    if deployment is None or deployment not in links:
        return None
    return Way(deployment, placement[deployment], links[deployment].languages)


class Linked:
    """Calls a servable over a link, with the deadline, the trace and the cancellation of what it computes for."""

    def __init__(
        self, name: str, version: int, deployment: str, link: Link, signature: Signature, clock: Clock, declared: str
    ) -> None:
        self._name, self._version, self._declared = name, version, declared
        self._deployment, self._link, self._clock = deployment, link, clock
        self.signature = signature
        self.traits = Traits("vireo_linked", "what waits for a call goes as one", (f"in deployment {deployment}",))

    def send(self, request: Request, deadline_ns: int, told: Told, *, patient: bool = True) -> RemoteCall:
        """See `RemoteServable.send`; `patient`: see `Link.send`."""
        begun_ns = self._clock()

        def answered(outcome: Response | VireoError) -> None:
            if isinstance(outcome, VireoError):
                told(outcome)
            else:
                told(outcome.outputs, (self._stage(outcome, begun_ns),))

        sent = replace(request, model=self._name, version=self._version, deadline=Deadline(deadline_ns))
        alone = not self.signature.batchable or bool(request.after)  # who waits for events holds up nobody else
        return self._link.send(sent, self._declared, answered, alone=alone, patient=patient)

    def flush(self) -> None:
        """See `RemoteServable.flush`."""
        self._link.flush()

    def execute(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        """See `Servable.execute`."""
        begun_ns = self._clock()
        call = self._begin(inputs, outputs, stream=False)
        work = interruptible_work()
        with nullcontext() if work is None else work.interrupting(call.cancel):
            response = call.result()
        if (there := current_work()) is not None:
            there.tell_stages((self._stage(response, begun_ns),))
        return response.outputs

    def _begin(self, inputs: Tensors, outputs: Sequence[str], *, stream: bool) -> LinkCall:
        work = current_work()
        request = Request(
            self._name, inputs, self._version, outputs=tuple(outputs),
            deadline=Deadline.NEVER if work is None else work.deadline,
            priority=INTERACTIVE if work is None else work.priority,
            trace=None if work is None else work.trace,
        )  # fmt: skip
        return self._link.begin(request, stream=stream)

    def _stage(self, response: Response, begun_ns: int) -> Stage:
        """The way there, the wait there and the way back are its wait: how they share it, two clocks cannot tell."""
        ended_ns, ledger = self._clock(), response.ledger
        started_ns = max(begun_ns, ended_ns - ledger.compute_ns)
        left_ns = Deadline.NEVER.at_ns
        return Stage(self._deployment, begun_ns, started_ns, ended_ns, ledger.batch_rows, left_ns, critical=True)

    def close(self) -> None:
        """The link is its owner's."""


class LinkedStream(Linked):
    """The same of a servable that answers one request with many responses."""

    def stream(self, inputs: Tensors, outputs: Sequence[str]) -> Generator[Tensors, None, None]:
        """See `StreamingServable.stream`."""
        call = self._begin(inputs, outputs, stream=True)
        work = interruptible_work()
        with nullcontext() if work is None else work.interrupting(call.cancel), closing(call.parts()) as parts:
            for each in parts:
                yield each.outputs


def load_linked(name: str, version: int, deployment: str, link: Link, clock: Clock, declared: str) -> Linked:
    """The servable as it is there, once it is `declared` so. Raises what the link does."""
    found = link.describe(name, version, declared)
    kind = LinkedStream if found.streams else Linked
    return kind(name, version, deployment, link, found.signature, clock, declared)
