"""One admitted request on its way to a batch. Owned by the worker; only `cancel` may be called from elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Callable

from engine.errors import Cancelled, VireoError
from engine.request import Ledger, Request, Response

log = logging.getLogger("vireo.scheduling")

Shape = tuple[tuple[str, tuple[int, ...]], ...]


class Job:
    """A request, what batching needs to know of it, and at the end its response or its error.

    `done` is called exactly once, on whichever thread ended the job; before it `release`, where set, which gives back what
    the job held. `part`, where given, receives each response of a streaming servable before that; it may block to hold the
    servable back. `on_cancel`, where set, is called by `cancel`, on its thread. `deadline_ns` is the request's own until
    somebody sets another before the job is submitted. `expected_wait_ns` is what the worker foretold, 0 where it did not.
    """

    __slots__ = (
        "bytes_size",
        "cancelled",
        "deadline_ns",
        "done",
        "error",
        "expected_wait_ns",
        "ledger",
        "marks",
        "on_cancel",
        "part",
        "release",
        "request",
        "response",
        "rows",
    )

    def __init__(
        self,
        request: Request,
        rows: int,
        ledger: Ledger,
        done: Callable[[Job], None],
        part: Callable[[Response], None] | None = None,
    ) -> None:
        self.request = request
        self.rows = rows
        self.ledger = ledger
        self.deadline_ns = request.deadline.at_ns
        self.done = done
        self.part = part
        self.release: Callable[[], None] | None = None
        self.cancelled = False
        self.expected_wait_ns = 0.0
        self.on_cancel: Callable[[], None] | None = None
        self.marks: tuple[str, ...] = ()
        self.response: Response | None = None
        self.error: VireoError | None = None
        layout = request.layout
        if layout is not None:
            self.bytes_size = layout.bytes_size
        else:
            self.bytes_size = sum([each.bytes_size for each in request.inputs.values()])

    @property
    def shape(self) -> Shape:
        """What another job must have alike to run in one batch: input names, and their shapes without the rows."""
        layout = self.request.layout
        if layout is not None:
            return layout.row_shapes
        return tuple([(name, each.array.shape[1:]) for name, each in self.request.inputs.items()])

    def cancel(self) -> None:
        """Nobody waits any more: not computed if it has not started, its answer dropped if it has."""
        self.cancelled = True
        if self.on_cancel is not None:
            self.on_cancel()

    def taken_error(self) -> VireoError:
        """Why there is no response. The job forgets it: raised, it holds the frames that hold the job."""
        error, self.error = self.error, None
        return error or Cancelled("the request ended without an answer")

    def finish(self, outcome: Response | VireoError) -> None:
        """Ends the job and tells its caller, whose own failure is logged: it must not cost others their answer."""
        if isinstance(outcome, VireoError):
            self.error = outcome
        else:
            self.response = outcome
        if self.release is not None:
            self.release()
        try:
            self.done(self)
        except Exception:
            log.exception("model %s: a caller failed on the answer to its request", self.request.model)
