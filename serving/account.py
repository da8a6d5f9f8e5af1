"""What a request is told beside its answer, to those who asked for it: its ledger, and its place in a trace."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, TypeVar

from engine import Cancelled, Clock, DeadlineExceeded, Request, Response, VireoError
from serving.asked import TRACEPARENT, Asked
from serving.ledger import LEDGER, Timeline, encode_ledger, timeline_of

if TYPE_CHECKING:
    from serving.tracing import RequestSpan, Tracing

Outcome = TypeVar("Outcome")

Pairs = list[tuple[str, str]]
"""Names and values of headers, or of gRPC metadata."""


class Accounts:
    """Opens an account for each request of which somebody wants one. Only the event loop's thread may call it."""

    def __init__(self, clock: Clock, tracing: Tracing | None = None) -> None:
        self._clock = clock
        self.tracing = tracing

    def open(self, request: Request, asked: Asked | None, received_ns: int, *, drawn: bool = False) -> Account | None:
        """The account of a `request` whose first byte was read at `received_ns` and that nobody else has seen yet: it gets
        the priority and the trace that are asked for. None where nobody wants one. `drawn`: it is to be traced, by chance.
        """
        parent = None
        if asked is not None:
            parent = asked.parent
            if asked.priority is not None:
                request.priority = asked.priority
            if parent is not None:
                request.trace = str(parent)
        span = None
        if self.tracing is not None and (drawn or self.tracing.wants(parent)):
            span = self.tracing.begin(request, parent, "" if asked is None else asked.state, received_ns)
        if span is not None:
            request.trace = span.traceparent
        ledger = asked is not None and asked.ledger
        return Account(self._clock, request, received_ns, span, ledger=ledger) if ledger or span is not None else None


async def accounted(account: Account | None, work: Awaitable[Outcome]) -> Outcome:
    """What comes of `work`; where that is an error, the account is told."""
    try:
        return await work
    except BaseException as error:
        if account is not None:
            account.failed(error)
        raise


class Account:
    """Of one request. One of `answered`, `ended`, `failed` and `dropped` ends it. `timeline` is that of the last answer."""

    __slots__ = ("_clock", "_ledger", "_received_ns", "_request", "_span", "timeline")
    timeline: Timeline

    def __init__(
        self, clock: Clock, request: Request, received_ns: int, span: RequestSpan | None, *, ledger: bool
    ) -> None:
        self._clock, self._request, self._received_ns = clock, request, received_ns
        self._span, self._ledger = span, ledger

    def answered(self, response: Response) -> Pairs:
        """What goes out with the only answer; to be asked when all else of it is made."""
        pairs = self.part(response)
        if self._span is not None:
            self._span.end(response, self.timeline)
        return pairs

    def part(self, response: Response) -> Pairs:
        """What goes out with one of several answers; the last is followed by `ended`."""
        self.timeline = timeline_of(self._request, response, self._received_ns, self._clock())
        pairs: Pairs = [(LEDGER, encode_ledger(self.timeline))] if self._ledger else []
        return pairs if self._span is None else [*pairs, (TRACEPARENT, self._span.traceparent)]

    def ended(self, last: Response | None) -> None:
        """All answers have been given."""
        if self._span is None:
            return
        if last is None:
            self._span.fail(Cancelled("it ended without an answer"), self._clock())
        else:
            self.part(last)
            self._span.end(last, self.timeline)

    def failed(self, error: BaseException) -> None:
        """The request ended without an answer."""
        if self._span is not None:
            known = error if isinstance(error, VireoError) else Cancelled("the work was cancelled")
            self._span.fail(known, self._clock())

    def dropped(self) -> None:
        """Nobody waits for the answer any more."""
        late = self._request.deadline.expired(self._clock())
        self.failed(DeadlineExceeded("deadline passed") if late else Cancelled("the caller has left"))
