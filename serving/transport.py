"""Which transport serves: the compiled one, or grpcio where that cannot be had."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from engine import ServerSpec, SpecError

_REMEDY: Final = (
    "to have it, install a C++ compiler, Python's headers and libnghttp2 (Debian: apt install g++ python3-dev libnghttp2-14), "
    "then install vireo again"
)


@dataclass(frozen=True, slots=True)
class Transport:
    """The native one, or grpcio for the reason `why_not`."""

    why_not: str | None = None

    @property
    def native(self) -> bool:
        """Whether it is the native one."""
        return self.why_not is None

    @property
    def name(self) -> str:
        """As in the spec."""
        return "native" if self.native else "grpcio"


def transport_of(server: ServerSpec) -> Transport:
    """The transport that will serve. Raises SpecError where it is not installed, or cannot do what is asked of it."""
    found = Transport("server.transport is grpcio" if server.transport == "grpcio" else _missing())
    if server.transport == "native" and not found.native:
        raise SpecError(f"server.transport: {found.why_not}")
    one_port = server.grpc_port == server.http_port and server.http_port not in (None, 0)
    if one_port and not found.native:
        port = server.http_port
        raise SpecError(
            f"server: grpc_port and http_port are both {port}, but only the native transport can; {found.why_not}"
        )
    return found


def _missing() -> str | None:
    try:
        import serving.native._wire  # noqa: F401
    except ImportError as error:
        return f"the native transport is not installed ({error}); {_REMEDY}"
    return None
