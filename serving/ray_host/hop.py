"""What goes from one replica to another: requests and responses as plain tuples, tensors as their own buffers. Knows no Ray.

Instants are told on the wall clock, which the machines of a cluster have in common to within milliseconds.
"""

from __future__ import annotations

import time
from dataclasses import astuple
from typing import Any, Final

from engine import (
    NEVER_NS,
    Cancelled,
    Clock,
    DataLoss,
    Deadline,
    DeadlineExceeded,
    Described,
    DescribedLanguage,
    FailedPrecondition,
    GenerationAnswer,
    GenerationCall,
    GenerationKind,
    Internal,
    InvalidArgument,
    Ledger,
    ModelCard,
    ModelLoadError,
    NotFound,
    Request,
    ResourceExhausted,
    Response,
    Signature,
    Tensor,
    TensorSpec,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    VireoError,
    datatype_named,
)

Message = tuple[Any, ...]
_ERRORS: Final[dict[str, type[VireoError]]] = {
    each.__name__: each
    for each in (
        Cancelled, DataLoss, DeadlineExceeded, FailedPrecondition, Internal, InvalidArgument, ModelLoadError, NotFound,
        ResourceExhausted, TooLarge, Unauthenticated, Unavailable, Unimplemented,
    )
}  # fmt: skip
"""By which an error is told; one of a class below them is told as the nearest above it."""


def _tensors(tensors: Any) -> tuple[tuple[str, str, Any], ...]:  # noqa: ANN401
    return tuple((name, each.datatype.name, each.array) for name, each in tensors.items())


def _read_tensors(told: Any) -> dict[str, Tensor]:  # noqa: ANN401
    return {name: Tensor(datatype_named(datatype, of=name), array) for name, datatype, array in told}


def _told_deadline(deadline: Deadline, clock: Clock) -> int | None:
    return None if deadline.at_ns == NEVER_NS else time.time_ns() + deadline.at_ns - clock()


def _read_deadline(wall_ns: int | None, clock: Clock) -> Deadline:
    return Deadline.NEVER if wall_ns is None else Deadline(clock() + wall_ns - time.time_ns())


def request_message(request: Request, clock: Clock) -> Message:
    """`request`, whose deadline is on `clock`."""
    wall_ns = _told_deadline(request.deadline, clock)
    return (
        request.model, request.version, _tensors(request.inputs), request.outputs, wall_ns, request.priority, request.trace,
        request.after,
    )  # fmt: skip


def request_of(message: Message, clock: Clock) -> Request:
    """The request, its deadline on this process's `clock`."""
    model, version, inputs, outputs, wall_ns, priority, trace, after = message
    return Request(
        model, _read_tensors(inputs), version, outputs=outputs, deadline=_read_deadline(wall_ns, clock), priority=priority,
        trace=trace, after=after,
    )  # fmt: skip


def response_message(response: Response) -> Message:
    """`response`, with what it took."""
    ledger = response.ledger
    spent = (ledger.queue_ns, ledger.compute_ns, ledger.batch_rows)
    return "response", response.model, response.version, _tensors(response.outputs), spent, response.marks


def error_message(error: VireoError) -> Message:
    """`error`, by the nearest class that both sides know."""
    kind = next((each.__name__ for each in type(error).__mro__ if each.__name__ in _ERRORS), "Internal")
    return "error", kind, error.message, error.retry_after_s


def response_of(message: Message) -> Response:
    """The response; its ledger begins at 0. Raises the error that was told."""
    found = outcome_of(message)
    if isinstance(found, VireoError):
        raise found
    return found


def error_of(message: Message) -> VireoError:
    """The error that `error_message` told."""
    _, kind, text, retry_after_s = message
    return _ERRORS.get(kind, Internal)(text, retry_after_s=retry_after_s)


def outcome_of(message: Message) -> Response | VireoError:
    """The response, or the error that was told."""
    if message[0] == "error":
        return error_of(message)
    _, model, version, outputs, (queue_ns, compute_ns, rows), marks = message
    ledger = Ledger(0, queue_ns, queue_ns + compute_ns, rows)
    return Response(model, version, _read_tensors(outputs), ledger, marks=marks)


def description_message(described: Described) -> Message:
    """What a servable takes and gives."""
    signature = described.signature
    sides = [
        tuple((each.name, each.datatype.name, each.shape, each.optional, each.embedder) for each in side)
        for side in (signature.inputs, signature.outputs)
    ]
    return "description", *sides, signature.batchable, signature.rows_max, described.streams


def description_of(message: Message) -> Described:
    """The same, read. Raises the error that was told."""
    if message[0] == "error":
        raise error_of(message)
    _, inputs, outputs, batchable, rows_max, streams = message
    return Described(Signature(_read_side(inputs), _read_side(outputs), batchable, rows_max), streams)


def _read_side(told: Any) -> tuple[TensorSpec, ...]:  # noqa: ANN401
    return tuple(TensorSpec(name, datatype_named(kind, of=name), shape, *more) for name, kind, shape, *more in told)


def generation_message(call: GenerationCall, clock: Clock) -> Message:
    """A call of a language model, whose deadline is on `clock`."""
    wall_ns = _told_deadline(call.deadline, clock)
    return str(call.kind), call.model, call.body, wall_ns, call.tenant, call.priority, call.id, call.trace, call.fresh


def generation_of(message: Message, clock: Clock) -> GenerationCall:
    """The call, its deadline on this process's `clock`."""
    kind, model, body, wall_ns, *more = message
    return GenerationCall(GenerationKind(kind), model, body, _read_deadline(wall_ns, clock), *more)


def head_message(answer: GenerationAnswer) -> Message:
    """An answer of a language model as far as it goes before its chunks: None stands for these."""
    return "answer", answer.body if isinstance(answer.body, bytes) else None, answer.status, answer.headers


def language_message(described: DescribedLanguage) -> Message:
    """What a language model answers, and by which names."""
    return "language", tuple(map(str, described.kinds)), tuple(map(astuple, described.cards))


def language_of(message: Message) -> DescribedLanguage:
    """The same, read. Raises the error that was told."""
    if message[0] == "error":
        raise error_of(message)
    _, kinds, cards = message
    return DescribedLanguage(frozenset(map(GenerationKind, kinds)), tuple(ModelCard(*each) for each in cards))
