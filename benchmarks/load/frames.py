"""The frames file: gRPC messages as they travel, one after another. Pure but for `read_frames`.

A frame is one zero byte (not compressed), the message length as four bytes big-endian, then the message; see
"Length-Prefixed-Message" in gRPC over HTTP/2.
"""

import struct
from collections.abc import Iterable
from pathlib import Path

PREFIX = struct.Struct(">BI")


class FramesError(ValueError):
    """A frames file is damaged; trying again cannot help."""


def join_frames(messages: Iterable[bytes]) -> bytes:
    """One frames file out of serialised messages, order kept."""
    return b"".join(PREFIX.pack(0, len(message)) + message for message in messages)


def split_frames(content: bytes) -> list[bytes]:
    """The frames of a file, each with its five-byte prefix. Raises FramesError when the file is empty or damaged."""
    frames: list[bytes] = []
    offset = 0
    while offset < len(content):
        end = frame_end(content, offset)
        frames.append(content[offset:end])
        offset = end
    if not frames:
        raise FramesError("the frames file is empty")
    return frames


def frame_end(content: bytes, offset: int) -> int:
    """Where the frame that starts at `offset` ends. Raises FramesError when it does not fit."""
    if len(content) - offset < PREFIX.size:
        raise FramesError(f"frame at byte {offset} is cut inside its prefix")
    compressed, length = PREFIX.unpack_from(content, offset)
    if compressed:
        raise FramesError(f"frame at byte {offset} is compressed or not a frame")
    end = offset + PREFIX.size + int(length)
    if end > len(content):
        raise FramesError(f"frame at byte {offset} says {length} bytes, {len(content) - offset - PREFIX.size} are left")
    return end


def message_of(frame: bytes) -> bytes:
    """The serialised message of one frame."""
    return frame[PREFIX.size :]


def read_frames(path: Path) -> list[bytes]:
    """The frames of the file at `path`."""
    return split_frames(path.read_bytes())
