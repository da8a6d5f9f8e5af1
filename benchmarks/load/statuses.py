"""How a request ended, as one small integer: 0..16 are gRPC codes, 100..599 HTTP codes, from 1000 on our own."""

OK = 0
UNKNOWN = 2
INTERNAL = 13
UNAVAILABLE = 14

UNANSWERED = 1001
UNSENT = 1002
PROTOCOL_BROKEN = 1003

GRPC_NAMES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
OWN_NAMES = {
    UNANSWERED: "no answer before the drain ended",
    UNSENT: "not sent: too many in flight",
    PROTOCOL_BROKEN: "broken protocol",
}

# RFC 9113 error code -> gRPC code, after the table in "gRPC over HTTP/2"; what is not here is INTERNAL.
RESET_TO_GRPC = {0x7: 14, 0x8: 1, 0xB: 8, 0xC: 7}


def status_name(status: int) -> str:
    """The words for a status, such as "UNAVAILABLE" or "HTTP 503"."""
    if status < len(GRPC_NAMES):
        return GRPC_NAMES[status]
    return OWN_NAMES.get(status, f"HTTP {status}")


def reset_status(error_code: int) -> int:
    """The gRPC code that stands for an HTTP/2 RST_STREAM error code."""
    return RESET_TO_GRPC.get(error_code, INTERNAL)
