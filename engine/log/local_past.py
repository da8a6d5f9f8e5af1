"""What a local log holds now, for whoever may not write to it: beside the process that has it open, or without one."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from engine.log.disk import disk_fault
from engine.log.folder import read_folder
from engine.log.kept import Kept, log_name
from engine.log.local_reader import PARTITION, LocalReader
from engine.log.log import LogReader, Offsets, Owner


class LocalPast:
    """The part of Log that reads, over the entries that were there when it was made. Takes no lock, makes and mends nothing.

    Of a write that is under way it may see entries that are not acknowledged yet. A segment that is truncated meanwhile is
    DataLoss to a reader that comes to it later. Raises NotFound where there is no log, else as `LocalLog`.
    """

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.schema = schema
        try:
            segments, latest = read_folder(folder, schema)
        except OSError as error:
            raise disk_fault(error, folder, "read the log") from error
        self._kept = Kept(log_name(str(folder)), schema, segments, latest)

    def reader(self, owner: Owner) -> LogReader:
        """Log."""
        return LocalReader(self._kept, owner)

    def earliest(self) -> Offsets:
        """Log."""
        return {PARTITION: self._kept.earliest}

    def latest(self) -> Offsets:
        """Log."""
        return {PARTITION: self._kept.latest}

    def close(self) -> None:
        """Log."""
        self._kept.close()
