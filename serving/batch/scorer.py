"""What answers the requests of a batch run: an engine of this process, or a server by `remote`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from engine import (
    BATCH,
    Deadline,
    Engine,
    FailedPrecondition,
    Request,
    Signature,
    Spec,
    Tensor,
    limits,
    quoted,
    sha256_of,
)
from serving.embedded import new_engine

Tensors = Mapping[str, Tensor]


class Scorer(Protocol):
    """One version of a model, from beginning to end. `identity`: what is compared before a run goes on with it."""

    @property
    def model(self) -> str:
        """Its name."""

    @property
    def version(self) -> int:
        """Its version."""

    @property
    def signature(self) -> Signature:
        """Its tensors."""

    @property
    def identity(self) -> dict[str, Any]:
        """See above."""

    def score(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        """Answers one request, for any thread. Raises InvalidArgument where the inputs are at fault, other errors as they are."""

    def close(self) -> None:
        """Lets go of what it holds."""


class EngineScorer:
    """Scores with an engine of its own, started over `spec`, in the class of requests for which nobody waits."""

    def __init__(self, spec: Spec, model: str, version: int | None) -> None:
        """Raises NotFound, Unavailable, and what the engine raises where the spec cannot be served."""
        self._engine = new_engine(spec)
        try:
            self._engine.start()
            described = self._engine.describe(model, version)
            if described.streams:
                raise FailedPrecondition(
                    f"model {quoted(model)} answers one request with many responses: not in batches"
                )
            self.model, self.version, self.signature = model, described.version, described.signature
            self.identity: dict[str, Any] = {"name": model, "loaded": loaded(self._engine, model, described.version)}
        except BaseException:
            self._engine.close()
            raise

    def score(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        """See Scorer."""
        deadline = Deadline.after(limits.BATCH_REQUEST_S_MAX, self._engine.clock())
        request = Request(self.model, inputs, self.version, outputs=tuple(outputs), deadline=deadline, priority=BATCH)
        return self._engine.infer(request).outputs

    def close(self) -> None:
        """See Scorer."""
        self._engine.close()


def loaded(engine: Engine, model: str, version: int) -> dict[str, Any]:
    """Of the model and all it calls: "name version" and a digest of the file it is loaded from, None where there is none."""
    found: dict[str, Any] = {}
    waiting = [(model, version)]
    while waiting:
        name, number = waiting.pop()
        if f"{name} {number}" in found:
            continue
        file = Path(engine.describe(name, number).source)
        found[f"{name} {number}"] = sha256_of(file)[:16] if file.is_file() else None
        plan = engine.plan(name)
        if plan is not None:
            waiting += [(each.name, each.version) for each in plan.targets]
        elif name in engine.spec.traffic:
            called = [each.call for each in engine.spec.traffic[name].variants.values()]
            waiting += [(each, engine.describe(each, None).version) for each in called]
    return found
