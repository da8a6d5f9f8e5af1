"""What something was made with: the digests of its files and the versions of the libraries."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path


def sha256_of(path: Path) -> str:
    """Of a file's content, in hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions_of(distributions: Iterable[str]) -> dict[str, str]:
    """Of those that are installed, by name."""
    from importlib.metadata import PackageNotFoundError, version  # which loads a mail parser

    found = {}
    for name in distributions:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
