"""How language models that other servers run are doing, for `/metrics`: tries, tokens, cost, times, fallbacks, quotas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from engine import LanguageModel
from serving.metrics import add_histogram

if TYPE_CHECKING:
    from engine import UpstreamModel


def upstream_families(live: Sequence[tuple[str, LanguageModel]]) -> Iterator[Any]:
    """Metric families of those of the `live` models that other servers run, as prometheus_client wants them."""
    from engine import UpstreamModel

    models = [each for _, each in live if isinstance(each, UpstreamModel)]
    if models:
        yield from _tries(models)
        yield from _tokens(models)
        yield from _calls(models)


def _tries(models: Sequence[UpstreamModel]) -> Iterator[Any]:
    labels = ["model", "target"]
    tries = CounterMetricFamily(
        "vireo_upstream_tries", "Calls to a target, by how they ended", labels=[*labels, "ending"]
    )
    under_way = GaugeMetricFamily(
        "vireo_upstream_tries_under_way", "Calls to a target that are open now", labels=labels
    )
    available = GaugeMetricFamily("vireo_upstream_available", "1 while a target would be asked", labels=labels)
    ejections = CounterMetricFamily(
        "vireo_upstream_ejections", "Times a target was ejected for failures", labels=labels
    )
    first = HistogramMetricFamily("vireo_upstream_first_seconds", "To the first of a target's answer", labels=labels)
    for model in models:
        for target, counted in model.statistics.targets.items():
            of = [model.name, target]
            for ending, count in counted.endings.items():
                tries.add_metric([*of, ending.value], count)
            under_way.add_metric(of, counted.in_flight)
            available.add_metric(of, float(model.available(target)))
            ejections.add_metric(of, model.ejections(target))
            add_histogram(first, of, counted.first_byte)
    yield from (tries, under_way, available, ejections, first)


def _tokens(models: Sequence[UpstreamModel]) -> Iterator[Any]:
    labels = ["model", "target"]
    tokens = CounterMetricFamily(
        "vireo_upstream_tokens", "Tokens of a target's answers; cached_input are among input", labels=[*labels, "kind"]
    )
    cost = CounterMetricFamily(
        "vireo_upstream_cost", "What they cost by the spec's prices", labels=[*labels, "currency"]
    )
    for model in models:
        for target, counted in model.statistics.targets.items():
            of = [model.name, target]
            for kind in ("input", "cached_input", "output", "estimated"):
                tokens.add_metric([*of, kind], getattr(counted, f"{kind}_tokens"))
            if (price := model.spec.targets[target].price) is not None:
                cost.add_metric([*of, price.currency], counted.cost)
    yield from (tokens, cost)


def _calls(models: Sequence[UpstreamModel]) -> Iterator[Any]:
    fallbacks = CounterMetricFamily(
        "vireo_upstream_fallbacks", "Calls that another language model answered", labels=["model", "by"]
    )
    used = CounterMetricFamily("vireo_quota_tokens", "Tokens counted for a tenant", labels=["model", "tenant"])
    refused = CounterMetricFamily(
        "vireo_quota_refusals", "Calls refused because a tenant's quota was used up", labels=["model", "tenant"]
    )
    for model in models:
        for name, count in model.statistics.fallbacks.copy().items():
            fallbacks.add_metric([model.name, name], count)
        for tenant, each in model.statistics.tenants.copy().items():
            used.add_metric([model.name, tenant], each.tokens)
            refused.add_metric([model.name, tenant], each.refused)
    yield from (fallbacks, used, refused)
