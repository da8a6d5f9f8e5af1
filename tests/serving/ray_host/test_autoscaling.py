"""Replicas that come where requests wait for them, and go when they are not needed."""

from __future__ import annotations

from pathlib import Path

from tests.serving.ray_host.callers import calling
from tests.serving.ray_host.conftest import START_S, OnRay, replicas_of
from tests.serving.servers import eventually
from tests.serving.test_graph_surfaces import function

ONE_AT_A_TIME = "    batching: {enabled: false}\n    instances: 1\n    inline_us_max: 0\n"
APP = (
    "server: {grpc_port: 0, http_port: 0, name: scaled}\n"
    "functions:\n" + function("slow", "slow", ONE_AT_A_TIME) + "placement:\n"
    "  ingress: {cpus: 0.5}\n"
    "  workers:\n    serves: [slow]\n    cpus: 0.5\n"
    "    autoscaling: {replicas_min: 1, replicas_max: 2, queue_wait_ms: 10.0, calm_s: 1.0}\n"
)


def test_replicas_come_where_requests_wait_and_go_when_they_do_not(on_ray: OnRay, tmp_path: Path) -> None:
    app = tmp_path / "app.yaml"
    app.write_text(APP, encoding="utf-8")
    server = on_ray(app)
    assert len(replicas_of("scaled", "workers")) == 1
    with calling(server.address, "slow") as callers:
        eventually(lambda: len(replicas_of("scaled", "workers")) > 1, "replicas come", START_S)
        callers.until_more(100)
    eventually(lambda: len(replicas_of("scaled", "workers")) == 1, "replicas go", START_S)
    assert callers.failures() == []
