"""A bound TCP socket, for a front to listen on or to find out that it cannot."""

from __future__ import annotations

import socket


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
    except OSError:
        made.close()
        raise
    return made
