"""A new version of an ONNX model: written, judged beside the one it was made from, and published only where it loses no more
than was allowed. Whether it is served is its version policy's business.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from engine.errors import FailedPrecondition, InvalidArgument, nearest, quoted
from engine.optimization.loss import Judged, loss_between, score_output
from engine.optimization.record import (
    LOSSES,
    RECORD_FILE,
    Loss,
    OptimizationRecord,
    SamplesRecord,
    SourceRecord,
    Speed,
    Step,
)
from engine.optimization.rewrite import LIBRARIES, RewriteOptions, rewrite
from engine.optimization.samples import Samples
from engine.optimization.timing import speed_of
from engine.optimization.version_folder import draft_folder, published
from engine.provenance import sha256_of, versions_of
from engine.servables.onnx import OnnxOptions, OnnxServable, load_onnx
from engine.servables.servable import Servable, Tensors
from engine.tensor import Array

_CALIBRATION_REQUEST_ROWS: Final = 64


@dataclass(frozen=True, slots=True)
class OptimizationWish:
    """What is to be done. `loss_max`: bounds of `record.LOSSES`, at least one. `score`, `k`: see `loss`. `request_rows`: a model
    that batches is timed with requests of so many rows, `runs` of each, and judged in the largest."""

    step: Step
    loss_max: Mapping[str, float]
    options: RewriteOptions = field(default_factory=RewriteOptions)
    score: str | None = None
    k: int = 10
    calibration_rows: int = 512
    judged_rows: int = 8192
    request_rows: tuple[int, ...] = (1, 64)
    runs: int = 400


@dataclass(frozen=True, slots=True)
class WrittenVersion:
    """The version that is there now, in which folder, and what its record says."""

    version: int
    folder: Path
    record: OptimizationRecord


@dataclass(frozen=True, slots=True)
class OptimizationSource:
    """A version to begin with, loaded for the CPU. `model`: the folder of its model, where new versions go."""

    model: Path
    version: int
    file: Path
    options: OnnxOptions
    servable: OnnxServable

    def close(self) -> None:
        """Drops it."""
        self.servable.close()


def open_source(model: Path, version: int, file: Path, *, threads: int, rows_max: int | None) -> OptimizationSource:
    """Raises ModelLoadError."""
    options = OnnxOptions(threads=threads, rows_max=rows_max)
    return OptimizationSource(model, version, file, options, load_onnx(file, options))


def optimize(source: OptimizationSource, samples: Samples, wish: OptimizationWish) -> WrittenVersion:
    """See the module. Raises FailedPrecondition where the step does not apply, the new version loses too much, or the repository
    cannot be written; InvalidArgument for samples or a wish that do not fit the model; ResourceExhausted for a full disk."""
    _check(wish)
    score = score_output(source.servable.signature, wish.score)
    calibration, judged = samples.split(wish.calibration_rows if wish.step == "int8-static" else 0, wish.judged_rows)
    calibration.check_finite()
    with draft_folder(source.model) as draft:
        file = draft / source.file.name
        feeds = [source.servable.feeds(each) for each in calibration.cut(_CALIBRATION_REQUEST_ROWS)]
        chosen = rewrite(wish.step, source.file, file, wish.options, feeds)
        before_ms, old = _loaded(source.file, source.options)
        old.close()
        after_ms, new = _loaded(file, source.options)
        try:
            loss = _judged(source.servable, new, judged, wish, score)
            _check_loss(wish, loss)
            speed = _timed(source.servable, new, judged, wish)
        finally:
            new.close()
        record = OptimizationRecord(
            wish.step,
            SourceRecord(source.version, sha256_of(source.file), source.file.stat().st_size),
            sha256_of(file), sum(each.stat().st_size for each in draft.iterdir()),
            SamplesRecord(samples.source, calibration.rows, judged.rows), loss, tuple(speed), (before_ms, after_ms),
            source.servable.signature.batchable, new.signature.batchable,
            datetime.now(UTC).isoformat(timespec="seconds"), _machine(), chosen, versions_of(LIBRARIES),
            dict(wish.loss_max),
        )  # fmt: skip
        (draft / RECORD_FILE).write_text(record.text(), encoding="utf-8")
        version = published(draft)
    return WrittenVersion(version, source.model / str(version), record)


def _check(wish: OptimizationWish) -> None:
    if not wish.loss_max:
        raise InvalidArgument("--max-loss: at least one bound must be declared")
    for name, bound in wish.loss_max.items():
        if name not in LOSSES:
            raise InvalidArgument(f"--max-loss: no loss {quoted(name)}{nearest(name, LOSSES)}")
        if not 0 <= bound < float("inf"):
            raise InvalidArgument(f"--max-loss: {name}: expected a number from 0 on, got {bound}")


def _check_loss(wish: OptimizationWish, loss: Loss) -> None:
    found = loss.by_name()
    if not np.isfinite(loss.max_abs):
        raise FailedPrecondition(
            f"{wish.step}: an output is no finite number where it was one, or has another shape; nothing was written"
        )
    for name in wish.loss_max:
        if found[name] is None:
            needed = "--outcome, with both kinds of them" if name == "auc" else "--score"
            raise InvalidArgument(f"--max-loss: {name} is not known: it needs {needed}; nothing was written")
    over = [
        f"{name} {value:.6g}, at most {wish.loss_max[name]:g} is allowed"
        for name, value in found.items()
        if value is not None and name in wish.loss_max and value > wish.loss_max[name]
    ]
    if over:
        raise FailedPrecondition(f"{wish.step} loses too much: {'; '.join(over)}; nothing was written")


def _judged(before: Servable, after: Servable, samples: Samples, wish: OptimizationWish, score: str | None) -> Loss:
    rows = max(wish.request_rows)
    old = [before.execute(each, ()) for each in samples.cut(rows)]
    new = [after.execute(each, ()) for each in samples.cut(rows)]
    outcomes = None if samples.outcomes is None else np.concatenate(samples.outcomes)
    return loss_between(old, new, Judged(score, wish.k, _groups(samples, old, score), outcomes))


def _groups(samples: Samples, answers: Sequence[Tensors], score: str | None) -> Array | None:
    """Of a model that does not batch, the scores of one request are a group."""
    if samples.batchable or score is None:
        return samples.groups
    return np.repeat(np.arange(len(answers)), [each[score].array.size for each in answers])


def _timed(before: Servable, after: Servable, samples: Samples, wish: OptimizationWish) -> list[Speed]:
    if not samples.batchable:
        return [speed_of(before, after, samples.requests, 1, wish.runs)]
    found = []
    for rows in sorted({min(each, samples.rows) for each in wish.request_rows}):
        requests = [each for each in samples.cut(rows) if len(next(iter(each.values())).array) == rows]
        found.append(speed_of(before, after, requests, rows, wish.runs))
    return found


def _loaded(file: Path, options: OnnxOptions) -> tuple[float, OnnxServable]:
    begun = time.perf_counter()
    servable = load_onnx(file, options)
    return round((time.perf_counter() - begun) * 1e3, 2), servable


def _machine() -> str:
    """The processor's name: what was timed elsewhere may be otherwise."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
