"""Who may call Arrow Flight: bearer tokens, TLS, client certificates; and what keeps it from starting."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import flight

from engine import SpecError
from tests.serving.servers import ServerHere
from tests.serving.test_access import Certificates
from tests.serving.test_access import certificates as certificates  # a fixture

Start = Callable[[str], ServerHere]


@pytest.fixture(scope="session", params=["grpcio"])
def transport() -> str:
    """Arrow Flight is the same beside either transport."""
    return "grpcio"


def server(more: str) -> str:
    """A spec with nothing but the Arrow Flight port."""
    return f"server: {{grpc_port: null, http_port: null, flight_port: 0, {more}}}\n"


def views(client: flight.FlightClient, token: str | None = None) -> list[str]:
    """What the catalogue has; an exchange is tried too."""
    headers = [] if token is None else [(b"authorization", f"Bearer {token}".encode())]
    options = flight.FlightCallOptions(timeout=10, headers=headers)
    found: list[str] = client.do_get(flight.Ticket(b"views"), options).read_all().column("view").to_pylist()
    return found


def exchange(client: flight.FlightClient) -> None:
    """A held-open call."""
    writer, reader = client.do_exchange(flight.FlightDescriptor.for_path("x"))
    with writer:
        writer.begin(pa.schema([("x", pa.int64())]))
        reader.read_chunk()


def test_nobody_gets_in_without_a_known_token(start: Start, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("a-token\n")
    running = start(server("auth: {tokens_file: tokens}"))
    with flight.connect(f"grpc://127.0.0.1:{running.host.flight_port}") as client:
        assert views(client, "a-token") == []
        for token in (None, "another", ""):
            with pytest.raises(flight.FlightUnauthenticatedError, match=r"(?i)token"):
                views(client, token)
        with pytest.raises(flight.FlightUnauthenticatedError):
            exchange(client)


def test_tls_with_client_certificates(start: Start, certificates: Certificates) -> None:
    folder = certificates.folder
    pair = f"certificate: {folder}/server.pem, key: {folder}/server-key.pem"
    running = start(server(f"tls: {{{pair}, client_ca: {folder}/authority.pem}}"))
    address = f"grpc+tls://localhost:{running.host.flight_port}"
    trust = {"tls_root_certs": certificates.read("authority")}
    mine = {"cert_chain": certificates.read("client"), "private_key": certificates.read("client-key")}
    with flight.connect(address, **trust, **mine) as client:
        assert views(client) == []
    for given in (trust, {**mine, "tls_root_certs": certificates.read("stranger")}):
        with flight.connect(address, **given) as client, pytest.raises(flight.FlightError):
            views(client)
    with flight.connect(f"grpc://localhost:{running.host.flight_port}") as client, pytest.raises(flight.FlightError):
        views(client)


def test_a_port_that_is_taken_is_told(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SpecError, match=rf"server\.flight_port: cannot listen on 127\.0\.0\.1:{port}"):
            start(server("").replace("flight_port: 0", f"flight_port: {port}"))


def test_arrow_flight_counts_as_exposure(start: Start) -> None:
    with pytest.raises(SpecError, match="reachable from other machines"):
        start(server("host: 0.0.0.0"))
