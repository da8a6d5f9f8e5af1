"""What a replica makes of a configuration, told directly."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from engine import SpecError
from serving.ray_host.replica import Replica


def test_configuration_that_could_not_be_followed_is_tried_again(tmp_path: Path) -> None:
    replica = Replica()
    for _ in range(2):
        with pytest.raises(SpecError, match="unknown"):
            asyncio.run(replica.reconfigure({"spec": {"unknown": 1}, "folder": str(tmp_path)}))
