"""The bounds of documents, with their unit in their names. The first three are defaults, which a spec may change."""

from __future__ import annotations

from typing import Final

DOCUMENT_BYTES_MAX: Final = 64 << 20
"""Of one file."""

DOCUMENT_PAGES_MAX: Final = 5_000
"""Of one PDF."""

DOCUMENT_SECONDS_MAX: Final = 120.0
"""How long the reading of one file may take; then its reader is ended."""

DOCUMENT_READER_BYTES_MAX: Final = 4 << 30
"""Of addresses that a reader may use: a small file can be made to need any amount of memory."""

DOCUMENT_NESTING_MAX: Final = 1_000
"""Elements of HTML in each other."""

DOCUMENT_CHARS_MAX: Final = 32 << 20
"""Of the text that is read from one file."""
