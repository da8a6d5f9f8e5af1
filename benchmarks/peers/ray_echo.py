"""The plain rival of the Ray host: a Ray Serve application that echoes, with the leanest door a user could give it.

A grpc.aio server of its own in a replica (Serve's proxies cost more) answers by itself on one port; on another it asks a second
deployment by its handle. The cluster is this process's, pinned as it is; others may join it.

    python -m benchmarks.peers.ray_echo --alone PORT --calling PORT --address FILE
"""

import argparse
import signal
from pathlib import Path
from typing import Any

import grpc
import ray
from ray import serve
from ray.serve.handle import DeploymentHandle

CORES = 16
"""Ray's word for how much may be placed, not what this machine has."""

CALLS_MAX = 100_000


class Echo:
    async def echo(self, body: bytes) -> bytes:
        return body


class Door:
    """Answers `ModelInfer` with its own bytes; where it has a handle, those that come back from there."""

    def __init__(self, echo: DeploymentHandle | None = None) -> None:
        self._echo = echo

    async def reconfigure(self, config: dict[str, Any]) -> None:
        self._server = grpc.aio.server()
        handlers: dict[str, Any] = {"ModelInfer": grpc.unary_unary_rpc_method_handler(self.answer)}
        service = grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers)
        self._server.add_generic_rpc_handlers((service,))
        self._server.add_insecure_port(f"127.0.0.1:{config['port']}")
        await self._server.start()

    async def answer(self, body: bytes, context: object) -> bytes:
        if self._echo is None:
            return body
        answer: bytes = await self._echo.echo.remote(body)
        return answer


def deployed(kind: type, **more: Any) -> Any:  # noqa: ANN401  whose class Ray makes
    return serve.deployment(max_ongoing_requests=CALLS_MAX, ray_actor_options={"num_cpus": 0.5}, **more)(kind)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--alone", type=int, required=True)
    parser.add_argument("--calling", type=int, required=True)
    parser.add_argument("--address", type=Path, required=True)
    given = parser.parse_args()
    ray.init(address="local", num_cpus=CORES, include_dashboard=False, log_to_driver=False)
    serve.start(proxy_location="Disabled")
    alone = deployed(Door, user_config={"port": given.alone}).bind()
    calling = deployed(Door, user_config={"port": given.calling}).bind(deployed(Echo).bind())
    for name, application in (("alone", alone), ("calling", calling)):
        serve.run(application, name=name, route_prefix=None)
    given.address.write_text(ray.get_runtime_context().gcs_address)
    signal.pause()


if __name__ == "__main__":
    main()
