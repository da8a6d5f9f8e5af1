"""The bytes of one appended batch in a segment file: a header of 48 bytes and the batch as an Arrow IPC message. Pure.

All numbers are little-endian:

| bytes | what |
|---|---|
| 0-3 | `VFRM` |
| 4-7 | CRC-32 of bytes 8-47, begun with the segment's salt |
| 8-15 | offset of the first row |
| 16-23 | when it was appended, microseconds since the Unix epoch |
| 24-31 | acknowledged: where in this file the bytes ended that were safe when this frame was written |
| 32-35 | rows |
| 36-39 | bytes of the payload, a multiple of 8 |
| 40-43 | CRC-32 of the payload |
| 44-47 | 0 |

The payload is an encapsulated Arrow record batch message (schema and dictionaries are not repeated). A frame without rows and
payload is a mark: all before it was acknowledged. `acknowledged` is what tells a torn tail from damage: a frame that can't be
read, and that a later frame says had been acknowledged, is lost data; one of which none says so was never promised to anybody.

CRC-32 is zlib's: in the standard library, outside the GIL, 1 to 7 GB/s; it finds every burst of up to 32 wrong bits. The salt
makes bytes of another segment (a reused disk block, a log kept inside a column) no frame of this one.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pyarrow as pa

MAGIC: Final = b"VFRM"
HEADER_BYTES: Final = 48
ALIGNMENT: Final = 8
"""Frames begin at multiples of this, so that numbers in mapped batches are aligned."""

_HEADER: Final = struct.Struct("<4sIqqQIII4x")
_CHECKED: Final = struct.Struct("<qqQIII4x")


@dataclass(frozen=True, slots=True)
class Header:
    """What a frame says of itself."""

    first: int
    appended_us: int
    acknowledged: int
    rows: int
    payload_bytes: int
    payload_crc: int

    @property
    def next(self) -> int:
        """The offset after its last row."""
        return self.first + self.rows

    def pack(self, salt: int) -> bytes:
        """Its 48 bytes."""
        checked = _CHECKED.pack(
            self.first, self.appended_us, self.acknowledged, self.rows, self.payload_bytes, self.payload_crc
        )
        return MAGIC + zlib.crc32(checked, salt).to_bytes(4, "little") + checked


def unpack(data: memoryview, position: int, salt: int) -> Header | None:
    """The header at `position`; None where there is none, or a damaged one."""
    if len(data) - position < HEADER_BYTES:
        return None
    magic, crc, first, appended_us, acknowledged, rows, payload_bytes, payload_crc = _HEADER.unpack_from(data, position)
    if magic != MAGIC or crc != zlib.crc32(data[position + 8 : position + HEADER_BYTES], salt):
        return None
    return Header(first, appended_us, acknowledged, rows, payload_bytes, payload_crc)


@dataclass(frozen=True, slots=True)
class Frame:
    """One appended batch as it is stored. `position`: of its header in its segment's file."""

    first: int
    next: int
    appended_us: int
    position: int
    payload: pa.Buffer
