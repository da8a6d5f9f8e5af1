"""The local log: the contract, and what only it promises."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from engine.log.declaration import LocalLogSpec
from engine.log.local import LocalLog
from engine.log.log import Log
from tests.engine.log.contract import SCHEMA, LogContract


@dataclass
class LocalPlace:
    """A folder; segments are small, so that there are many."""

    folder: Path
    rows_are_offsets = True
    truncates = True
    checks_evolution = True

    def open(self, schema: pa.Schema = SCHEMA) -> Log:
        """Place."""
        return LocalLog(LocalLogSpec(str(self.folder), segment_bytes=16 << 10), schema, self.folder)


class TestLocalLog(LogContract):
    """The contract."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> LocalPlace:
        """A fresh folder."""
        return LocalPlace(tmp_path / "log")
