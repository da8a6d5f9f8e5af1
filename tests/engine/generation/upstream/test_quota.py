"""Quotas of tenants: token buckets on a clock of the test's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ResourceExhausted
from engine.generation.upstream import quota
from engine.generation.upstream.declaration import QuotaSpec, QuotasSpec
from engine.generation.upstream.quota import Quotas

SECOND = 10**9
MINUTE = 60 * SECOND


def _quotas(default: QuotaSpec | None = None, **tenants: QuotaSpec) -> Quotas:
    return Quotas(QuotasSpec(tenants, default), "chat")


def test_a_tenant_past_its_tokens_is_refused_and_told_when_there_are_enough_again() -> None:
    quotas = _quotas(acme=QuotaSpec(tokens_per_minute=600))
    quotas.admit("acme", 500, 0)
    with pytest.raises(ResourceExhausted, match="tenant 'acme' of 600 tokens a minute is used up") as refused:
        quotas.admit("acme", 200, 0)
    assert refused.value.retry_after_s == pytest.approx(10.0)
    quotas.admit("acme", 200, 10 * SECOND)
    quotas.admit("other", 10**9, 0)  # has no quota


def test_what_a_call_did_not_use_can_be_used_and_what_it_used_beyond_is_owed() -> None:
    quotas = _quotas(acme=QuotaSpec(tokens_per_minute=600))
    quotas.admit("acme", 600, 0).settle(100, 0)
    small = quotas.admit("acme", 500, 0)
    small.settle(1_100, 0)
    small.settle(1_100, 0)  # only the first counts
    with pytest.raises(ResourceExhausted) as refused:
        quotas.admit("acme", 1, 0)
    assert refused.value.retry_after_s == pytest.approx(60.1)


def test_a_call_that_may_use_more_than_a_minutes_tokens_takes_a_full_bucket() -> None:
    quotas = _quotas(acme=QuotaSpec(tokens_per_minute=600))
    quotas.admit("acme", 10_000, 0)
    with pytest.raises(ResourceExhausted):
        quotas.admit("acme", 10_000, MINUTE - SECOND)
    quotas.admit("acme", 10_000, MINUTE)


def test_requests_are_bounded_apart_from_tokens_and_a_refused_one_costs_neither() -> None:
    quotas = _quotas(QuotaSpec(tokens_per_minute=100, requests_per_minute=2))
    quotas.admit(None, 40, 0)
    with pytest.raises(ResourceExhausted, match="100 tokens"):
        quotas.admit(None, 70, 0)
    quotas.admit(None, 40, 0)
    with pytest.raises(ResourceExhausted, match="calls without a tenant of 2 requests a minute"):
        quotas.admit(None, 1, 0)
    quotas.admit("somebody", 40, 0)


def test_a_tenant_that_owes_is_not_forgotten_while_there_are_others_who_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota, "TENANTS_MAX", 3)
    quotas = _quotas(QuotaSpec(tokens_per_minute=60))
    quotas.admit("owes", 60, 0)
    for name in ("a", "b"):
        quotas.admit(name, 0, 0)
    quotas.admit("c", 0, SECOND)
    with pytest.raises(ResourceExhausted):
        quotas.admit("owes", 60, SECOND)


@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.integers(0, 900), st.integers(0, 900)), min_size=1, max_size=60
    )
)  # fmt: skip
def test_no_tenant_uses_more_than_its_quota_in_the_long_run(calls: list[tuple[int, int, int]]) -> None:
    """What is used by calls that have ended is at most the bucket, what has flowed into it, and the last call's
    excess."""
    quotas = _quotas(acme=QuotaSpec(tokens_per_minute=600))
    now_ns = used = excess = 0
    for pause_s, wanted, does_use in calls:
        now_ns += pause_s * SECOND
        try:
            reservation = quotas.admit("acme", wanted, now_ns)
        except ResourceExhausted:
            continue
        reservation.settle(does_use, now_ns)
        used += does_use
        excess = max(excess, does_use - min(wanted, 600))
    assert used <= 600 + now_ns / MINUTE * 600 + excess + 1
