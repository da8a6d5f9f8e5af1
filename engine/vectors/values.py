"""A value of a payload field as clients give it, in points and in filters, made into the one that is kept. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from engine.errors import InvalidArgument, quoted
from engine.limits import ECHO_CHARS_MAX
from engine.vectors.declaration import FieldType

Plain = str | int | float | bool | tuple[float, float]
"""keyword, text: str; integer, and datetime in microseconds since the Unix epoch: int; float; bool; geo: latitude, longitude."""

PointId = int | str

INTEGER_MIN: Final = -(1 << 63)
INTEGER_MAX: Final = (1 << 63) - 1
TEXT_ID_BYTES_MAX: Final = 255
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def echo(value: object) -> str:
    """`value` as an error message shows it: what it is, bounded."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, int) and value.bit_length() > 256:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, int | float | None):
        return repr(value)
    if isinstance(value, list | tuple | set | frozenset | dict | Mapping):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, bytes | bytearray | memoryview):
        return f"{len(value)} bytes"
    return f"a {type(value).__name__}"[:ECHO_CHARS_MAX]


def plain_value(kind: FieldType, value: object) -> Plain:
    """`value` as a field of `kind` keeps it. Raises InvalidArgument, "expected ..., got ...", where it is none: True is no
    integer, 1 is a float, NaN is nothing."""
    return _BY_KIND[kind](value)


def number(value: object) -> int | float:
    """A finite number. Raises InvalidArgument."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidArgument(f"expected a number, got {echo(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidArgument(f"expected a finite number, got {value}")
    return value


def text(value: object) -> str:
    """A string that can be encoded as UTF-8. Raises InvalidArgument."""
    if not isinstance(value, str):
        raise InvalidArgument(f"expected a string, got {echo(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise InvalidArgument(f"expected text of valid Unicode, got {quoted(value)}") from error
    return value


def integer(value: object) -> int:
    """64 bits, signed. Raises InvalidArgument."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidArgument(f"expected an integer, got {echo(value)}")
    if not INTEGER_MIN <= value <= INTEGER_MAX:
        raise InvalidArgument(f"expected an integer of 64 bits, signed, got {echo(value)}")
    return int(value)


def instant_us(value: object) -> int:
    """Microseconds since the Unix epoch of an instant as RFC 3339 writes it (UTC where it names no zone), of a `datetime`, or of
    such a number itself. Raises InvalidArgument."""
    if isinstance(value, int) and not isinstance(value, bool):
        return integer(value)
    if isinstance(value, datetime):
        return _since_epoch(value)
    try:
        return _since_epoch(datetime.fromisoformat(text(value)))
    except (ValueError, OverflowError, InvalidArgument) as error:
        raise InvalidArgument(
            f"expected an instant such as '2026-01-31T00:00:00Z' or microseconds since 1970, got {echo(value)}"
        ) from error


def _since_epoch(instant: datetime) -> int:
    since = (instant if instant.tzinfo else instant.replace(tzinfo=UTC)) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def location(value: object) -> tuple[float, float]:
    """Latitude and longitude in degrees, from {"lat": ..., "lon": ...} or such a pair. Raises InvalidArgument."""
    if isinstance(value, Mapping) and value.keys() == {"lat", "lon"}:
        pair: tuple[object, object] = (value["lat"], value["lon"])
    elif isinstance(value, list | tuple) and len(value) == 2:
        pair = (value[0], value[1])
    else:
        raise InvalidArgument(f"expected {{'lat': ..., 'lon': ...}}, got {echo(value)}")
    latitude, longitude = (float_of(each) for each in pair)
    if not -90 <= latitude <= 90 or not -180 <= longitude <= 180:
        raise InvalidArgument(
            f"expected a latitude within 90 and a longitude within 180 degrees, got {latitude} and {longitude}"
        )
    return latitude, longitude


def float_of(value: object) -> float:
    """A finite number as a float of 64 bits. Raises InvalidArgument."""
    try:
        return float(number(value))
    except OverflowError as error:
        raise InvalidArgument(f"expected a number of 64 bits, got {echo(value)}") from error


def truth(value: object) -> bool:
    """True or False. Raises InvalidArgument."""
    if not isinstance(value, bool):
        raise InvalidArgument(f"expected true or false, got {echo(value)}")
    return value


def checked_id(value: object, kind: str) -> PointId:
    """A point's id. Raises InvalidArgument, "expected ..., got ...". `kind`: of CollectionSpec."""
    if kind == "integer":
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 64:
            raise InvalidArgument(f"expected an id of 64 bits, unsigned, got {echo(value)}")
        return int(value)
    if not 1 <= (size := len(text(value).encode())) <= TEXT_ID_BYTES_MAX:
        raise InvalidArgument(f"expected an id of 1 to {TEXT_ID_BYTES_MAX} bytes, got {size}")
    return str(value)


def are_integer_ids(given: tuple[object, ...]) -> bool:
    """Whether all are whole numbers that can be ids, asked at once: a user has seen hundreds, and each request names them."""
    whole = [each for each in given if type(each) is int]
    return len(whole) == len(given) > 0 and min(whole) >= 0 and max(whole) < 1 << 64


_BY_KIND: Final[Mapping[FieldType, Callable[[object], Plain]]] = {
    "keyword": text,
    "text": text,
    "integer": integer,
    "float": float_of,
    "bool": truth,
    "datetime": instant_us,
    "geo": location,
}
