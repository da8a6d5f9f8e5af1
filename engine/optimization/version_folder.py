"""A version folder of a model repository that is there whole or not at all.

It is written under a hidden name beside the versions, which no repository reads, synced, and renamed. What a killed process
left there is removed by the next one: whoever writes holds a lock on the folder, which ends with the process.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

from engine.errors import FailedPrecondition
from engine.log.disk import disk_fault, sync_folder

_DRAFT: Final = ".optimizing-"
_TRIES: Final = 100


@contextmanager
def draft_folder(model: Path) -> Iterator[Path]:
    """An empty hidden folder in that of a model, gone afterwards unless it was `published`. Raises FailedPrecondition,
    ResourceExhausted or Unavailable where it cannot be made."""
    _remove_abandoned(model)
    draft = model / f"{_DRAFT}{uuid4().hex}"
    try:
        draft.mkdir()
        lock = _locked(draft)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise FailedPrecondition(f"{model}: cannot be written: {error.strerror}") from error
        raise disk_fault(error, model, "make a version") from error
    try:
        yield draft
    except OSError as error:
        raise disk_fault(error, model, "write a version") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def published(draft: Path) -> int:
    """Makes a draft the version after the greatest there is, in one step; its number. Raises OSError."""
    for each in sorted(draft.rglob("*")):
        if each.is_file():
            with each.open("rb") as file:
                os.fsync(file.fileno())
    sync_folder(draft)
    model = draft.parent
    for _ in range(_TRIES):
        numbers = [int(each) for each in os.listdir(model) if each.isascii() and each.isdigit()]
        version = max(numbers, default=0) + 1
        try:
            draft.rename(model / str(version))
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # another was faster
                continue
            raise
        sync_folder(model)
        return version
    raise OSError(errno.EBUSY, "other versions are being written", str(model))


def _locked(folder: Path) -> int | None:
    """A lock on it until the descriptor is closed; None where another holds it."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    except BaseException:
        os.close(file)
        raise
    return file


def _remove_abandoned(model: Path) -> None:
    with suppress(OSError):
        for each in model.glob(f"{_DRAFT}*"):
            lock = _locked(each)
            if lock is not None:
                shutil.rmtree(each, ignore_errors=True)
                os.close(lock)
