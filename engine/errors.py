"""The one tree of errors that a user can meet. It knows no wire codes; `serving/status.py` maps classes to them.

A message says what was wrong with which object, what was expected and what came. `retryable` says whether the same call
may succeed later; `retry_after_s`, where known, says when.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar

from engine.limits import ECHO_CHARS_MAX


class VireoError(Exception):
    """Root of every error Vireo raises on purpose. `message` can always be encoded, whatever bytes a name was made of."""

    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        if not message.isascii():
            message = message.encode("utf-8", "backslashreplace").decode()
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s


class InvalidArgument(VireoError):
    """The caller's input is wrong and will stay wrong."""


class ModelFailed(InvalidArgument):
    """A model failed on inputs that fit its signature: their values are to blame, unless it fails on all of them."""


class SpecError(InvalidArgument):
    """The application spec is wrong; the message names the place in the file."""


class NotFound(VireoError):
    """The named object does not exist."""


class FailedPrecondition(VireoError):
    """The call is well formed but not allowed in the present state or configuration."""


class ModelLoadError(FailedPrecondition):
    """A model version could not be loaded or warmed up."""


class ResourceExhausted(VireoError):
    """A bound was met: queue full, message too large, or no chance to meet the deadline."""

    retryable = True


class TooLarge(ResourceExhausted):
    """A message or tensor exceeds a size bound; sending it again cannot help."""

    retryable = False


class DeadlineExceeded(VireoError):
    """The request's deadline passed before its work was done."""


class Cancelled(VireoError):
    """The caller went away or cancelled."""


class Unavailable(VireoError):
    """The object exists but does not serve now (loading, draining, shutting down)."""

    retryable = True


class Unauthenticated(VireoError):
    """The call carries no valid credentials."""


class Unimplemented(VireoError):
    """The protocol knows the call, this server does not offer it."""


class OffsetDeleted(FailedPrecondition):
    """The log no longer keeps the entry that was asked for."""


class DataLoss(VireoError):
    """Something stored is damaged or gone, and cannot be read again."""


class Internal(VireoError):
    """A fault inside the server or inside a model."""


def error_of_kind(name: str) -> type[VireoError]:
    """The class above of this name, as another process tells it; Internal where it is none."""
    found = globals().get(name)
    return found if isinstance(found, type) and issubclass(found, VireoError) else Internal


def quoted(text: str) -> str:
    """`text` in quotes, cut to a bounded length, control characters escaped: safe to echo."""
    short = text if len(text) <= ECHO_CHARS_MAX else f"{text[:ECHO_CHARS_MAX]}... ({len(text)} characters)"
    return f"'{short.encode('unicode_escape').decode('ascii')}'" if not short.isprintable() else f"'{short}'"


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint such as "; nearest: 'rows_max'" or, with nothing near, the sorted known names; empty if none are known."""
    names = sorted(known)
    close = difflib.get_close_matches(name[:ECHO_CHARS_MAX], names, n=1, cutoff=0.5)
    if close:
        return f"; nearest: {quoted(close[0])}"
    return f"; known: {', '.join(quoted(each) for each in names[:10])}" if names else ""
