"""One batch run: keeps a few requests under way at the pace allowed, and makes answers durable in the input's order."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa

from engine import InvalidArgument, VireoError, limits
from serving.batch.columns import Columns, output_schema
from serving.batch.pacing import Pace, paced_rows
from serving.batch.parts import Output
from serving.batch.progress import Progress
from serving.batch.scorer import Scorer
from serving.batch.source import Rows, Source
from serving.batch.tensors import answers_of, inputs_of
from serving.long_run import Stopped, patiently, result_of

Report = Callable[[Progress], None]

_REJECT_FIELDS: Final = (
    pa.field("_file", pa.string()), pa.field("_row", pa.int64()), pa.field("_input_row", pa.int64()),
    pa.field("_reason", pa.string()),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Settings:
    """How a run goes about it; none of it changes the output. `rate`: rows a second at most. `reject`: bad rows are put aside."""

    batch_rows: int = limits.BATCH_READ_ROWS
    rate: float | None = None
    concurrency: int = 2
    reject: bool = False


@dataclass(slots=True)
class _Answered:
    """Rows dealt with: answers, and rows put aside with their reason."""

    batches: list[pa.RecordBatch] = field(default_factory=list)
    rejected: list[pa.RecordBatch] = field(default_factory=list)
    rows: int = 0
    bytes_size: int = 0

    @classmethod
    def of(cls, answers: pa.RecordBatch) -> _Answered:
        return cls([answers], [], answers.num_rows, answers.nbytes)

    @classmethod
    def bad(cls, row: pa.RecordBatch) -> _Answered:
        return cls([], [row], 1, row.nbytes)

    def add(self, other: _Answered) -> None:
        self.batches += other.batches
        self.rejected += other.rejected
        self.rows += other.rows
        self.bytes_size += other.bytes_size


class BatchRun:
    """Scores what `output` does not have yet. `stop`, once set, ends it with what is under way."""

    def __init__(
        self, source: Source, scorer: Scorer, columns: Columns, output: Output, settings: Settings, stop: threading.Event
    ) -> None:  # fmt: skip
        self._source, self._scorer, self._columns = source, scorer, columns
        self._output, self._settings, self._stop = output, settings, stop
        read = pa.schema([source.schema.field(each) for each in columns.read])
        self._schema = output_schema(scorer.signature, source.schema, columns)
        self._rejected_schema = pa.schema([*_REJECT_FIELDS, *read])
        self._pace = Pace(settings.rate)
        self._answered = _Answered()
        self._since_s = 0.0

    def run(self, report: Report) -> Progress:
        """To the end, or until it is stopped. Raises what ends it before: rows before that are durable."""
        begun_s, earlier = time.monotonic(), self._output.manifest.rows_read
        done = earlier

        def progress() -> Progress:
            rejected = self._output.manifest.rejected + len(self._answered.rejected)
            return Progress(done, self._source.rows, earlier, rejected, time.monotonic() - begun_s)

        under_way: deque[tuple[Rows, Future[_Answered]]] = deque()
        with ThreadPoolExecutor(self._settings.concurrency, "vireo-batch") as threads:
            try:
                for rows in self._requests(earlier):
                    under_way.append((rows, threads.submit(self._score, rows)))
                    while len(under_way) >= self._settings.concurrency:
                        done += self._settle(*under_way.popleft())
                        report(progress())
                while under_way:
                    done += self._settle(*under_way.popleft())
                    report(progress())
            except Stopped:
                pass
            finally:
                for _, future in under_way:
                    future.cancel()
                self._commit()
        if not self._stop.is_set():
            self._output.finish(self._schema, self._rejected_schema)
        return progress()

    def _requests(self, first: int) -> Iterator[Rows]:
        """The rows of one request after another, each when its time has come; none once it is to stop."""
        settings, signature = self._settings, self._scorer.signature
        most = min(settings.batch_rows, signature.rows_max or settings.batch_rows) if signature.batchable else 1
        most = paced_rows(most, settings.rate)
        for read in self._source.read(first, self._columns.read, settings.batch_rows):
            for begin in range(0, read.batch.num_rows, most):
                rows = read.slice(begin, min(most, read.batch.num_rows - begin))
                if self._stop.wait(self._pace.wait_s(rows.batch.num_rows, time.monotonic())):
                    return
                yield rows

    def _settle(self, rows: Rows, future: Future[_Answered]) -> int:
        answered, found, now_s = self._answered, result_of(future), time.monotonic()
        if not answered.rows:
            self._since_s = now_s
        answered.add(found)
        if (
            answered.rows >= limits.BATCH_PART_ROWS_MAX
            or answered.bytes_size >= limits.BATCH_PART_BYTES_MAX
            or now_s - self._since_s >= limits.BATCH_PART_S_MAX
        ):
            self._commit()
        return int(rows.batch.num_rows)

    def _commit(self) -> None:
        answered, self._answered = self._answered, _Answered()
        if answered.rows:
            self._output.add(
                pa.Table.from_batches(answered.batches, self._schema),
                pa.Table.from_batches(answered.rejected, self._rejected_schema),
            )

    def _score(self, rows: Rows) -> _Answered:
        """Together where that can be, else in halves, down to the rows that cannot be answered even alone."""
        try:
            return _Answered.of(self._answer(rows.batch))
        except InvalidArgument as error:
            count = rows.batch.num_rows
            if count == 1:
                return self._bad(rows, error.message.removeprefix("row 0: "), error)
        found = self._score(rows.slice(0, count // 2))
        found.add(self._score(rows.slice(count // 2, count - count // 2)))
        return found

    def _bad(self, rows: Rows, reason: str, error: VireoError) -> _Answered:
        if not self._settings.reject:
            raise InvalidArgument(f"{rows.place(0)}: {reason} (--rejects FILE puts such rows aside)") from error
        batch = rows.batch
        told = [pa.array([each], field.type) for each, field in
                zip((rows.name, rows.first_there, rows.first, reason), _REJECT_FIELDS, strict=True)]  # fmt: skip
        return _Answered.bad(pa.RecordBatch.from_arrays([*told, *batch.columns], schema=self._rejected_schema))

    def _answer(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        scorer, columns = self._scorer, self._columns
        inputs = inputs_of(scorer.signature, columns, batch)

        def answers() -> pa.RecordBatch:
            outputs = scorer.score(inputs, columns.outputs)
            return answers_of(scorer.signature, columns, self._schema, batch, outputs, scorer.version)

        return patiently(answers, self._stop)
