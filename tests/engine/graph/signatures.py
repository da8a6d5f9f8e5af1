"""Servables that have a signature and nothing behind it, and graphs as a spec writes them, for what is known before requests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from engine import Job, NotFound, Signature, TensorSpec, datatype_named, parse_spec
from engine.graph.declaration import GraphSpec
from engine.graph.port import Target
from engine.scheduling.batcher import BatchBounds


class Port:
    """Computes nothing. `expected` is what it says it would take."""

    nested = False

    def __init__(self, expected_ns: int = 0) -> None:
        self._expected_ns = expected_ns

    @property
    def joint(self) -> BatchBounds | None:
        """Rows are rows."""
        return BatchBounds()

    def submit(self, job: Job) -> None:
        """Nobody runs a graph here."""
        raise AssertionError(job)

    def run_at_once(self, job: Job) -> bool:
        """See `submit`."""
        raise AssertionError(job)

    def flush(self) -> None:
        """Nothing waits."""

    def expected_ns(self, rows: int) -> int:
        """As it was told."""
        return self._expected_ns * rows

    def keep_off_callers(self) -> None:
        """It computes nothing."""


def tensors(text: str) -> tuple[TensorSpec, ...]:
    """ "x FP32 -1 64; who? BYTES -1" as specs; the question mark is for optional ones."""
    found = []
    for part in filter(None, text.split(";")):
        name, datatype, *shape = part.split()
        kind = datatype_named(datatype, of=name)
        found.append(TensorSpec(name.rstrip("?"), kind, tuple(map(int, shape)), name.endswith("?")))
    return tuple(found)


def target(
    name: str,
    inputs: str,
    outputs: str,
    *,
    batchable: bool = True,
    streams: bool = False,
    rows_max: int | None = None,
    version: int = 1,
    expected_ns: int = 0,
) -> Target:
    """A servable."""
    signature = Signature(tensors(inputs), tensors(outputs), batchable, rows_max)
    return Target(name, version, signature, streams, Port(expected_ns))


def finding(*targets: Target) -> Callable[[str, int | None], Target]:
    """Finds these by name."""

    def find(name: str, version: int | None) -> Target:
        for each in targets:
            if each.name == name and version in (None, each.version):
                return each
        raise NotFound(f"model '{name}' is not found")

    return find


def graph(text: str) -> GraphSpec:
    """The graph `g` of a spec whose models are known only when they are loaded."""
    indented = "".join(f"    {line}\n" for line in text.strip("\n").splitlines())
    logs = "logs: {kept: {local: {path: kept}, schema: {id: string, p: float64, n: int64}}}\n"
    return parse_spec(f"repository: {{path: models}}\n{logs}graphs:\n  g:\n{indented}", folder=Path()).graphs["g"]
