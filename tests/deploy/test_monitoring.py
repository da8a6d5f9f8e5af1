"""Rules, dashboards and the collector of deploy/monitoring: they are read by their own parsers, and what they ask for is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from engine import BUCKETS_S
from tests.deploy.manifests import DEPLOY, of_kind
from tests.serving.servers import ServerHere, spec_for

MONITORING = DEPLOY / "monitoring"
DASHBOARDS = sorted((MONITORING / "dashboards").glob("*.json"))
ENDINGS = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "gauge": [""]}
APP = """
server: {grpc_port: 0, http_port: 0}
functions:
  double:
    call: tests.serving.functions:double
    batchable: true
    inputs: {x: {datatype: FP32, shape: [-1, 2]}}
    outputs: {y: {datatype: FP32, shape: [-1, 2]}}
logs:
  seen: {schema: {card: string, at: timestamp}, local: {path: log}}
  answers: {schema: {y: float32}, local: {path: answers}}
graphs:
  doubled:
    inputs: {x: {datatype: FP32, shape: [-1, 2]}}
    nodes: {twice: {call: double, inputs: {x: x}}}
    outputs: {y: twice.y}
traffic:
  split: {variants: {a: {call: double, weight: 1}, b: {call: doubled, weight: 1}}}
vectors:
  path: vectors
  collections: {books: {vectors: {v: {size: 4}}}}
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of the series of a real server's /metrics, of those too that have no value yet."""
    server = ServerHere(spec_for(APP, tmp_path_factory.mktemp("metrics"), "native"))
    try:
        text = httpx.get(f"http://127.0.0.1:{server.host.http_port}/metrics", headers={"accept": "text/plain"}).text
    finally:
        server.stop()
    families = list(text_string_to_metric_families(text))
    return {each.name + ending for each in families for ending in ENDINGS[each.type]}


def rules() -> list[dict[str, Any]]:
    """All rules, of all groups."""
    read = yaml.safe_load((MONITORING / "rules.yaml").read_text())
    return [rule for group in read["groups"] for rule in group["rules"]]


def panels(path: Path) -> list[dict[str, Any]]:
    """The panels of a dashboard."""
    found: list[dict[str, Any]] = json.loads(path.read_text())["panels"]
    return found


def expressions() -> list[str]:
    """Every expression of rules and panels."""
    asked = [target["expr"] for path in DASHBOARDS for panel in panels(path) for target in panel["targets"]]
    return [*(each["expr"] for each in rules()), *asked]


def selectors(expression: str) -> list[promql_parser.VectorSelector]:
    """The series an expression asks for. Raises ValueError where it is no PromQL."""
    found: list[promql_parser.VectorSelector] = []

    def visit(each: promql_parser.Expr) -> None:
        if isinstance(each, promql_parser.VectorSelector):
            found.append(each)
        elif isinstance(each, promql_parser.MatrixSelector):
            found.append(each.vector_selector)

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


def unknown(expressions: list[str], known: set[str]) -> set[str]:
    """Names that are asked for and are not `known`."""
    return {str(each.name) for expression in expressions for each in selectors(expression)} - known


def test_every_series_of_rules_and_panels_is_told_by_a_server(told: set[str]) -> None:
    asked = expressions()
    assert len(asked) > 40
    assert unknown(asked, told | {each["record"] for each in rules() if "record" in each}) == set()


def test_a_series_that_no_server_tells_is_found(told: set[str]) -> None:
    assert unknown(["sum(rate(vireo_requests_successes_total[5m]))"], told) == {"vireo_requests_successes_total"}
    with pytest.raises(ValueError, match="parenthesis"):
        selectors("sum(rate(vireo_calls_total[5m])")


def test_bounds_that_are_asked_for_are_buckets() -> None:
    bounds = {
        matcher.value
        for expression in expressions()
        for each in selectors(expression)
        for matcher in each.matchers.matchers
        if matcher.name == "le"
    }
    assert bounds == {"0.1", "0.05"}
    assert bounds <= {repr(each) for each in BUCKETS_S}


def test_rules_are_whole() -> None:
    for each in rules():
        assert ("record" in each) != ("alert" in each)
        assert set(each) <= {"record", "alert", "expr", "for", "labels", "annotations"}
        if "alert" in each:
            assert each["labels"]["severity"] in {"page", "ticket"}
            assert each["annotations"]["summary"]
    wanted = {
        "VireoLatencyBudgetBurnsFast",
        "VireoCallsFail",
        "VireoNotReady",
        "VireoQueueWait",
        "VireoEventsLag",
        "VireoRecall",
    }
    assert wanted <= {each.get("alert") for each in rules()}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_do_not_cover_each_other(path: Path) -> None:
    cells = [
        (x, y)
        for each in panels(path)
        for x in range(each["gridPos"]["x"], each["gridPos"]["x"] + each["gridPos"]["w"])
        for y in range(each["gridPos"]["y"], each["gridPos"]["y"] + each["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({each["id"] for each in panels(path)}) == len(panels(path))


def test_the_collectors_pipelines_name_what_is_declared() -> None:
    [found] = [each for each in of_kind("ConfigMap") if each["metadata"]["name"] == "otel-collector"]
    config = yaml.safe_load(found["data"]["collector.yaml"])
    assert set(config["service"]["extensions"]) <= set(config["extensions"])
    for pipeline in config["service"]["pipelines"].values():
        for part in ("receivers", "processors", "exporters"):
            assert set(pipeline[part]) <= set(config[part])
        assert "azuremonitor" in pipeline["exporters"]
        assert pipeline["processors"][0] == "memory_limiter"


def test_spans_go_where_the_collector_listens() -> None:
    app = yaml.safe_load((DEPLOY / "kuberay" / "app.yaml").read_text())
    [service] = [each for each in of_kind("Service") if each["metadata"]["name"] == "otel-collector"]
    name = f"{service['metadata']['name']}.{service['metadata']['namespace']}"
    where = {f"http://{name}:{each['port']}" for each in service["spec"]["ports"]}
    assert app["server"]["tracing"]["endpoint"] in where
