"""What `vireo optimize` says of a version that it wrote: a JSON file beside the model. Pure, but for reading that file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from engine.errors import DataLoss, SpecError
from engine.limits import CONFIG_BYTES_MAX
from engine.provenance import sha256_of
from engine.strict_yaml import plain_of, read_plain

RECORD_FILE: Final = "optimization.json"
"""A version folder that holds one was written by `vireo optimize`."""

PARAMETER: Final = "optimization"
"""Of a model's configuration over the wire: the record as JSON."""

Step = Literal["graph", "int8-dynamic", "int8-static", "fp16"]
STEPS: Final[tuple[Step, ...]] = ("graph", "int8-dynamic", "int8-static", "fp16")


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """The version that it was made from; `sha256` and `bytes` are of its model file."""

    version: int
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class SamplesRecord:
    """Rows (of a model that does not batch: requests) that it was calibrated on, and others that it was judged on."""

    source: str
    calibration_rows: int
    judged_rows: int


@dataclass(frozen=True, slots=True)
class Loss:
    """What the new version says unlike the old one, over the judged rows; every loss is 0 where nothing is lost.

    `max_abs` and `mean_abs`: differences of the values of all floating outputs. `changed`: share of the values of all other
    outputs that differ. `rank`: 1 - Spearman's correlation of the scores, mean over groups. `top_k`: 1 - the share of the old
    best `k` of a group that are among the new best `k`, mean over groups. `auc_before`, `auc_after`: area under the ROC curve
    against outcomes. None: there was no score, or there were no outcomes.
    """

    max_abs: float
    mean_abs: float
    changed: float
    rank: float | None = None
    top_k: float | None = None
    k: int | None = None
    auc_before: float | None = None
    auc_after: float | None = None

    def by_name(self) -> dict[str, float | None]:
        """Every loss that a bound may be declared for."""
        auc = None if self.auc_before is None or self.auc_after is None else self.auc_before - self.auc_after
        return {
            "max_abs": self.max_abs,
            "mean_abs": self.mean_abs,
            "changed": self.changed,
            "rank": self.rank,
            "top_k": self.top_k,
            "auc": auc,
        }


LOSSES: Final = ("max_abs", "mean_abs", "changed", "rank", "top_k", "auc")
"""The names of `Loss.by_name`."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one request: median time, and mean CPU time of the process, in microseconds."""

    p50_us: float
    cpu_us: float


@dataclass(frozen=True, slots=True)
class Speed:
    """Both versions, asked in turns in one process, `runs` times each, with requests of `rows` rows."""

    rows: int
    runs: int
    before: Cost
    after: Cost


@dataclass(frozen=True, slots=True)
class OptimizationRecord:
    """All of it. `sha256`: of the model file beside it, in hexadecimal. `bytes`: of the model's files. `load_ms`: the old and the
    new. `batched_before`, `batched_after`: whether rows of different requests may be computed together."""

    step: Step
    source: SourceRecord
    sha256: str
    bytes: int
    samples: SamplesRecord
    loss: Loss
    speed: tuple[Speed, ...]
    load_ms: tuple[float, ...]
    batched_before: bool
    batched_after: bool
    made_at: str
    machine: str
    options: Mapping[str, str] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)
    loss_max: Mapping[str, float] = field(default_factory=dict)
    format: Literal["1"] = "1"

    def text(self) -> str:
        """As the file has it."""
        return json.dumps(plain_of(self), indent=1)

    def lines(self) -> Iterator[str]:
        """In words, for `vireo explain` and whoever ran the command."""
        samples = self.samples
        calibrated = f", calibrated on {samples.calibration_rows} rows" if samples.calibration_rows else ""
        told = "".join(f", {name} {value}" for name, value in self.options.items())
        yield f"{self.step} of version {self.source.version} (sha256 {self.source.sha256[:12]}){calibrated}{told}"
        yield f"size {self.source.bytes} -> {self.bytes} bytes, load {self.load_ms[0]:.1f} -> {self.load_ms[1]:.1f} ms"
        for each in self.speed:
            before, after = each.before, each.after
            yield (
                f"{each.rows} row(s): p50 {before.p50_us:.1f} -> {after.p50_us:.1f} us ({before.p50_us / after.p50_us:.2f} times "
                f"as fast), CPU {before.cpu_us:.1f} -> {after.cpu_us:.1f} us a request, on {self.machine}"
            )
        yield f"loss over {samples.judged_rows} rows of {samples.source}: {', '.join(self._losses())}"
        if self.batched_before and not self.batched_after:
            yield "its rows depend on the rows beside them, so requests are not computed together as the source's are"

    def _losses(self) -> Iterator[str]:
        for name, value in self.loss.by_name().items():
            if value is not None and (value or name != "changed"):
                bound = f" (at most {self.loss_max[name]:g})" if name in self.loss_max else ""
                yield f"{self._named(name)} {value:.6f}{bound}"

    def _named(self, name: str) -> str:
        if name == "auc":
            return f"auc {self.loss.auc_before:.4f} -> {self.loss.auc_after:.4f},"
        return f"top_{self.loss.k}" if name == "top_k" else name


def read_record(folder: Path) -> OptimizationRecord | None:
    """That of a version folder; None where there is none. Raises DataLoss where it cannot be read."""
    path = folder / RECORD_FILE
    try:
        with path.open("rb") as file:
            content = file.read(CONFIG_BYTES_MAX + 1)
        if len(content) > CONFIG_BYTES_MAX:
            raise DataLoss(f"{RECORD_FILE}: larger than {CONFIG_BYTES_MAX} bytes")
        record = read_plain(json.loads(content), OptimizationRecord, RECORD_FILE)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError, SpecError) as error:
        raise DataLoss(f"{RECORD_FILE}: cannot be read: {error}") from error
    if len(record.load_ms) != 2:
        raise DataLoss(f"{RECORD_FILE}: load_ms: expected 2 numbers, got {len(record.load_ms)}")
    return record


def told_of(file: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """What the record beside a model file says: in words, and as it stands by the name PARAMETER; or that it cannot be read, or
    is of another file."""
    try:
        record = read_record(file.parent)
    except DataLoss as error:
        return (error.message,), {}
    if record is None:
        return (), {}
    if record.sha256 != sha256_of(file):
        return (f"{RECORD_FILE} is of another file than this {file.name}",), {}
    return tuple(record.lines()), {PARAMETER: record.text()}
