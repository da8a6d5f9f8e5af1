"""What a batch run has done, and of what: the small file that a resume trusts, and whether it is the same run. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from engine import DataLoss, FailedPrecondition, decodable

FORMAT: Final = 1
_SHOWN: Final = 5


class Part(msgspec.Struct, frozen=True):
    """A durable piece of the output: `rows` answered, and `rejected`, of the input's next `rows + rejected`."""

    rows: int
    rejected: int


class Manifest(msgspec.Struct, frozen=True):
    """`identity`: what decides the output: input, model, columns. `parts` in the input's order; `done`: that is all."""

    identity: dict[str, Any]
    parts: tuple[Part, ...] = ()
    done: bool = False
    format: int = FORMAT

    @property
    def rows(self) -> int:
        """Rows answered."""
        return sum(each.rows for each in self.parts)

    @property
    def rejected(self) -> int:
        """Rows rejected."""
        return sum(each.rejected for each in self.parts)

    @property
    def rows_read(self) -> int:
        """Rows of the input that are dealt with: the next run begins there."""
        return self.rows + self.rejected

    def encoded(self) -> bytes:
        """As it is stored."""
        return msgspec.json.encode(self)


def decoded(content: bytes, name: str) -> Manifest:
    """The manifest stored as `content` in the file `name`. Raises DataLoss, FailedPrecondition for one of a later format."""
    try:
        manifest = msgspec.json.decode(content, type=decodable(Manifest))
    except msgspec.MsgspecError as error:
        raise DataLoss(f"{name}: not a batch run's progress: {error}; --restart begins anew") from error
    if manifest.format != FORMAT:
        raise FailedPrecondition(f"{name}: format {manifest.format}, expected {FORMAT}; --restart begins anew")
    return manifest


def check_same(before: Mapping[str, Any], now: Mapping[str, Any], output: str) -> None:
    """Raises FailedPrecondition, naming what differs, where an output begun with one identity would go on with another."""
    found = list(_differences("", before, now))
    if found:
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise FailedPrecondition(
            f"{output} was begun with another input, model or columns: {'; '.join(found[:_SHOWN])}{more}; --restart begins anew"
        )


def _differences(place: str, before: object, now: object) -> Iterator[str]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in sorted({*before, *now}):
            inner = f"{place}: {key}" if place else key
            if key not in now:
                yield f"{inner} is no more"
            elif key not in before:
                yield f"{inner} is new"
            else:
                yield from _differences(inner, before[key], now[key])
    elif before != now:
        yield f"{place} was {before!r}, is {now!r}"
