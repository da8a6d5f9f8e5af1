"""By which ending a file of rows is known: Parquet, or an Arrow IPC file, which is also called Feather. Knows no library."""

from __future__ import annotations

from typing import Final

PARQUET_SUFFIX: Final = ".parquet"
ARROW_SUFFIXES: Final = (".arrow", ".ipc", ".feather")
TABLE_SUFFIXES: Final = (PARQUET_SUFFIX, *ARROW_SUFFIXES)


def endings(*more: str) -> str:
    """They and `more`, in words."""
    *all_but_last, last = (*TABLE_SUFFIXES, *more)
    return f"{', '.join(all_but_last)} or {last}"
