"""A payment front in miniature: asks the served graph about transactions, one after the other, and hears its alerts.

Calls go by Triton's own clients, unmodified, over gRPC and HTTP in turns. Features are looked at only to wait for them: the next
transaction is sent when the views show the one before, so that what is served can be held against history.
"""

import json
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import tritonclient.grpc
import tritonclient.http

from benchmarks.servers import Server
from benchmarks.workloads.fraud.application import GRAPH, Application
from benchmarks.workloads.fraud.decision_requests import DATATYPES, decision_inputs
from protos.vireo.v1 import features_pb2, features_pb2_grpc

CLIENTS = {"gRPC": tritonclient.grpc, "HTTP": tritonclient.http}
LEARNING, ALERTED = ("customer", "terminal", "device"), "alerted"
PATIENCE_S = 30.0
PAUSE_S = 0.001
TIMEOUT_US = int(PATIENCE_S * 1e6)


class LateError(Exception):
    """What should have been seen was not, for PATIENCE_S."""


@dataclass(frozen=True, slots=True)
class Alert:
    """As the alert log has it. `after_s`: from sending the transaction until the alert could be read."""

    probability: float
    reasons: str
    versions: str
    after_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What the graph said of one transaction; `reasons` are codes with what each adds to the log-odds."""

    number: int
    protocol: str
    probability: float
    decision: str
    reasons: tuple[tuple[str, float], ...]
    alert: Alert | None


class Front:
    """Use within one thread; `close` when done."""

    def __init__(self, server: Server, application: Application) -> None:
        self._inputs = decision_inputs(application.transactions())
        self._http_port = server.http_port
        ports = {"gRPC": server.grpc_port, "HTTP": server.http_port}
        self._clients = {
            name: library.InferenceServerClient(f"127.0.0.1:{ports[name]}") for name, library in CLIENTS.items()
        }
        self._channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")
        self._features = features_pb2_grpc.FeaturesStub(self._channel)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Hangs up."""
        for each in self._clients.values():
            each.close()
        self._channel.close()

    def score(self, number: int, protocol: str) -> Answer:
        """The answer, after the transaction has been learnt and, where it is declined, its alert was read. Raises LateError."""
        library, learnt = CLIENTS[protocol], self._applied()
        tensors = []
        for name, column in self._inputs.items():
            tensor = library.InferInput(name, [1], DATATYPES[column.dtype])
            tensor.set_data_from_numpy(column[number : number + 1])
            tensors.append(tensor)
        sent_s = time.monotonic()
        result = self._clients[protocol].infer(GRAPH, tensors, request_id=str(number), timeout=TIMEOUT_US)
        decision = result.as_numpy("decision")[0].decode()
        codes, added = result.as_numpy("reasons")[0], result.as_numpy("contributions")[0]
        alert = self._alert(number, sent_s) if decision == "decline" else None
        self._until(lambda: self._applied() > learnt, f"transaction {number} is not learnt")
        return Answer(
            number,
            protocol,
            float(result.as_numpy("probability")[0]),
            decision,
            tuple((code.decode(), float(much)) for code, much in zip(codes, added, strict=True) if code),
            alert,
        )

    def ask_with_ledger(self, number: int) -> tuple[dict[str, Any], Mapping[str, Any]]:
        """A plain HTTP request as JSON that asks for its ledger: the answer, and the ledger from its header."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._http_port}/v2/models/{GRAPH}/infer",
            json.dumps(self.as_json(number)).encode(),
            {
                "content-type": "application/json",
                "vireo-ledger": "1",
                "x-request-timeout-ms": str(int(PATIENCE_S * 1e3)),
            },
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
            return json.load(response), json.loads(response.headers["vireo-ledger"])

    def as_json(self, number: int) -> dict[str, Any]:
        """The body of that request."""
        inputs = [
            {"name": name, "shape": [1], "datatype": DATATYPES[column.dtype], "data": [column[number].item()]}
            for name, column in self._inputs.items()
        ]
        return {"inputs": inputs}

    def _applied(self) -> int:
        """Transactions that every view that learns from them shows."""
        asked = (self._features.DescribeView(features_pb2.DescribeViewRequest(view=name)) for name in LEARNING)
        return min(int(each.statistics.applied) for each in asked)

    def _alert(self, number: int, sent_s: float) -> Alert:
        request = features_pb2.GetRequest(view=ALERTED, int64_entities=[number])
        found: list[features_pb2.GetResponse] = []

        def there() -> bool:
            found[:] = [self._features.Get(request)]
            return bool(found[0].statuses[0] == features_pb2.ROW_STATUS_PRESENT)

        self._until(there, f"transaction {number} was declined, and there is no alert")
        after_s = time.monotonic() - sent_s
        texts = {found[0].features[each.column]: each.values[0] for each in found[0].texts}
        at = list(found[0].features).index("probability")
        return Alert(float(np.array(found[0].values)[at]), texts["reasons"], texts["versions"], after_s)

    def _until(self, seen: Any, problem: str) -> None:  # noqa: ANN401 - a question
        give_up_s = time.monotonic() + PATIENCE_S
        while not seen():
            if time.monotonic() > give_up_s:
                raise LateError(f"{problem}, after {PATIENCE_S:g} s")
            time.sleep(PAUSE_S)
