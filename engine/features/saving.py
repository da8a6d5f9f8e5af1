"""When a view's states are written, and by whom: the view's thread writes the bytes, another makes them safe."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from engine.clock import Clock
from engine.errors import VireoError
from engine.limits import SNAPSHOT_RETRY_S

if TYPE_CHECKING:
    from engine.features.dead_letters import DeadLetters
    from engine.features.fold import Fold
    from engine.features.snapshot import Draft, SnapshotFolder

log = logging.getLogger("vireo.features")


class Saving:
    """The snapshots of one view over time. Used by the view's thread; `error` may be read by any.

    Nothing raises: a disk that is full delays the next snapshot and nothing else.
    """

    def __init__(
        self, folder: SnapshotFolder | None, identity: str, letters: DeadLetters, *, every_s: float, clock: Clock
    ) -> None:
        self._folder, self._identity, self._letters = folder, identity, letters
        self._every_ns, self._clock = int(every_s * 1e9), clock
        self._due_ns = clock() + self._every_ns
        self._finishing: list[threading.Thread] = []
        self.error = ""

    def save_if_due(self, folds: Iterable[Fold]) -> None:
        """Begins to write every state that has moved, where it is time and the last ones are safe."""
        if self._folder is None or self._clock() < self._due_ns:
            return
        self._finishing = [each for each in self._finishing if each.is_alive()]
        if self._finishing:
            return
        self._due_ns = self._clock() + self._every_ns
        for fold in folds:
            self._begin(fold)

    def save(self, folds: Iterable[Fold]) -> None:
        """Writes every state that has moved, and returns when they are safe."""
        for fold in folds:
            self._begin(fold)
        self.wait()

    def give_up(self) -> None:
        """Writes nothing from now on: the state is not what it should be."""
        self._folder = None

    def wait(self) -> None:
        """Returns when what was begun is safe, or has failed."""
        for thread in self._finishing:
            thread.join()
        self._finishing = []

    def _begin(self, fold: Fold) -> None:
        if self._folder is None or fold.is_saved:
            return
        if not self._letters.settle():
            self._failed("dead letters wait to be written, so the state is not")
            return
        offsets = fold.offsets
        try:
            draft = fold.draft(self._folder, self._identity)
        except VireoError as error:
            self._failed(error.message)
            return
        fold.saved_at = offsets
        thread = threading.Thread(
            target=self._finish, args=(self._folder, fold, draft), name="vireo-snapshot", daemon=True
        )
        self._finishing.append(thread)
        thread.start()

    def _finish(self, folder: SnapshotFolder, fold: Fold, draft: Draft) -> None:
        try:
            folder.finish(draft)
        except Exception as error:
            fold.saved_at = None
            self._failed(str(error))
        else:
            self.error = ""

    def _failed(self, text: str) -> None:
        self._due_ns = min(self._due_ns, self._clock() + int(SNAPSHOT_RETRY_S * 1e9))
        if text != self.error:
            self.error = text
            log.warning("feature snapshots: %s; the last ones stay, and it is tried again", text)
