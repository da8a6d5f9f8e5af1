"""The `vireo` command: serve, check, explain, bench."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from engine import Spec, VireoError, load_spec


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; 0 when it did what it says, 1 when the spec or a model is at fault, 2 for wrong usage."""
    parsed = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        return int(parsed.run(parsed))
    except VireoError as error:
        print(f"vireo: {error.message}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vireo", description="One low-latency serving engine.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, text in (("serve", _serve, "serve what a spec says until SIGTERM"),):
        command = commands.add_parser(name, help=text)
        command.add_argument(
            "app", type=Path, metavar="APP.yaml", help="an application spec, or a model repository folder"
        )
        command.set_defaults(run=run)
    return parser


def _serve(arguments: argparse.Namespace) -> int:
    import uvloop

    spec = load_spec(arguments.app)
    return uvloop.run(_serve_until_signal(spec))


async def _serve_until_signal(spec: Spec) -> int:
    from serving.embedded import EmbeddedHost

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop.set)
    host = EmbeddedHost(spec)
    await host.start()
    print(f"vireo: gRPC on {spec.server.host}:{host.grpc_port}, HTTP on {host.http_port}", flush=True)
    await stop.wait()
    await host.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
