"""A feature view as a servable: entities in, a matrix of their features out, with what is null, missing or stale said.

Inputs: the entity column by its name, BYTES or INT64 [-1]; optionally "as_of", INT64 [-1], microseconds since the Unix epoch
(now); optionally the view's request inputs, FP64 or BYTES [-1]. Outputs: "features" FP64 [-1, F], NaN where null; "valid" BOOL
[-1, F]; "event_time" INT64 [-1], of the newest event, 0 where missing; "status" UINT8 [-1], 0 present, 1 missing, 2 stale; and
for each feature that is a text, BYTES [-1] by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from engine.errors import FailedPrecondition, InvalidArgument, ModelLoadError, VireoError, quoted
from engine.features.answer import FeatureRows
from engine.features.declaration import FeatureViewSpec
from engine.features.lookup import FeatureView
from engine.features.relations import LOOKUP_OUTPUTS
from engine.features.store import FeatureStore
from engine.limits import LOOKUP_ROWS_MAX
from engine.servables.servable import Tensors, Traits
from engine.servables.signature import ANY, Signature, TensorSpec
from engine.tensor import BOOL, BYTES, FP64, INT64, UINT8, Array, Tensor

AS_OF = "as_of"
FEATURES, VALID, EVENT_TIME, STATUS = LOOKUP_OUTPUTS


class FeatureLookup:
    """Looks up a view that it owns: closing it closes the view. Any number of threads."""

    def __init__(self, view: FeatureView) -> None:
        self.view = view
        self._entity = view.view.entity
        self._keys, datatype = _key_reader(view)
        texts = [each.name for each in view.view.features if each.text]
        assert not set(texts) & set(LOOKUP_OUTPUTS), "checked with the spec"
        self._texts = {name: view.features.index(name) for name in texts}
        self._request = tuple(each.name for each in view.view.request)
        self.signature = Signature(
            (
                TensorSpec(self._entity, datatype, (ANY,)),
                TensorSpec(AS_OF, INT64, (ANY,), optional=True),
                *(
                    TensorSpec(each.name, BYTES if each.text else FP64, (ANY,), optional=True)
                    for each in view.view.request
                ),
            ),
            (
                TensorSpec(FEATURES, FP64, (ANY, len(view.features))),
                TensorSpec(VALID, BOOL, (ANY, len(view.features))),
                TensorSpec(EVENT_TIME, INT64, (ANY,)),
                TensorSpec(STATUS, UINT8, (ANY,)),
                *(TensorSpec(name, BYTES, (ANY,)) for name in texts),
            ),
            batchable=True,
            rows_max=LOOKUP_ROWS_MAX,
        )
        notes = tuple(f"features[{index}]: {name}" for index, name in enumerate(view.features))
        self.traits = Traits("vireo_feature_view", "every entity is looked up alone", notes)

    def execute(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        """See `Servable.execute`. Raises Unavailable while the view is restoring."""
        as_of = inputs.get(AS_OF)
        request = {name: inputs[name].array for name in self._request if name in inputs}
        rows = self.view.lookup(
            self._keys(inputs[self._entity].array),
            as_of_us=None if as_of is None else as_of.array,
            request=_texts_decoded(request),
        )
        return self._tensors(rows, outputs)

    def _tensors(self, rows: FeatureRows, outputs: Sequence[str]) -> Tensors:
        valid = ~np.isnan(rows.values)
        for name, column in self._texts.items():
            valid[:, column] = [text is not None for text in rows.texts[name]]
        answer = {
            FEATURES: Tensor(FP64, rows.values),
            VALID: Tensor(BOOL, valid),
            EVENT_TIME: Tensor(INT64, rows.event_time_us),
            STATUS: Tensor(UINT8, rows.status),
        }
        for name in self._texts:
            answer[name] = Tensor.from_texts([text or "" for text in rows.texts[name]])
        return {name: answer[name] for name in outputs} if outputs else answer

    def close(self) -> None:
        """Ends the view."""
        self.view.close()


def load_feature_lookup(store: FeatureStore, name: str, spec: FeatureViewSpec) -> FeatureLookup:
    """The view `name`, opened. Raises ModelLoadError."""
    view = store.open_view(name, spec)
    try:
        return FeatureLookup(view)
    except VireoError as error:
        view.close()
        raise ModelLoadError(error.message) from error


def _key_reader(view: FeatureView) -> tuple[Callable[[Array], Any], Any]:
    """How entities of a tensor become an Arrow array of the entity's type; and the tensor's datatype."""
    import pyarrow as pa

    kind, name = view.entity_type, view.view.entity
    if pa.types.is_string(kind) or pa.types.is_binary(kind):

        def texts(array: Array) -> Any:  # noqa: ANN401  a pyarrow array
            try:
                return pa.array(array.tolist(), kind)
            except (pa.ArrowException, ValueError) as error:
                raise InvalidArgument(f"input {quoted(name)}: an entity is not UTF-8: {error}") from error

        return texts, BYTES
    if not pa.types.is_integer(kind):
        raise FailedPrecondition(f"entity {quoted(name)} is {kind}; a lookup takes texts, bytes or whole numbers")
    if kind == pa.int64():
        return pa.array, INT64

    def numbers(array: Array) -> Any:  # noqa: ANN401  a pyarrow array
        try:
            return pa.array(array).cast(kind)
        except pa.ArrowException as error:
            raise InvalidArgument(f"input {quoted(name)}: expected {kind}: {error}") from error

    return numbers, INT64


def _texts_decoded(request: Mapping[str, Array]) -> Mapping[str, Array]:
    """BYTES come as bytes, and expressions take texts; an empty one is an empty text."""
    if not any(array.dtype == object for array in request.values()):
        return request
    return {name: _decoded(name, array) if array.dtype == object else array for name, array in request.items()}


def _decoded(name: str, array: Array) -> Array:
    texts = np.empty(len(array), object)
    try:
        texts[:] = [each.decode() for each in array]
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"input {quoted(name)}: not UTF-8: {error}") from error
    return texts
