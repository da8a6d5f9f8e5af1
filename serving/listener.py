"""A bound TCP socket, for a front to listen on or to find out that it cannot."""

from __future__ import annotations

import fcntl
import resource
import socket
from typing import Final

_DESCRIPTORS_MAX: Final = 65_536
_BELOW_MAX: Final = 256
"""So many listeners a process may have."""


def listener(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A socket bound to `host` (name or address of either family) and `port`, 0 for a free one. `shared`: beside others that
    share it; the system spreads connections over all that listen. Raises OSError.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(address)
        return _closed_first(made) if shared else made
    except OSError:
        made.close()
        raise


def _closed_first(made: socket.socket) -> socket.socket:
    """The same under a number above those of connections: of a process that is killed, Linux closes the highest descriptor
    first. Else who loses a connection and comes back at once may still be given to this listener, a quarter of them, and be
    reset again, and gRPC's clients then fail every call for a second, although another process listens."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _DESCRIPTORS_MAX if allowed == resource.RLIM_INFINITY else min(allowed, _DESCRIPTORS_MAX)
    number = fcntl.fcntl(made.fileno(), fcntl.F_DUPFD_CLOEXEC, max(most - _BELOW_MAX, 0))
    made.close()
    return socket.socket(fileno=number)
