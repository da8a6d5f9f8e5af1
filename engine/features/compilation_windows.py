"""Durations and windows of a declared view, checked. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from engine.duration import DURATION_US_MAX, UNITS_US, duration_text, duration_us
from engine.errors import SpecError, quoted
from engine.features.declaration import FeatureSpec
from engine.features.window import SECOND_US, TILES_MAX, Window, WindowKind

Place = Callable[[str], str]

WINDOW_US_MAX: Final = 90 * UNITS_US["d"]
TILES_IN_WINDOW_MAX: Final = TILES_MAX - 1
TILES_MIN: Final = 12
"""By default a window holds at least so many tiles: a sawtooth is then at most a twelfth too long."""

HALF_LIVES: Final = 20
"""After so many a weight is below a millionth."""

DEFAULT_TILES_US: Final = tuple(
    count * UNITS_US[unit]
    for unit, counts in (("s", (1, 2, 5, 10, 15, 30)), ("m", (1, 2, 5, 10, 15, 30)), ("h", (1, 2, 3, 6, 12)),
                         ("d", (1, 2, 3, 5, 7, 10)))
    for count in counts
)  # fmt: skip


def duration_at(place: Place, key: str, text: str, low_us: int, high_us: int = DURATION_US_MAX) -> int:
    """The duration at `key`, from `low_us` to `high_us`. Raises SpecError with the place."""
    try:
        found = duration_us(text)
    except SpecError as error:
        raise SpecError(f"{place(key)}: {error.message}") from error
    if not low_us <= found <= high_us:
        bounds = f"{duration_text(low_us)} to {duration_text(high_us)}"
        raise SpecError(f"{place(key)}: must be from {bounds}, got {quoted(text)}")
    return found


def window_at(place: Place, key: str, spec: FeatureSpec, text: str, *, is_against: bool = False) -> Window:
    """The window of length `text` with the feature's kind, and its tile, which a window to compare against does not take."""
    field = f"{key}.{'against' if is_against else 'window'}"
    length = duration_at(place, field, text, SECOND_US, WINDOW_US_MAX)
    if length % SECOND_US:
        raise SpecError(f"{place(field)}: must be whole seconds, got {quoted(text)}")
    kind = WindowKind(spec.kind)
    tile = None if spec.tile is None or is_against else _tile_at(place, f"{key}.tile", spec.tile)
    if kind is WindowKind.TUMBLING:
        if tile not in (None, length):
            raise SpecError(f"{place(f'{key}.tile')}: a tumbling window is one tile; leave it out, got {spec.tile!r}")
        return Window(kind, length, length)
    if tile is None:
        tile = default_tile_us(length)
        if tile is None:
            some = f"no default tile divides {text} into {TILES_MIN} to {TILES_IN_WINDOW_MAX} tiles"
            raise SpecError(f"{place(field)}: {some}; give 'tile' or another length")
    elif length % tile or length // tile > TILES_IN_WINDOW_MAX:
        rule = f"must divide the window, {text}, into at most {TILES_IN_WINDOW_MAX} tiles"
        raise SpecError(f"{place(f'{key}.tile')}: {rule}, got {spec.tile!r}, {duration_text(tile)}")
    return Window(kind, length, tile)


def default_tile_us(length_us: int) -> int | None:
    """The tile of a window without one, as docs/reference/features.md says; None where that makes too many."""
    fitting = [tile for tile in DEFAULT_TILES_US if length_us % tile == 0 and length_us // tile >= TILES_MIN]
    tile = max(fitting, default=SECOND_US)
    return tile if length_us // tile <= TILES_IN_WINDOW_MAX else None


def _tile_at(place: Place, key: str, text: str) -> int:
    tile = duration_at(place, key, text, SECOND_US, WINDOW_US_MAX)
    if tile % SECOND_US:
        raise SpecError(f"{place(key)}: must be whole seconds, got {quoted(text)}")
    return tile
