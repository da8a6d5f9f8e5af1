"""Lookups of a view as tensors, both ways: how a model's caller asks, and how a process asks one that has the entities.

Inputs: the entity column by its name, BYTES or INT64 [-1]; optionally "as_of", INT64 [-1], microseconds since the Unix epoch
(now); optionally the view's request inputs, FP64 or BYTES [-1]. Outputs: "features" FP64 [-1, F], NaN where null; "valid" BOOL
[-1, F]; "event_time" INT64 [-1], of the newest event, 0 where missing; "status" UINT8 [-1], 0 present, 1 missing, 2 stale, 3
lost (its shard did not answer in time); and for each feature that is a text, BYTES [-1] by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from engine.errors import FailedPrecondition, InvalidArgument, quoted
from engine.features.answer import LOST, FeatureRows, Given
from engine.features.relations import LOOKUP_OUTPUTS
from engine.limits import LOOKUP_ROWS_MAX
from engine.servables.signature import ANY, Signature, TensorSpec
from engine.tensor import BOOL, BYTES, FP64, INT64, UINT8, Array, DataType, Tensor

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.features.view import View

AS_OF = "as_of"
FEATURES, VALID, EVENT_TIME, STATUS = LOOKUP_OUTPUTS

Tensors = Mapping[str, Tensor]


class LookupTensors:
    """Of one view. Any thread. Raises FailedPrecondition where its entities cannot be a tensor."""

    def __init__(self, view: View, entity_type: pa.DataType) -> None:
        self._view = view
        self._keys, self._datatype = _key_reader(view.entity, entity_type)
        self.names = tuple(each.name for each in view.features)
        assert not {each.name for each in view.features if each.text} & set(LOOKUP_OUTPUTS), "checked with the spec"
        self._texts = {each.name: at for at, each in enumerate(view.features) if each.text}
        self.signature = Signature(
            (
                TensorSpec(view.entity, self._datatype, (ANY,)),
                TensorSpec(AS_OF, INT64, (ANY,), optional=True),
                *(TensorSpec(each.name, BYTES if each.text else FP64, (ANY,), optional=True) for each in view.request),
            ),
            (
                TensorSpec(FEATURES, FP64, (ANY, len(self.names))),
                TensorSpec(VALID, BOOL, (ANY, len(self.names))),
                TensorSpec(EVENT_TIME, INT64, (ANY,)),
                TensorSpec(STATUS, UINT8, (ANY,)),
                *(TensorSpec(name, BYTES, (ANY,)) for name in self._texts),
            ),
            batchable=True,
            rows_max=LOOKUP_ROWS_MAX,
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What each column of "features" is."""
        return tuple(f"{FEATURES}[{index}]: {name}" for index, name in enumerate(self.names))

    # As a model's caller asks.

    def keys(self, inputs: Tensors) -> pa.Array:
        """The entities. Raises InvalidArgument."""
        return self._keys(inputs[self._view.entity].array)

    def request(self, inputs: Tensors) -> Given:
        """The request inputs that are there; texts as such. Raises InvalidArgument where one is no UTF-8."""
        given = {each.name: inputs[each.name].array for each in self._view.request if each.name in inputs}
        return {name: _decoded(name, array) if array.dtype == object else array for name, array in given.items()}

    def answer(self, rows: FeatureRows, outputs: Sequence[str]) -> Tensors:
        """The outputs named, all of them where none are."""
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

    # The other way round.

    def question(
        self, keys: pa.Array, as_of_us: int | npt.NDArray[np.int64] | None, request: Given
    ) -> dict[str, Tensor]:
        """The inputs that ask for these entities, which have the entity's type. Raises InvalidArgument for request inputs that
        the view has not, and for texts that are null."""
        asked = {self._view.entity: Tensor(self._datatype, _key_array(keys, self._datatype))}
        if as_of_us is not None:
            instants = np.full(len(keys), as_of_us) if isinstance(as_of_us, int) else as_of_us
            asked[AS_OF] = Tensor(INT64, instants.astype(np.int64, copy=False))
        for each in self._view.request:
            if each.name in request:
                asked[each.name] = _request_tensor(each.name, request[each.name], each.text)
        return asked

    def rows(self, outputs: Tensors) -> FeatureRows:
        """What all outputs of an answer tell."""
        valid = outputs[VALID].array
        texts = {
            name: [
                each.decode() if there else None for each, there in zip(outputs[name].array, valid[:, at], strict=True)
            ]
            for name, at in self._texts.items()
        }
        return FeatureRows(self.names, outputs[FEATURES].array, texts, outputs[EVENT_TIME].array, outputs[STATUS].array)

    def lost(self, rows: int) -> dict[str, Tensor]:
        """The outputs for `rows` entities of which nothing is known, to be filled."""
        shape = rows, len(self.names)
        texts = {name: Tensor.from_texts([""] * rows) for name in self._texts}
        return {
            FEATURES: Tensor(FP64, np.full(shape, np.nan)),
            VALID: Tensor(BOOL, np.zeros(shape, np.bool_)),
            EVENT_TIME: Tensor(INT64, np.zeros(rows, np.int64)),
            STATUS: Tensor(UINT8, np.full(rows, LOST, np.uint8)),
            **texts,
        }


def _key_reader(name: str, kind: pa.DataType) -> tuple[Callable[[Array], pa.Array], DataType]:
    """How entities of a tensor become an Arrow array of the entity's type; and the tensor's datatype."""
    import pyarrow as pa

    if pa.types.is_string(kind) or pa.types.is_binary(kind):

        def texts(array: Array) -> pa.Array:
            try:
                return pa.array(array.tolist(), kind)
            except (pa.ArrowException, ValueError) as error:
                raise InvalidArgument(f"input {quoted(name)}: an entity is not UTF-8: {error}") from error

        return texts, BYTES
    if not pa.types.is_integer(kind):
        raise FailedPrecondition(f"entity {quoted(name)} is {kind}; a lookup takes texts, bytes or whole numbers")
    if kind == pa.int64():
        return pa.array, INT64

    def numbers(array: Array) -> pa.Array:
        try:
            return pa.array(array).cast(kind)
        except pa.ArrowException as error:
            raise InvalidArgument(f"input {quoted(name)}: expected {kind}: {error}") from error

    return numbers, INT64


def _key_array(keys: pa.Array, datatype: DataType) -> Array:
    import pyarrow as pa

    if datatype is BYTES:
        return _objects(keys.cast(pa.binary()).to_pylist())
    found: Array = keys.cast(pa.int64()).to_numpy()
    return found


def _request_tensor(name: str, given: Any, text: bool) -> Tensor:  # noqa: ANN401  an Arrow array, or numpy's
    import pyarrow as pa

    try:
        column = (given if isinstance(given, pa.Array) else pa.array(given)).cast(pa.string() if text else pa.float64())
    except (pa.ArrowException, ValueError, TypeError) as error:
        wanted = "texts" if text else "numbers"
        raise InvalidArgument(f"request input {quoted(name)}: expected {wanted}: {error}") from error
    if not text:
        return Tensor(FP64, column.to_numpy(zero_copy_only=False))
    if column.null_count:
        raise InvalidArgument(
            f"request input {quoted(name)}: {column.null_count} texts are null, which does not reach a shard; leave the "
            f"input out where all are"
        )
    return Tensor(BYTES, _objects(column.cast(pa.binary()).to_pylist()))


def _decoded(name: str, array: Array) -> Array:
    """BYTES come as bytes, and expressions take texts; an empty one is an empty text."""
    try:
        return _objects([each.decode() for each in array])
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"input {quoted(name)}: not UTF-8: {error}") from error


def _objects(values: Sequence[Any]) -> Array:
    array = np.empty(len(values), object)
    array[:] = values
    return array
