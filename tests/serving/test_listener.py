"""The numbers of sockets that processes share a port by."""

from __future__ import annotations

import socket

from serving.listener import listener


def test_listener_of_a_shared_port_has_a_higher_number_than_connections_get() -> None:
    """So that a process that is killed listens no more by the time that its connections are gone."""
    with listener("127.0.0.1", 0, shared=True) as first:
        first.listen()
        address = first.getsockname()
        with listener("127.0.0.1", address[1], shared=True) as second:
            assert second.getsockname() == address
        with socket.create_connection(address) as caller, first.accept()[0] as connection:
            assert max(caller.fileno(), connection.fileno()) < first.fileno()
            assert not first.get_inheritable()
