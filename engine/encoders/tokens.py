"""Text to tokens, by the `tokenizers` library and a file `tokenizer.json`. The one file that knows it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.errors import InvalidArgument, ModelLoadError

Text = str | tuple[str, str]
"""A text, or a pair of them."""


class Tokens:
    """A tokenizer that cuts what is longer than `tokens_max`, or refuses it. Any number of threads."""

    def __init__(self, path: Path, tokens_max: int, *, truncate: bool) -> None:
        """Raises ModelLoadError with the file and the reason."""
        self._tokenizer = _loaded(path)
        self._tokens_max = tokens_max
        self._tokenizer.no_padding()  # the file may say it; a batch is padded once it is known who runs together
        self._tokenizer.no_truncation()
        if truncate:
            self._tokenizer.enable_truncation(tokens_max, strategy="longest_first")

    def fits(self, text: Text) -> bool:
        """Whether it is short enough, cut where that is allowed."""
        return self.count(text) <= self._tokens_max

    def count(self, text: Text) -> int:
        """How many tokens it has, special ones among them; of what may be cut at most `tokens_max`."""
        return len(self._tokenizer.encode_batch_fast([text])[0].ids)

    def encode(self, texts: Sequence[Text]) -> list[tuple[list[int], list[int]]]:
        """(token ids, segment ids) of each. Raises InvalidArgument where one is too long and may not be cut."""
        found = [(each.ids, each.type_ids) for each in self._tokenizer.encode_batch_fast(list(texts))]
        for place, (ids, _) in enumerate(found):
            if len(ids) > self._tokens_max:
                raise InvalidArgument(
                    f"text {place} has {len(ids)} tokens, at most {self._tokens_max} are allowed; it is not cut (truncate: false)"
                )
        return found


def _loaded(path: Path) -> Any:  # noqa: ANN401  a tokenizer of the library
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # batches run side by side already; the cores are theirs
    try:
        import tokenizers
    except ImportError as error:
        raise ModelLoadError(
            f"{path.name}: needs what is not installed; pip install 'vireo[encoders]': {error}"
        ) from error
    if not path.is_file():
        raise ModelLoadError(f"{path}: there is no such file")
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise ModelLoadError(f"{path.name}: not a tokenizer.json: {error}") from error
