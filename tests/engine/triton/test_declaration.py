"""`triton_models` in the spec: what is wrong is told with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import SpecError
from engine.spec import parse_spec

GOOD = """
triton_models:
  fraud:
    servers: ["one:8001", "two:8001"]
    hedge_ms: 5
"""


def test_defaults_are_a_model_of_the_same_name_that_may_be_asked_twice() -> None:
    spec = parse_spec(GOOD, folder=Path()).triton_models["fraud"]
    assert spec.model is None
    assert spec.version is None
    assert spec.idempotent
    assert spec.shared_memory == "auto"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('["one:8001", "two:8001"]', "[]", "triton_models.fraud.servers: from 1 to 64 servers, got 0"),
        ('"two:8001"', '"http://two:8001"', "expected HOST:PORT or unix:/PATH, got 'http://two:8001'"),
        ('"two:8001"', '"two"', "expected HOST:PORT or unix:/PATH, got 'two'"),
        ('"two:8001"', '"unix:run/triton"', "expected HOST:PORT or unix:/PATH, got 'unix:run/triton'"),
        ('"two:8001"', f'"unix:/{"x" * 107}"', "expected HOST:PORT or unix:/PATH, got 'unix:/x"),
        ('"two:8001"', '"one:8001"', "'one:8001' is there twice"),
        ("hedge_ms: 5", "hedge_ms: -1", "triton_models.fraud.hedge_ms: must be from 0 to 60000, got -1"),
        ("hedge_ms: 5", "version: 0", "triton_models.fraud.version: must be from 1"),
        ("hedge_ms: 5", "metadata: {GRPC: x}", "not a metadata key"),
        ("hedge_ms: 5", "shared_memory: on", "triton_models.fraud.shared_memory: expected"),
        ("hedge_ms: 5", "shared_memory_bytes_min: 0", "shared_memory_bytes_min: must be from 1 to 67108864, got 0"),
        ("hedge_ms: 5", "tls: {key: k.pem}", "'certificate' and 'key' go together"),
        ("hedge_ms: 5", "hedge: 5", "nearest: 'hedge_ms'"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(old: str, new: str, told: str) -> None:
    with pytest.raises(SpecError, match="spec") as caught:
        parse_spec(GOOD.replace(old, new), folder=Path())
    assert told in caught.value.message
