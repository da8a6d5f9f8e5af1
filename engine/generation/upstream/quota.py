"""How much of a language model each tenant may still use: token buckets, filled evenly over each minute. Pure.

A call reserves what it may use when it is admitted; when it has ended, what it did use is put in its place. What was
used beyond a reservation is owed: the bucket goes below zero, and the tenant waits longer.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from engine.errors import ResourceExhausted, quoted
from engine.generation.upstream.declaration import QuotaSpec, QuotasSpec
from engine.limits import TENANTS_MAX

_MINUTE_NS: Final = 60 * 10**9


class _Bucket:
    """`capacity` a minute; full at first."""

    def __init__(self, capacity: int, now_ns: int) -> None:
        self.capacity = capacity
        self._level = float(capacity)
        self._at_ns = now_ns

    def level(self, now_ns: int) -> float:
        if now_ns > self._at_ns:
            gained = (now_ns - self._at_ns) * self.capacity / _MINUTE_NS
            self._level = min(float(self.capacity), self._level + gained)
            self._at_ns = now_ns
        return self._level

    def lacks_s(self, wanted: float, now_ns: int) -> float:
        """Seconds until it holds `wanted`, of which more than it can hold is not asked; 0 where it does now."""
        missing = min(wanted, self.capacity) - self.level(now_ns)
        return 0.0 if missing <= 0 else missing * 60 / self.capacity

    def take(self, amount: float) -> None:
        self._level -= amount

    def give_back(self, amount: float) -> None:
        self._level = min(float(self.capacity), self._level + amount)


@dataclass(slots=True)
class _Tenant:
    tokens: _Bucket | None
    requests: _Bucket | None

    def full(self, now_ns: int) -> bool:
        return all(each is None or each.level(now_ns) >= each.capacity for each in (self.tokens, self.requests))


class Reservation:
    """What one call may use; `settle` says what it did, once."""

    __slots__ = ("_reserved", "_tokens")

    def __init__(self, tokens: _Bucket | None, reserved: int) -> None:
        self._tokens = tokens
        self._reserved = reserved

    def settle(self, used: int, now_ns: int) -> None:
        """The call used so many tokens: what it did not use can be used by others."""
        if self._tokens is None:
            return
        self._tokens.level(now_ns)
        if used <= self._reserved:
            self._tokens.give_back(self._reserved - used)
        else:
            self._tokens.take(used - self._reserved)
        self._tokens = None


class Quotas:
    """The buckets of every tenant of one model. Only one thread may use it."""

    def __init__(self, spec: QuotasSpec, model: str) -> None:
        self._spec = spec
        self._model = model
        self._tenants: OrderedDict[str, _Tenant] = OrderedDict()

    def admit(self, tenant: str | None, wanted: int, now_ns: int) -> Reservation:
        """Reserves `wanted` tokens for a call of `tenant`; of one that wants more than a minute's, a minute's.

        Raises ResourceExhausted, with when to try again, where its quota is used up.
        """
        found = self._find(tenant or "", now_ns)
        if found is None:
            return Reservation(None, 0)
        self._check(tenant, "requests", found.requests, 1, now_ns)
        self._check(tenant, "tokens", found.tokens, wanted, now_ns)
        if found.requests is not None:
            found.requests.take(1)
        if found.tokens is None:
            return Reservation(None, 0)
        reserved = min(wanted, found.tokens.capacity)
        found.tokens.take(reserved)
        return Reservation(found.tokens, reserved)

    def _check(self, tenant: str | None, what: str, bucket: _Bucket | None, wanted: int, now_ns: int) -> None:
        if bucket is None or (wait_s := bucket.lacks_s(wanted, now_ns)) <= 0:
            return
        who = "calls without a tenant" if tenant is None else f"tenant {quoted(tenant)}"
        raise ResourceExhausted(
            f"model {quoted(self._model)}: the quota of {who} of {bucket.capacity} {what} a minute is used up: "
            f"this call may need {wanted}, {max(0, int(bucket.level(now_ns)))} are left",
            retry_after_s=wait_s,
        )

    def _find(self, tenant: str, now_ns: int) -> _Tenant | None:
        spec = self._spec.tenants.get(tenant) or self._spec.default
        if spec is None:
            return None
        found = self._tenants.get(tenant)
        if found is None:
            self._forget(now_ns)
            found = self._tenants[tenant] = _tenant(spec, now_ns)
        self._tenants.move_to_end(tenant)
        return found

    def _forget(self, now_ns: int) -> None:
        """Makes room: of who has not come for longest, a few whose buckets are full again, which loses nothing; or
        else the first."""
        if len(self._tenants) < TENANTS_MAX:
            return
        oldest = [name for name, _ in zip(self._tenants, range(16), strict=False)]
        full = [name for name in oldest if self._tenants[name].full(now_ns)]
        for name in full or oldest[:1]:
            del self._tenants[name]


def _tenant(spec: QuotaSpec, now_ns: int) -> _Tenant:
    def bucket(capacity: int | None) -> _Bucket | None:
        return None if capacity is None else _Bucket(capacity, now_ns)

    return _Tenant(bucket(spec.tokens_per_minute), bucket(spec.requests_per_minute))
