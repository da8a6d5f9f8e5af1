"""What the declaration of an upstream model may say, checked before anything is loaded. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

from engine.errors import nearest, quoted
from engine.generation.handing_on import Asked, reached
from engine.generation.upstream.declaration import PriceSpec, QuotaSpec, TargetSpec, UpstreamSpec
from engine.limits import TENANTS_MAX, UPSTREAM_ATTEMPTS_CEILING, UPSTREAM_TARGETS_MAX

Problems = Iterator[tuple[str, str]]
"""Key below the declaration, and what is wrong there."""

_CREDENTIALS: Final = ("api_key_env", "api_key_file", "token_file", "token_command", "entra")
_OWN_HEADERS: Final = frozenset(
    {"authorization", "api-key", "x-api-key", "proxy-authorization", "cookie", "content-type", "content-length", "host"}
)
_CURRENCY: Final = re.compile("[A-Z]{3}")
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def upstream_problems(name: str, spec: UpstreamSpec, asked: Asked) -> Problems:
    """What is wrong with the model `name`."""
    if not 1 <= len(spec.targets) <= UPSTREAM_TARGETS_MAX:
        yield "targets", f"must be from 1 to {UPSTREAM_TARGETS_MAX}, got {len(spec.targets)}"
    for called, target in spec.targets.items():
        for key, what in _target(target):
            yield f"targets.{called}.{key}".rstrip("."), what
    for index, each in enumerate(spec.fallback):
        if each not in asked:
            yield f"fallback[{index}]", f"no language model is called {quoted(each)}{nearest(each, asked)}"
        elif name in reached(each, asked):
            yield f"fallback[{index}]", f"{quoted(each)} asks {quoted(name)} in turn"
    yield from _ranges(
        ("retry.attempts_max", spec.retry.attempts_max, 1, UPSTREAM_ATTEMPTS_CEILING),
        ("retry.backoff_s_min", spec.retry.backoff_s_min, 0, spec.retry.backoff_s_max),
        ("retry.backoff_s_max", spec.retry.backoff_s_max, 0, 3600),
        ("retry.retry_after_s_max", spec.retry.retry_after_s_max, 0, 3600),
        ("retry.share", spec.retry.share, 0, 10),
        ("ejection.failures_max", spec.ejection.failures_max, 1, 1 << 20),
        ("ejection.eject_s", spec.ejection.eject_s, 0.001, spec.ejection.eject_s_max),
        ("ejection.eject_s_max", spec.ejection.eject_s_max, 0.001, 86_400),
    )
    if spec.quotas is not None:
        yield from _quotas(spec.quotas.tenants, spec.quotas.default)


def _ranges(*rows: tuple[str, float, float, float]) -> Problems:
    for key, value, low, high in rows:
        if not low <= value <= high:
            yield key, f"must be from {low:g} to {high:g}, got {value:g}"


def _target(target: TargetSpec) -> Problems:
    yield from _address(target)
    yield from _credential(target)
    if target.provider == "azure":
        if target.deployment is None:
            yield "deployment", "Azure OpenAI names its models by deployment; give one"
    elif target.deployment is not None or target.api_version is not None:
        key = "deployment" if target.deployment is not None else "api_version"
        yield key, f"is Azure's; the provider here is {quoted(target.provider)}"
    for header in target.headers:
        if header.lower() in _OWN_HEADERS:
            yield f"headers.{header}", "is set by what says where the credential comes from, or by the protocol"
        elif _HEADER.fullmatch(header) is None or not target.headers[header].isprintable():
            yield f"headers.{header}", "is no HTTP header of printable text"
    if target.price is not None:
        yield from _price(target.price)
    if not math.isfinite(target.weight) or target.weight < 0:
        yield "weight", f"must be 0 or more, got {target.weight:g}"
    yield from _ranges(
        ("output_tokens_max", target.output_tokens_max, 1, 1 << 30),
        ("token_s_max", target.token_s_max, 1, 86_400),
        ("connect_s_max", target.connect_s_max, 0.001, 3600),
        ("first_byte_s_max", target.first_byte_s_max, 0.001, 86_400),
        ("silence_s_max", target.silence_s_max, 0.001, 86_400),
        ("connections_max", target.connections_max, 1, 1 << 16),
    )


def _address(target: TargetSpec) -> Problems:
    base_url = target.address
    if base_url is None:
        yield "base_url", "an Azure resource has an address of its own, such as https://NAME.openai.azure.com; give it"
        return
    try:
        url = urlsplit(base_url)
        known = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        known = False
    if not known:
        yield "base_url", f"expected an http:// or https:// URL, got {quoted(base_url)}"
    elif url.username is not None or url.query or url.fragment:
        yield "base_url", "must have no user, query or fragment"
    elif _is_exposed(target, url):
        yield "base_url", "a credential would be sent unencrypted; use https://, or set allow_plain_http: true"


def _is_exposed(target: TargetSpec, url: SplitResult) -> bool:
    """Whether somebody on the network could read the credential."""
    if url.scheme == "https" or target.allow_plain_http or not any(getattr(target, each) for each in _CREDENTIALS):
        return False
    try:
        return not ip_address(url.hostname or "").is_loopback
    except ValueError:
        return url.hostname != "localhost"


def _credential(target: TargetSpec) -> Problems:
    given = [each for each in _CREDENTIALS if getattr(target, each)]
    if len(given) > 1:
        yield given[1], f"one credential is enough, {quoted(given[0])} is given too"
    if target.base_url is None and not given:
        yield "", f"{target.provider} wants a credential; give one of {', '.join(_CREDENTIALS)}"
    if target.entra is not None and target.provider != "azure":
        yield "entra", f"is Azure's; the provider here is {quoted(target.provider)}"


def _price(price: PriceSpec) -> Problems:
    if _CURRENCY.fullmatch(price.currency) is None:
        yield "price.currency", f"expected a code of ISO 4217 such as USD, got {quoted(price.currency)}"
    yield from _ranges(("price.per_tokens", price.per_tokens, 1, 1 << 40))
    for key in ("input", "output", "cached_input"):
        value = getattr(price, key)
        if value is not None and not (math.isfinite(value) and value >= 0):
            yield f"price.{key}", f"must be 0 or more, got {value:g}"


def _quotas(tenants: Mapping[str, QuotaSpec], default: QuotaSpec | None) -> Problems:
    if len(tenants) > TENANTS_MAX:
        yield "quotas.tenants", f"must be at most {TENANTS_MAX}, got {len(tenants)}"
    named = [(f"quotas.tenants.{name}", each) for name, each in tenants.items()]
    for where, each in [*named, *([] if default is None else [("quotas.default", default)])]:
        for key in ("tokens_per_minute", "requests_per_minute"):
            value = getattr(each, key)
            if value is not None and not 1 <= value <= 1 << 40:
                yield f"{where}.{key}", f"must be from 1 to {1 << 40}, got {value}"
