"""The one table from errors to wire codes, for every front, and what a gRPC error says beside its code and message."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from engine import (
    Cancelled,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    VireoError,
    limits,
)

OK: Final = 0

# class: (gRPC status code, its name, HTTP status). A subclass without a line of its own has its parent's.
_CODES: Final[dict[type[VireoError], tuple[int, str, int]]] = {
    InvalidArgument: (3, "INVALID_ARGUMENT", 400),
    NotFound: (5, "NOT_FOUND", 404),
    FailedPrecondition: (9, "FAILED_PRECONDITION", 400),
    TooLarge: (8, "RESOURCE_EXHAUSTED", 413),
    ResourceExhausted: (8, "RESOURCE_EXHAUSTED", 429),
    DeadlineExceeded: (4, "DEADLINE_EXCEEDED", 504),
    Cancelled: (1, "CANCELLED", 499),
    Unavailable: (14, "UNAVAILABLE", 503),
    DataLoss: (15, "DATA_LOSS", 500),
    Unauthenticated: (16, "UNAUTHENTICATED", 401),
    Unimplemented: (12, "UNIMPLEMENTED", 501),
    Internal: (13, "INTERNAL", 500),
    VireoError: (2, "UNKNOWN", 500),
}


# of two with one name the general one, which stands later
_NAMED: Final = {name: kind for kind, (_, name, _) in _CODES.items()}


def error_named(status: str) -> type[VireoError]:
    """What a server means by the name of a gRPC status; Internal where it is none."""
    return _NAMED.get(status, Internal)


def _codes(error: VireoError) -> tuple[int, str, int]:
    return next(_CODES[kind] for kind in type(error).__mro__ if kind in _CODES)


def grpc_code(error: VireoError) -> int:
    """The number of the gRPC status of `error`."""
    return _codes(error)[0]


def grpc_name(error: VireoError) -> str:
    """The name of the gRPC status of `error`, also the `code` label of metrics."""
    return _codes(error)[1]


def grpc_status_name(code: int) -> str:
    """The name of a gRPC status code that this server uses."""
    return next(name for number, name, _ in _CODES.values() if number == code)


def http_status(error: VireoError) -> int:
    """The HTTP status of `error`."""
    return _codes(error)[2]


def told(error: VireoError) -> str:
    """The message of `error` as callers may be told it: of bounded length, and text that can be encoded."""
    encoded = error.message.encode("utf-8", "backslashreplace")
    if len(encoded) <= limits.ERROR_BYTES_MAX:
        return encoded.decode()
    return encoded[: limits.ERROR_BYTES_MAX].decode(errors="ignore") + f"... ({len(encoded)} bytes)"


def retry_after_ms(error: VireoError) -> int | None:
    """When to try again, in milliseconds; None where trying again cannot help or nobody knows when."""
    if not error.retryable or error.retry_after_s is None:
        return None
    return max(1, round(error.retry_after_s * 1000))


def trailing_metadata(error: VireoError) -> list[tuple[str, str | bytes]]:
    """What a gRPC answer that tells `error` carries besides its code and message; a name of binary values ends in -bin."""
    pushback_ms = retry_after_ms(error)
    details = status_details(grpc_code(error), told(error), _reason(type(error).__name__), pushback_ms)
    told_when = [] if pushback_ms is None else [("grpc-retry-pushback-ms", str(pushback_ms))]
    return [*told_when, (DETAILS, details)]


DETAILS: Final = "grpc-status-details-bin"
_DOMAIN: Final = "vireo"


def status_details(code: int, message: str, reason: str, pushback_ms: int | None = None) -> bytes:
    """A `google.rpc.Status` with an ErrorInfo, and a RetryInfo where it is known when to try again (AIP-193).

    Its parts are encoded apart, since most are alike from error to error: protobuf reads messages one behind the other as
    one, their repeated fields joined.
    """
    encoded: bytes = Status(code=code, message=message).SerializeToString() + _error_info(reason)
    return encoded if pushback_ms is None else encoded + _retry_info(pushback_ms)


@lru_cache
def _reason(class_name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", class_name).upper()


@lru_cache
def _error_info(reason: str) -> bytes:
    return _detail(ErrorInfo(reason=reason, domain=_DOMAIN))


@lru_cache(maxsize=1024)
def _retry_info(pushback_ms: int) -> bytes:
    info = RetryInfo()
    info.retry_delay.FromMilliseconds(pushback_ms)
    return _detail(info)


def _detail(info: Message) -> bytes:
    status = Status()
    status.details.add().Pack(info)
    encoded: bytes = status.SerializeToString()
    return encoded
