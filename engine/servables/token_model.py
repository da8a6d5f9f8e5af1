"""An ONNX model that reads tokens: texts of any lengths in, run in batches bounded by tokens, padded to the longest of each.

Where what a row gives depends on the rows beside it, as with activations quantised at run time, each row runs alone and without
padding: a text then has one vector, whatever else is asked for at the time. Whether it does is tried when the model is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.encoders.batches import token_batches
from engine.encoders.declaration import EncoderSpec, RerankerSpec
from engine.encoders.tokens import Text, Tokens
from engine.errors import InvalidArgument, ModelLoadError, quoted
from engine.limits import ENCODER_TEXT_BYTES_MAX
from engine.servables.onnx import OnnxOptions, OnnxServable, load_onnx
from engine.tensor import Array, Tensor

IDS: Final = "input_ids"
MASK: Final = "attention_mask"
SEGMENTS: Final = "token_type_ids"
_WORDS: Final = ("wind", "the tide turns at noon", "a bell rang twice over the harbour before the boats came in")
_TOLERANCE: Final = 1e-4

Run = tuple[list[int], Array, npt.NDArray[np.int64]]
"""Places of the texts, what the model gave for them, and the mask [n, tokens]."""


class TokenModel:
    """See the module. Any number of threads."""

    def __init__(self, model: OnnxServable, tokens: Tokens, spec: EncoderSpec | RerankerSpec) -> None:
        """Raises ModelLoadError where the model takes something else than tokens."""
        self._model, self._tokens, self._batching = model, tokens, spec.batching
        self._types = {each.name: each.datatype for each in model.signature.inputs}
        unknown = sorted(self._types.keys() - {IDS, MASK, SEGMENTS})
        if unknown or not {IDS, MASK} <= self._types.keys():
            raise ModelLoadError(
                f"{spec.model}: expected inputs {IDS}, {MASK} and perhaps {SEGMENTS}, got {', '.join(self._types)}"
            )
        self.output = model.signature.output_names[0] if spec.output is None else spec.output
        if self.output not in model.signature.output_names:
            raise ModelLoadError(
                f"{spec.model}: no output {quoted(self.output)}: {', '.join(model.signature.output_names)}"
            )
        self.independent = True

    def samples(self) -> tuple[str, ...]:
        """Texts to try it on, twice each in a pair: some words that are short enough, else an empty one."""
        return tuple(each for each in _WORDS if self._tokens.fits((each, each))) or ("",)

    def sample_rows(self, rows: int) -> list[str]:
        """`rows` of them, over and over."""
        texts = self.samples()
        return [texts[row % len(texts)] for row in range(rows)]

    def run(self, texts: Sequence[Text]) -> Iterator[Run]:
        """Every text once. Raises InvalidArgument where one is too long."""
        encoded = self._tokens.encode(texts)
        batching = self._batching
        rows_max = batching.rows_max if self.independent else 1
        lengths = [len(ids) for ids, _ in encoded]
        for places in token_batches(lengths, tokens_max=batching.tokens_max, rows_max=rows_max):
            yield self._batch(places, [encoded[place] for place in places])

    def _batch(self, places: list[int], encoded: Sequence[tuple[list[int], list[int]]]) -> Run:
        longest = len(encoded[-1][0])
        ids, segments, mask = np.zeros((3, len(encoded), longest), np.int64)
        for row, (row_ids, row_segments) in enumerate(encoded):
            size = len(row_ids)
            ids[row, :size], segments[row, :size], mask[row, :size] = row_ids, row_segments, 1
        feeds = {IDS: ids, MASK: mask, SEGMENTS: segments}
        inputs = {name: Tensor(kind, feeds[name].astype(kind.dtype, copy=False)) for name, kind in self._types.items()}
        return places, self._model.execute(inputs, (self.output,))[self.output].array, mask

    def close(self) -> None:
        """Drops the model."""
        self._model.close()


Values = Callable[[Sequence[str]], Array]
"""One row a text, of whatever the model is for."""


def load_token_model(
    spec: EncoderSpec | RerankerSpec, tokens: Tokens, values: Callable[[TokenModel], Values]
) -> TokenModel:
    """`values` makes of it what gives one row a text, by which it is tried whether rows depend on each other. Raises
    ModelLoadError."""
    path = Path(spec.model)
    if not path.is_file():
        raise ModelLoadError(f"{path}: there is no such file")
    model = TokenModel(
        load_onnx(path, OnnxOptions(spec.threads, spec.providers, batch_rows=spec.batching.rows_max)), tokens, spec
    )
    rows_of = values(model)
    samples = model.samples()
    together = rows_of(samples)
    apart = np.concatenate([rows_of((each,)) for each in samples])
    model.independent = bool(
        np.allclose(together, apart, rtol=0, atol=_TOLERANCE * max(1.0, float(np.abs(apart).max())))
    )
    return model


def batching_told(model: TokenModel) -> str:
    """For `Traits.batching`."""
    if model.independent:
        return "texts together equal texts one by one, tried at load; they run sorted by length, in batches bounded by tokens"
    return "texts together differ from texts one by one (activations quantised at run time?), tried at load; each runs alone"


def text_of(name: str, value: bytes) -> str:
    """The text of one element of input `name`. Raises InvalidArgument."""
    if len(value) > ENCODER_TEXT_BYTES_MAX:
        raise InvalidArgument(
            f"input {quoted(name)}: a text of {len(value)} bytes, at most {ENCODER_TEXT_BYTES_MAX} are allowed"
        )
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"input {quoted(name)}: a text must be UTF-8: {error.reason}") from error
