"""Which files an ingestion is about, and what their documents are called."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from engine import DOCUMENT_KINDS, FailedPrecondition, InvalidArgument, NotFound, TooLarge, limits, quoted


@dataclass(frozen=True, slots=True)
class DocumentFile:
    """`name`: of the document, with slashes."""

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class Files:
    """`folders`: names of those that were looked through, whose documents are all of `found`."""

    found: tuple[DocumentFile, ...]
    folders: tuple[str, ...]


def files_in(paths: Sequence[Path], root: Path | None) -> Files:
    """The files that `paths` name, and those in the folders that they name whose endings are of documents, each once, by name.

    A document is called as its path is written, or as it is from `root` on. What begins with a dot is left out, links to folders
    too. Raises NotFound for a path that is not there, InvalidArgument for one outside `root`, TooLarge; FailedPrecondition for a
    folder that cannot be looked through, whose documents would else count as gone.
    """
    found: dict[str, Path] = {}
    folders = []
    for path in paths:
        if path.is_dir():
            folders.append(_name(path, root))
            found |= {_name(each, root): each for each in _walk(path)}
        elif os.path.lexists(path):
            found[_name(path, root)] = path
        else:
            raise NotFound(f"{path}: there is no such file or folder")
        if len(found) > limits.INGEST_FILES_MAX:
            raise TooLarge(f"{path}: more than {limits.INGEST_FILES_MAX} documents; ingest it in parts")
    return Files(tuple(DocumentFile(name, found[name]) for name in sorted(found)), tuple(folders))


def _name(path: Path, root: Path | None) -> str:
    name = Path(os.path.normpath(path) if root is None else os.path.relpath(path, root)).as_posix()
    if root is not None and (name == ".." or name.startswith("../")):
        raise InvalidArgument(f"{path}: lies outside of --root {root}")
    return name


def _walk(folder: Path) -> Iterator[Path]:
    for where, folders, names in os.walk(folder, onerror=_refused):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in DOCUMENT_KINDS:
                yield Path(where, name)


def _refused(error: OSError) -> NoReturn:
    raise FailedPrecondition(f"{error.filename}: cannot be looked through: {error.strerror}") from error


def within(name: str, folder: str) -> bool:
    """Whether a document called `name` lies in the folder called `folder`."""
    return not name.startswith(("/", "../")) if folder == "." else name.startswith(folder.rstrip("/") + "/")


def content_of(file: DocumentFile, bytes_max: int) -> bytes:
    """What is in it. Raises TooLarge past `bytes_max`; FailedPrecondition where it cannot be read or its name is no UTF-8."""
    try:
        file.name.encode()
    except UnicodeEncodeError as error:
        raise FailedPrecondition("has a name that is no UTF-8") from error
    try:
        with open(file.path, "rb", opener=_without_waiting) as opened:
            found = os.fstat(opened.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise FailedPrecondition("is no regular file")
            if found.st_size > bytes_max:
                raise TooLarge(f"has {found.st_size} bytes, at most {bytes_max} are allowed")
            content = opened.read(bytes_max + 1)
    except OSError as error:
        raise FailedPrecondition(f"cannot be opened: {error.strerror}") from error
    if len(content) > bytes_max:
        raise TooLarge(f"has more than {bytes_max} bytes, which are allowed")
    return content


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a named pipe would wait for somebody to write


def told(name: str) -> str:
    """A document's name as a line has it."""
    return quoted(name) if not name.isprintable() else name
