"""What a status that is no success means: whose fault it is, whether asking again can help, and when. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from engine.generation.upstream.dialect import Json
from engine.generation.upstream.routing import Outcome

_OVERLOADED: Final = 529
"""Anthropic's status for "too busy"."""

_ACCOUNT_EMPTY: Final = frozenset({"insufficient_quota", "billing_error", "billing_hard_limit_reached"})
"""Errors of status 429 or 400 that no waiting mends."""

_OURS: Final = frozenset({401, 402, 403, 404, 405, 407})
"""This server's credentials, or the address or model that its spec names, are at fault: the caller gave none of
them."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """`outcome` for the routing; `retry_after_s` where the server says it; `spent`: asking the same server again is of
    no use."""

    outcome: Outcome
    retry_after_s: float | None = None
    spent: bool = False


def refusal(status: int, headers: Mapping[str, str], error: Json, now_s: float) -> Refusal:
    """What it means that a server answered with `status` (not 2xx) and `error` (in OpenAI's shape). `now_s`: since
    1970."""
    after_s = retry_after_s(headers, now_s)
    told_no = headers.get("x-should-retry") == "false"
    if error.get("code") in _ACCOUNT_EMPTY or error.get("type") in _ACCOUNT_EMPTY or status in _OURS:
        return Refusal(Outcome.FAILED, spent=True)
    if status in (429, _OVERLOADED):
        return Refusal(Outcome.LIMITED, after_s, told_no)
    if status in (408, 409) or status >= 500 or status < 400:
        return Refusal(Outcome.FAILED, after_s, told_no or status < 400)
    return Refusal(Outcome.ANSWERED)


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """Seconds to wait by `retry-after-ms` or `retry-after` (RFC 9110: seconds or a date); None where neither says."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * unit
        except ValueError:
            seconds = _until(value, now_s)
        if math.isfinite(seconds):
            return max(0.0, seconds)
    return None


def _until(date: str, now_s: float) -> float:
    try:
        instant = parsedate_to_datetime(date)
    except ValueError:
        return math.nan
    return instant.replace(tzinfo=instant.tzinfo or UTC).timestamp() - now_s
