"""Where documents go: a collection of an engine in this process, or of a server by `remote`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from engine import (
    BATCH,
    CollectionSpec,
    Deadline,
    EmbedderSpec,
    FailedPrecondition,
    Filter,
    Hit,
    PointId,
    Request,
    Spec,
    Tensor,
    limits,
    parse_filter,
    points_of,
    quoted,
)
from serving.embedded import new_engine

TEXT: Final = "text"
PROMPT: Final = "prompt"
EMBEDDING: Final = "embedding"

Point = Mapping[str, Any]
Payloads = dict[PointId, Mapping[str, Any]]
Vectors = npt.NDArray[np.float32]


class Target(Protocol):
    """One collection, for one thread. What it writes is durable once it returns. Raises VireoError."""

    @property
    def collection(self) -> CollectionSpec:
        """What it is."""

    def embed(self, embedder: EmbedderSpec, prompt: str | None, texts: Sequence[str]) -> Vectors:
        """A vector of each text, [n, d]. `prompt`: the name of the encoder's prompt, None for its default."""

    def upsert(self, points: Sequence[Point]) -> None:
        """Writes points, as `points_of` takes them."""

    def set_payload(self, ids: Sequence[PointId], values: Mapping[str, Any]) -> None:
        """Changes fields of points."""

    def delete(self, ids: Sequence[PointId]) -> None:
        """Deletes points."""

    def get(self, ids: Sequence[PointId], fields: Sequence[str]) -> Payloads:
        """Those of the points that are there."""

    def scroll(
        self, where: Mapping[str, str], fields: Sequence[str], after: PointId | None
    ) -> tuple[Payloads, PointId | None]:
        """INGEST_LOOKUPS_MAX points at most past `after` whose keywords are as `where` says; where to go on, None at the end."""

    def close(self) -> None:
        """Lets go of what it holds."""


def filter_of(where: Mapping[str, str]) -> dict[str, Any]:
    """The filter of a scroll, as clients write it."""
    return {"must": [{"key": field, "match": {"value": value}} for field, value in where.items()]}


def text_tensors(model: str, inputs: Sequence[tuple[str, str]], outputs: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """The input that takes texts and the output that gives vectors, of (name, datatype) pairs. Raises FailedPrecondition."""
    found = (_chosen(inputs, TEXT, "BYTES"), _chosen(outputs, EMBEDDING, "FP32"))
    if found[0] is None or found[1] is None:
        raise FailedPrecondition(
            f"model {quoted(model)} embeds no texts: expected one input of BYTES, or '{TEXT}', and one output of FP32, or "
            f"'{EMBEDDING}', got inputs {dict(inputs)} and outputs {dict(outputs)}"
        )
    return found[0], found[1]


def _chosen(tensors: Sequence[tuple[str, str]], name: str, datatype: str) -> str | None:
    fitting = [each for each, its in tensors if its == datatype]
    return name if name in fitting else fitting[0] if len(fitting) == 1 else None


class EngineTarget:
    """An engine of its own over what of `spec` is needed: no language model is loaded, nor models that embed nothing here."""

    def __init__(self, spec: Spec, name: str, tenant: str | None) -> None:
        """Raises NotFound, Unavailable where a server has the collections open, and what the engine raises."""
        self._tenant = tenant
        self._engine = new_engine(_needed(spec, name))
        self._tensors: dict[str, tuple[str, str]] = {}
        try:
            self._engine.start()
            self._collection = self._engine.vectors.collection(name)
        except BaseException:
            self._engine.close()
            raise

    @property
    def collection(self) -> CollectionSpec:
        """See Target."""
        return self._collection.spec

    def embed(self, embedder: EmbedderSpec, prompt: str | None, texts: Sequence[str]) -> Vectors:
        """See Target."""
        text, embedding = self._tensors_of(embedder)
        inputs = {text: Tensor.from_texts(texts)}
        if prompt is not None:
            inputs[PROMPT] = Tensor.from_texts([prompt] * len(texts))
        deadline = Deadline.after(limits.BATCH_REQUEST_S_MAX, self._engine.clock())
        asked = Request(
            embedder.model, inputs, embedder.version, outputs=(embedding,), deadline=deadline, priority=BATCH
        )
        found: Vectors = self._engine.infer(asked).outputs[embedding].array
        return found

    def _tensors_of(self, embedder: EmbedderSpec) -> tuple[str, str]:
        if embedder.model not in self._tensors:
            signature = self._engine.describe(embedder.model, embedder.version).signature
            inputs, outputs = (
                [(each.name, each.datatype.name) for each in side] for side in (signature.inputs, signature.outputs)
            )
            self._tensors[embedder.model] = text_tensors(embedder.model, inputs, outputs)
        return self._tensors[embedder.model]

    def upsert(self, points: Sequence[Point]) -> None:
        """See Target."""
        self._collection.upsert(points_of(self.collection, points), tenant=self._tenant)

    def set_payload(self, ids: Sequence[PointId], values: Mapping[str, Any]) -> None:
        """See Target."""
        self._collection.set_payload(values, ids=ids, tenant=self._tenant)

    def delete(self, ids: Sequence[PointId]) -> None:
        """See Target."""
        self._collection.delete(ids, tenant=self._tenant)

    def get(self, ids: Sequence[PointId], fields: Sequence[str]) -> Payloads:
        """See Target."""
        return _payloads(self._collection.get(ids, payload=fields, tenant=self._tenant))

    def scroll(
        self, where: Mapping[str, str], fields: Sequence[str], after: PointId | None
    ) -> tuple[Payloads, PointId | None]:
        """See Target."""
        wanted: Filter | None = parse_filter(filter_of(where), self.collection) if where else None
        found, last = self._collection.scroll(
            filter_=wanted, limit=limits.INGEST_LOOKUPS_MAX, after=after, payload=fields, tenant=self._tenant
        )
        return _payloads(found), last

    def close(self) -> None:
        """See Target."""
        self._engine.close()


def _needed(spec: Spec, name: str) -> Spec:
    """Of `spec`: the collections and what embeds for this one."""
    declared = spec.vectors.collections.get(name) if spec.vectors is not None else None
    vectors = {} if declared is None else declared.vectors
    embedders = {each.embedder.model for each in vectors.values() if each.embedder is not None}
    if declared is not None and embedders <= spec.encoders.keys():
        encoders = {model: spec.encoders[model] for model in embedders}
        return Spec(spec.server, vectors=spec.vectors, encoders=encoders, folder=spec.folder)
    return replace(spec, language_models={})


def _payloads(found: Sequence[Hit]) -> Payloads:
    return {each.id: each.payload for each in found}
