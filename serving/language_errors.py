"""Errors in the form of the OpenAI API: `{"error": {"message", "type", "param", "code"}}`. Pure."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final

from engine import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    VireoError,
    event_bytes,
)
from serving.http_app import Reply, error_reply, json_reply
from serving.status import told

_KINDS: Final[dict[type[VireoError], tuple[str, str | None, str | None]]] = {
    InvalidArgument: ("invalid_request_error", None, None),
    NotFound: ("invalid_request_error", "model", "model_not_found"),
    FailedPrecondition: ("invalid_request_error", None, None),
    TooLarge: ("invalid_request_error", None, "request_too_large"),
    ResourceExhausted: ("rate_limit_error", None, "rate_limit_exceeded"),
    Unauthenticated: ("authentication_error", None, "invalid_api_key"),
    Unimplemented: ("invalid_request_error", None, "unsupported"),
    Unavailable: ("server_error", None, "unavailable"),
    DeadlineExceeded: ("server_error", None, "timeout"),
    VireoError: ("server_error", None, None),
}
"""Class: type, param, code. A subclass without a line of its own has its parent's."""


def language_error(error: VireoError) -> dict[str, Any]:
    """As a JSON object."""
    kind, param, code = next(_KINDS[each] for each in type(error).__mro__ if each in _KINDS)
    return {"error": {"message": told(error), "type": kind, "param": param, "code": code}}


def language_error_reply(error: VireoError) -> Reply:
    """The reply that tells `error`, with the status and headers that it has everywhere."""
    return replace(error_reply(error), body=json_reply(language_error(error)).body)


def language_error_event(error: VireoError) -> bytes:
    """A server-sent event that tells `error` on a stream that has begun."""
    return event_bytes(json.dumps(language_error(error)).encode())
