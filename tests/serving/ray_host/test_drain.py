"""Which node of a cluster a machine is, and what Ray is told of one that ends."""

from __future__ import annotations

import pytest

from engine import FailedPrecondition
from serving.ray_host.drain import node_of, told_s

NODES = [
    {"NodeID": "aa", "Alive": True, "NodeManagerAddress": "10.0.0.1"},
    {"NodeID": "bb", "Alive": False, "NodeManagerAddress": "10.0.0.2"},
    {"NodeID": "cc", "Alive": True, "NodeManagerAddress": "10.0.0.2"},
    {"NodeID": "dd", "Alive": True, "NodeManagerAddress": "10.0.0.1"},
]


def test_a_machine_is_the_node_that_is_alive_at_its_address() -> None:
    assert node_of(NODES, "10.0.0.2") == "cc"


@pytest.mark.parametrize(("address", "told"), [("10.0.0.1", "2 nodes.*aa, dd"), ("10.0.0.3", "0 nodes.*none")])
def test_an_address_that_is_no_node_or_several_is_refused(address: str, told: str) -> None:
    with pytest.raises(FailedPrecondition, match=told):
        node_of(NODES, address)


def test_serve_ends_replicas_of_a_node_that_leaves_half_of_its_time_before_it_is_gone() -> None:
    shutdown_s = 30.0
    assert told_s(25.0, shutdown_s) - shutdown_s == 12.5
