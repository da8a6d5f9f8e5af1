"""Header blocks of HTTP/2 (RFC 7541) as a gRPC client writes and reads them. Pure.

Written are literals that no table keeps. Read are blocks of peers that were told to keep no table (SETTINGS_HEADER_TABLE_SIZE 0),
so that equal bytes mean equal headers and each block is decoded once.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from engine.limits import TRITON_HEADER_BLOCKS_MAX

_PATH, _AUTHORITY, _CONTENT_TYPE, _USER_AGENT = 4, 1, 31, 58
_METHOD_POST, _SCHEME_HTTP, _SCHEME_HTTPS = b"\x83", b"\x86", b"\x87"


def integer(value: int, bits: int) -> bytes:
    """RFC 7541, 5.1: `value` in a prefix of `bits`, the bits before it zero."""
    full = (1 << bits) - 1
    if value < full:
        return bytes([value])
    parts, value = bytearray([full]), value - full
    while value >= 128:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def literal(name: str | int, value: str) -> bytes:
    """A field that is not indexed; `name` is text, or an index of the static table."""
    named = integer(name, 4) if isinstance(name, int) else b"\x00" + _text(name)
    return named + _text(value)


def _text(value: str) -> bytes:
    raw = value.encode()
    return integer(len(raw), 7) + raw


def call_headers(path: str, authority: str, *, tls: bool, metadata: Mapping[str, str]) -> bytes:
    """The header block of a gRPC call, without its timeout."""
    return b"".join(
        (
            _METHOD_POST,
            _SCHEME_HTTPS if tls else _SCHEME_HTTP,
            literal(_PATH, path),
            literal(_AUTHORITY, authority),
            literal("te", "trailers"),
            literal(_CONTENT_TYPE, "application/grpc"),
            literal(_USER_AGENT, "vireo"),
            *(literal(name, value) for name, value in metadata.items()),
        )
    )


_TIMEOUT = b"\x00" + _text("grpc-timeout")


def timeout_header(remaining_ns: int) -> bytes:
    """gRPC's own: at most eight digits and a unit."""
    micros = max(1, remaining_ns // 1_000)
    told = b"%du" % micros if micros < 100_000_000 else b"%dS" % min(micros // 1_000_000, 99_999_999)
    return _TIMEOUT + bytes([len(told)]) + told


class HeaderReader(dict[bytes, dict[str, str]]):
    """The fields of each header block of one connection, by its bytes. Raises ValueError for one that cannot be read."""

    @cached_property
    def _decoder(self) -> Any:  # noqa: ANN401  hpack has no types
        from hpack import Decoder

        made = Decoder()
        made.max_allowed_table_size = 0
        made.header_table_size = 0
        return made

    def __missing__(self, block: bytes) -> dict[str, str]:
        try:
            found = {str(name): str(value) for name, value in self._decoder.decode(block)}
        except Exception as error:  # of the library: whatever it is, the connection is of no use any more
            raise ValueError(f"a header block cannot be read: {error}") from error
        if len(self) >= TRITON_HEADER_BLOCKS_MAX:
            self.clear()
        self[block] = found
        return found
