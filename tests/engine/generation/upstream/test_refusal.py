"""What statuses of other servers mean."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from engine.generation.upstream.refusal import refusal, retry_after_s
from engine.generation.upstream.routing import Outcome


@pytest.mark.parametrize(
    ("status", "error", "outcome", "spent"),
    [
        (400, {}, Outcome.ANSWERED, False),
        (413, {}, Outcome.ANSWERED, False),
        (422, {}, Outcome.ANSWERED, False),
        (501, {}, Outcome.FAILED, False),
        (400, {"type": "billing_error"}, Outcome.FAILED, True),
        (401, {}, Outcome.FAILED, True),
        (403, {}, Outcome.FAILED, True),
        (404, {}, Outcome.FAILED, True),
        (408, {}, Outcome.FAILED, False),
        (409, {}, Outcome.FAILED, False),
        (429, {}, Outcome.LIMITED, False),
        (429, {"code": "insufficient_quota"}, Outcome.FAILED, True),
        (500, {}, Outcome.FAILED, False),
        (503, {}, Outcome.FAILED, False),
        (529, {"type": "overloaded_error"}, Outcome.LIMITED, False),
        (302, {}, Outcome.FAILED, True),
    ],
)
def test_faults_are_told_apart(status: int, error: dict[str, object], outcome: Outcome, spent: bool) -> None:
    found = refusal(status, {}, error, 0.0)
    assert (found.outcome, found.spent) == (outcome, spent)


def test_a_server_that_says_not_to_try_again_is_believed() -> None:
    assert refusal(500, {"x-should-retry": "false"}, {}, 0.0).spent


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "7", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": formatdate(1_000_030, usegmt=True)}, 30.0),
        ({"retry-after": formatdate(999_000, usegmt=True)}, 0.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Fri, 31 Foo 2026"}, None),
    ],
)
def test_retry_after_is_seconds_milliseconds_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, 1_000_000.0) == seconds
