"""Nodes that die, and nodes that are taken away with notice, under load: what ran there comes up on others."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
import tritonclient.grpc
from ray.cluster_utils import Cluster

from protos.vireo.v1 import features_pb2 as pb
from protos.vireo.v1 import features_pb2_grpc
from tests.engine.log.broker import tansu
from tests.fakes import PATIENCE_S
from tests.serving import functions
from tests.serving.calls import Answers, numbers
from tests.serving.features.conftest import compile_kernels
from tests.serving.ray_host.callers import calling
from tests.serving.ray_host.conftest import DOORS, START_S, OnRay, replicas_of
from tests.serving.servers import PROJECT, VIREO, ServerProcess, eventually
from tests.serving.test_graph_surfaces import function
from tests.serving.test_graphs_over_wire import values_of

POOL = "spare"
APP = (
    "server: {grpc_port: 0, http_port: 0, name: nodes}\n"
    "functions:\n" + function("far", "double") + function("held", "meeting", "    inline_us_max: 0\n") + "logs:\n"
    "  payments:\n    schema: {card: string, at: timestamp}\n"
    "    kafka: {bootstrap_servers: 'ADDRESS', topic: TOPIC, key: card}\n"
    "feature_views:\n"
    "  spending:\n    source: payments\n    entity: card\n    event_time: at\n"
    "    features: {count: {aggregation: count, window: 1h}}\n"
    "    snapshot: {path: snapshots, every: 1s, store: 'file://STORE'}\n"
    "placement:\n"
    f"  ingress: {{cpus: 0.5, node_labels: {{pool: {DOORS}}}}}\n"
    f"  workers: {{serves: [far, held], replicas: 2, cpus: 0.5, node_labels: {{pool: {POOL}}}}}\n"
    f"  cards: {{serves: [spending], shards: 1, cpus: 0.5, node_labels: {{pool: {POOL}}}}}\n"
)
CARDS = [f"card-{number}" for number in range(20)]


class Nodes:
    """Nodes beside the cluster's own, each with room for all that runs on them."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster, self._made = cluster, list[Any]()

    def add(self) -> None:
        """One more."""
        self._made.append(self._cluster.add_node(num_cpus=2, labels={"pool": POOL}))

    def of(self, process: int) -> Any:  # noqa: ANN401  Ray's own
        """The node that a replica runs on: its raylet is the parent of its processes."""
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
        parent = int(stat.rpartition(")")[2].split()[1])
        return next(each for each in self._made if each.all_processes["raylet"][0].process.pid == parent)

    def kill(self, node: Any) -> None:  # noqa: ANN401
        """At once, with every process of it."""
        raylet = node.all_processes["raylet"][0].process.pid
        children = Path(f"/proc/{raylet}/task/{raylet}/children").read_text(encoding="utf-8").split()
        for each in (raylet, *map(int, children)):
            os.kill(each, signal.SIGKILL)
        self.remove(node)

    @contextmanager
    def leaving(self, node: Any, app: Path, within_s: int) -> Iterator[None]:  # noqa: ANN401
        """As the preStop hook of a pod tells the cluster, which then waits."""
        command = [str(VIREO), "drain-node", str(app), "--node-id", node.node_id, "--within-s", str(within_s)]
        environment = {**os.environ, "RAY_ADDRESS": self._cluster.address, "PYTHONPATH": str(PROJECT)}
        with subprocess.Popen(command, env=environment) as waiting:
            yield
            assert waiting.poll() is None, "it returned before the node may end"
            waiting.terminate()

    def remove(self, node: Any) -> None:  # noqa: ANN401
        """Takes away what is left of it."""
        self._made.remove(node)
        self._cluster.remove_node(node, allow_graceful=False)

    def remove_all(self) -> None:
        """Those that are left."""
        for each in list(self._made):
            self.remove(each)


@pytest.fixture(scope="module")
def nodes(cluster: Cluster) -> Iterator[Nodes]:
    """Two of them, to begin with."""
    made = Nodes(cluster)
    made.add()
    made.add()
    yield made
    made.remove_all()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nodes") / "app.yaml"


@pytest.fixture(scope="module")
def served(nodes: Nodes, app: Path, on_ray: OnRay) -> Iterator[ServerProcess]:
    compile_kernels(app.parent)
    with tansu() as broker:
        text = APP.replace("ADDRESS", broker.address).replace("TOPIC", broker.topic(3))
        app.write_text(text.replace("STORE", f"{app.parent}/store"), encoding="utf-8")
        server = on_ray(app)
        yield server
        server.signal(signal.SIGTERM)  # while there is a broker


def _pushed(stub: Any) -> str:  # noqa: ANN401
    """The token of an event of each card."""
    request = pb.PushRequest(log="payments")
    for card in CARDS:
        request.rows.add().update({"card": card, "at": datetime.now(UTC).isoformat()})
    token: str = stub.Push(request, timeout=PATIENCE_S).token
    return token


def _counts(stub: Any, after: str) -> list[float] | None:  # noqa: ANN401
    """None where nobody has them."""
    request = pb.GetRequest(view="spending", text_entities=CARDS, after=after)
    try:
        return list(stub.Get(request, timeout=PATIENCE_S).values)
    except grpc.RpcError as error:
        if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            raise
        return None


def test_what_ran_on_a_node_that_dies_comes_up_elsewhere_with_every_acknowledged_write(
    nodes: Nodes, served: ServerProcess
) -> None:
    (shard,), workers = replicas_of("nodes", "cards-0-of-1"), replicas_of("nodes", "workers")
    lost = nodes.of(shard)
    assert len({nodes.of(each).node_id for each in workers}) == 2
    with grpc.insecure_channel(served.address) as channel, calling(served.address, "far") as callers:
        stub = features_pb2_grpc.FeaturesStub(channel)  # type: ignore[no-untyped-call]
        tokens = [_pushed(stub) for _ in range(20)]
        assert _counts(stub, tokens[-1]) == [20.0] * len(CARDS)
        tokens += [_pushed(stub) for _ in range(5)]  # not in a snapshot yet
        callers.until_more(500)
        nodes.kill(lost)
        tokens += [_pushed(stub) for _ in range(5)]
        eventually(lambda: _counts(stub, tokens[-1]) == [30.0] * len(CARDS), "the shard is back", START_S)
        eventually(lambda: len(set(replicas_of("nodes", "workers")) - set(workers)) == 1, "the other worker", START_S)
        callers.until_more(500)
    assert len(callers.failures()) <= callers.calls() / 1000, callers.failures()[:3]
    assert callers.calls() > 1_000


def test_node_that_is_taken_away_with_notice_fails_no_call_and_finishes_what_is_in_it(
    nodes: Nodes, served: ServerProcess, app: Path, meeting: Path
) -> None:
    for name in (functions.ENTERED, functions.OPEN):
        (meeting / name).unlink(missing_ok=True)
    before = replicas_of("nodes", "workers")
    leaving = nodes.of(before[0])
    nodes.add()  # a fork, which must not meet gRPC at work in this process
    with (
        calling(served.address, "far") as callers,
        tritonclient.grpc.InferenceServerClient(served.address) as client,
        nodes.leaving(leaving, app, 2 * int(START_S)),
    ):
        eventually(lambda: set(replicas_of("nodes", "workers")) - set(before), "others are being warmed", START_S)
        held = Answers()
        client.async_infer("held", numbers(4.0), held)
        eventually((meeting / functions.ENTERED).exists, "it is in a replica that will leave", START_S)
        eventually(lambda: len(set(replicas_of("nodes", "workers")) & set(before)) <= 1, "the other leaves", START_S)
        callers.until_more(200)
        (meeting / functions.OPEN).touch()
        assert values_of(held.wait(1)[0]) == [8.0]
        eventually(lambda: not set(replicas_of("nodes", "workers")) & set(before), "it has left", START_S)
        nodes.remove(leaving)
        callers.until_more(200)
    assert callers.failures() == []
