"""The kinds of event the compiled module reports, numbered as `EventKind` in `src/wire.hpp`; see `_wire.pyi`."""

from typing import Final

CALL: Final = 0
OPEN: Final = 1
MESSAGE: Final = 2
DATA: Final = 3
END: Final = 4
RESET: Final = 5
ROOM: Final = 6
REFUSED: Final = 7
ASKING_CALL: Final = 8
