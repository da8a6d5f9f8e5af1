"""One ingestion: what has changed is read, split, embedded, and durable before the next is begun.

Documents go one after another; their passages are embedded and written INGEST_POINTS_MAX together. A run that was killed is done
again: what is there stays.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from engine import DocumentReader, Ingestion, PassagePoint, PointId, VireoError, limits
from serving.ingest.files import Files, content_of, within
from serving.ingest.progress import IngestCounts, IngestProgress
from serving.ingest.target import Payloads, Point, Target
from serving.long_run import patiently

Report = Callable[[IngestProgress], None]


@dataclass(frozen=True, slots=True)
class _Read:
    name: str
    content: bytes
    digest: str


class IngestRun:
    """Puts `files` into a collection. `stop`, once set, ends it with what is under way. `problem` is told of documents that
    cannot be read, as they are met."""

    def __init__(
        self, target: Target, ingestion: Ingestion, files: Files, stop: threading.Event, problem: Callable[[str, str], None]
    ) -> None:  # fmt: skip
        self._target, self._ingestion, self._files, self._stop = target, ingestion, files, stop
        self._problem = problem
        self._reader = DocumentReader(ingestion.spec)
        self._fields = ingestion.spec.fields
        self._waiting: list[PassagePoint] = []
        self._began_s = time.monotonic()
        self.counts = IngestCounts()

    def progress(self) -> IngestProgress:
        """How far it is."""
        return IngestProgress(self.counts, len(self._files.found), time.monotonic() - self._began_s)

    def run(self, report: Report, *, prune: bool) -> None:
        """To the end, or until it is stopped. Raises what ends it before, such as Stopped: what is written stays."""
        try:
            for some in self._looked_up():
                found = self._first_passages(some)
                for each in some:
                    if self._stop.is_set():
                        break
                    self._take(each, found)
                    report(self.progress())
            self._write(0)
        finally:
            self._reader.close()
        if prune and not self._stop.is_set():
            self._prune(report)
        report(self.progress())

    def _looked_up(self) -> Iterator[list[_Read]]:
        """The files that can be opened, as many together as are looked up at once."""
        some: list[_Read] = []
        held = 0
        for file in self._files.found:
            if self._stop.is_set():
                return
            try:
                content = content_of(file, self._ingestion.spec.bytes_max)
            except VireoError as error:
                self.counts.documents += 1
                self._not_read(file.name, error)
                continue
            some.append(_Read(file.name, content, self._ingestion.passages.digest(content)))
            held += len(content)
            if len(some) == limits.INGEST_LOOKUPS_MAX or held > limits.INGEST_BYTES_MAX:
                yield some
                some, held = [], 0
        yield some

    def _first_passages(self, some: Sequence[_Read]) -> Payloads:
        ids = [self._ingestion.passages.id(each.name, 0) for each in some]
        return patiently(partial(self._target.get, ids, [self._fields.digest]), self._stop) if ids else {}

    def _take(self, read: _Read, first: Payloads) -> None:
        passages = self._ingestion.passages
        self.counts.documents += 1
        payload = first.get(passages.id(read.name, 0))
        if payload is not None and passages.is_as(payload, read.digest):
            self.counts.unchanged += 1
            return
        try:
            document = self._reader.read(read.name, read.content)
        except VireoError as error:
            self._not_read(read.name, error)
            return
        points = passages.points(read.name, read.digest, document)
        changes = passages.changes(points, self._kept(read.name))
        if changes.doubt is not None:
            patiently(partial(self._target.set_payload, [changes.doubt], {self._fields.digest: ""}), self._stop)
        self._delete(changes.delete)
        self._waiting += changes.write
        self._write(limits.INGEST_POINTS_MAX - 1)

    def _not_read(self, name: str, error: VireoError) -> None:
        self.counts.problems[name] = error.message
        self._problem(name, error.message)

    def _kept(self, name: str) -> Payloads:
        """The passages of a document that are there."""
        found: Payloads = {}
        for page in self._pages({self._fields.document: name}, self._fields.digest):
            found |= page
        return found

    def _pages(self, where: dict[str, str], field: str) -> Iterator[Payloads]:
        after: PointId | None = None
        while True:
            page, after = patiently(partial(self._target.scroll, where, [field], after), self._stop)
            yield page
            if after is None:
                return

    def _write(self, most: int) -> None:
        """Writes what waits, until at most so many do."""
        while len(self._waiting) > most:
            some = self._waiting[: limits.INGEST_POINTS_MAX]
            points = self._embedded(some)
            patiently(partial(self._target.upsert, points), self._stop)
            del self._waiting[: len(some)]
            self.counts.written += len(some)

    def _embedded(self, some: Sequence[PassagePoint]) -> list[Point]:
        texts = [each.embedded for each in some]
        vectors = {}
        for name, embedder in self._ingestion.embedders.items():
            prompt = self._ingestion.prompts.get(embedder.model)
            vectors[name] = patiently(partial(self._target.embed, embedder, prompt, texts), self._stop)
        return [
            {"id": each.id, "vector": {name: rows[at] for name, rows in vectors.items()}, "payload": each.payload}
            for at, each in enumerate(some)
        ]

    def _delete(self, ids: Sequence[PointId]) -> None:
        for at in range(0, len(ids), limits.INGEST_LOOKUPS_MAX):
            some = ids[at : at + limits.INGEST_LOOKUPS_MAX]
            patiently(partial(self._target.delete, some), self._stop)
            self.counts.deleted += len(some)

    def _prune(self, report: Report) -> None:
        """Deletes the documents that lie in one of the folders by their name, and are there no more."""
        there = {each.name for each in self._files.found}
        folders = [each for each in self._files.folders if any(within(name, each) for name in there)]
        for each in sorted({*self._files.folders} - {*folders}):
            self.counts.problems[each] = told = "has no documents: nothing of it is pruned"
            self._problem(each, told)
        gone: dict[str, list[PointId]] = {}
        for page in self._pages({}, self._fields.document):
            for key, payload in page.items():
                name = payload.get(self._fields.document)
                if isinstance(name, str) and name not in there and any(within(name, each) for each in folders):
                    gone.setdefault(name, []).append(key)
        for ids in gone.values():
            self._delete(ids)
            self.counts.pruned += 1
            report(self.progress())
