"""How models on Triton servers are declared in the spec. Frozen values; docs/reference/triton.md says what each key means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from engine.errors import SpecError, quoted
from engine.limits import MESSAGE_BYTES_MAX, NAME_CHARS_MAX, QUEUE_BYTES_MAX, QUEUE_REQUESTS_MAX, TRITON_SERVERS_MAX
from engine.strict_yaml import Place

UNIX = "unix:"
"""Before the path of a Unix socket, in the place of host:port."""
_UNIX_PATH_BYTES_MAX = 107
"""Linux has room for no longer one (unix(7))."""


@dataclass(frozen=True, slots=True)
class TritonTlsSpec:
    """TLS to the servers. `ca`: a PEM file of who signs theirs, null for the system's; `certificate` and `key`: ours, where they
    ask for one."""

    ca: str | None = None
    certificate: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class TritonModelSpec:
    """A model that lives on Triton servers, served here as version 1. `servers` are host:port of their gRPC, or unix:PATH;
    `model` and `version` are its name there (by default the name here) and its version (by default each server's newest).

    `idempotent`: computed twice, it does no harm, so that what a server fails on, or is slow with, may go to another one as well.
    `hedge_ms`: not before, null for never. `requests_max`, `bytes_max`: so much may be on the way. `metadata` is sent with each
    call; `token_env` names the variable that holds a bearer token. `shared_memory`: tensors of `shared_memory_bytes_min` together
    lie in memory that a server on this host shares, where it does.
    """

    servers: tuple[str, ...]
    model: str | None = None
    version: int | None = None
    idempotent: bool = True
    hedge_ms: float | None = 5.0
    timeout_ms: float | None = None
    requests_max: int = QUEUE_REQUESTS_MAX
    bytes_max: int = QUEUE_BYTES_MAX
    streams_max: int = 16
    tls: TritonTlsSpec | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    token_env: str | None = None
    shared_memory: Literal["auto", "off"] = "auto"
    shared_memory_bytes_min: int = 256 << 10


def check_triton_models(models: Mapping[str, TritonModelSpec], place: Place) -> None:
    """Bounds that types cannot say. Raises SpecError."""
    for name, each in models.items():
        where = f"triton_models.{name}"
        if not 1 <= len(each.servers) <= TRITON_SERVERS_MAX:
            raise SpecError(
                f"{place(f'{where}.servers')}: from 1 to {TRITON_SERVERS_MAX} servers, got {len(each.servers)}"
            )
        for index, server in enumerate(each.servers):
            if not _is_address(server):
                raise SpecError(
                    f"{place(f'{where}.servers[{index}]')}: expected HOST:PORT or unix:/PATH, got {quoted(server)}"
                )
            if server in each.servers[:index]:
                raise SpecError(f"{place(f'{where}.servers[{index}]')}: {quoted(server)} is there twice")
        if each.model is not None and not 1 <= len(each.model) <= NAME_CHARS_MAX:
            raise SpecError(f"{place(f'{where}.model')}: a name has from 1 to {NAME_CHARS_MAX} characters")
        _check_numbers(each, where, place)
        for key in each.metadata:
            if key != key.lower() or not key.isascii() or key.startswith((":", "grpc-")) or not key:
                raise SpecError(f"{place(f'{where}.metadata.{key}')}: not a metadata key: lower case, no 'grpc-' first")
        if each.tls is not None and (each.tls.certificate is None) != (each.tls.key is None):
            raise SpecError(f"{place(f'{where}.tls')}: 'certificate' and 'key' go together")


def _is_address(server: str) -> bool:
    if server.startswith(UNIX):
        return server.startswith(f"{UNIX}/") and len(server.encode()) - len(UNIX) <= _UNIX_PATH_BYTES_MAX
    host, _, port = server.rpartition(":")
    return bool(host) and "/" not in host and port.isascii() and port.isdigit() and 0 < int(port) < 65536


def _check_numbers(each: TritonModelSpec, where: str, place: Place) -> None:
    bounds = (
        ("version", each.version, 1, 1 << 62),
        ("hedge_ms", each.hedge_ms, 0, 60_000),
        ("timeout_ms", each.timeout_ms, 0.001, 86_400_000),
        ("requests_max", each.requests_max, 1, 1 << 24),
        ("bytes_max", each.bytes_max, 1, 1 << 40),
        ("streams_max", each.streams_max, 1, 1024),
        ("shared_memory_bytes_min", each.shared_memory_bytes_min, 1, MESSAGE_BYTES_MAX),
    )
    for key, value, low, high in bounds:
        if value is not None and not low <= value <= high:
            raise SpecError(f"{place(f'{where}.{key}')}: must be from {low} to {high}, got {value}")
