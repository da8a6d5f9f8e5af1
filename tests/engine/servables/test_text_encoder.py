"""A text encoder gives what its model, pooled by plain numpy, gives; with prompts, cuts and bounds as they are declared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from engine import Array, InvalidArgument, ModelLoadError, Tensor
from engine.encoders.declaration import EncoderSpec, EncodingSpec, TokenBatchingSpec
from engine.servables.text_encoder import TextEncoder, load_text_encoder
from tests.engine.encoders.small import SIZE, TEXTS, encoder, files, ids_of, table, texts_of, tokenizer
from tests.engine.onnx_models import affine, write
from tests.engine.servables.contract import ServableContract

PROMPTS = {"query": "query : ", "passage": ""}


def made(folder: Path, encoding: EncodingSpec, batching: TokenBatchingSpec | None = None) -> TextEncoder:
    """The small encoder."""
    model, words = files(folder, encoder())
    return load_text_encoder(
        EncoderSpec(model, words, encoding=encoding, batching=batching or TokenBatchingSpec(tokens_max=20))
    )


def vectors(servable: TextEncoder, texts: Sequence[str | bytes], prompt: Sequence[str] | None = None) -> Array:
    """What it answers."""
    inputs = {"text": texts_of(texts)} | ({} if prompt is None else {"prompt": texts_of(prompt)})
    return servable.execute(inputs, ())["embedding"].array


def expected(texts: Sequence[str], pooling: str = "mean", *, normalise: bool = True) -> npt.NDArray[np.float64]:
    """By plain numpy, one text after the other."""
    pools = {"mean": lambda each: each.mean(0), "cls": lambda each: each[0], "last": lambda each: each[-1]}
    found = np.array([pools[pooling](table()[ids_of(text)].astype(np.float64)) for text in texts])
    return found / np.linalg.norm(found, axis=1, keepdims=True) if normalise else found


class TestContract(ServableContract):
    """With batches of every size, and prompts."""

    @pytest.fixture
    def servable(self, tmp_path: Path) -> TextEncoder:
        return made(tmp_path, EncodingSpec(prompts=PROMPTS))

    def inputs(self, rows: int, seed: int) -> dict[str, Tensor]:
        rng = np.random.default_rng(seed)
        return {
            "text": texts_of(rng.choice(TEXTS, rows).tolist()),
            "prompt": texts_of(rng.choice(["", *PROMPTS], rows).tolist()),
        }


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("normalise", [True, False])
def test_vectors_are_those_of_plain_numpy(pooling: str, normalise: bool, tmp_path: Path) -> None:
    servable = made(tmp_path, EncodingSpec(pooling, normalise))  # type: ignore[arg-type]
    np.testing.assert_allclose(vectors(servable, TEXTS), expected(TEXTS, pooling, normalise=normalise), atol=1e-6)
    assert "texts together equal texts one by one" in servable.traits.batching


def test_a_prompt_is_put_before_the_text(tmp_path: Path) -> None:
    plain, prompted = ["the sea", "cold"], ["query : the sea", "query : cold"]
    servable = made(tmp_path, EncodingSpec(prompts=PROMPTS, default_prompt="query"))
    np.testing.assert_allclose(vectors(servable, plain), expected(prompted), atol=1e-6)
    np.testing.assert_allclose(vectors(servable, plain, ["passage", ""]), expected(plain), atol=1e-6)
    np.testing.assert_allclose(vectors(servable, plain, ["", "query"]), expected([plain[0], prompted[1]]), atol=1e-6)
    with pytest.raises(InvalidArgument, match="input 'prompt': there is no prompt 'qeury'; nearest: 'query'"):
        vectors(servable, plain, ["query", "qeury"])


def test_a_long_text_is_cut_or_refused_as_declared(tmp_path: Path) -> None:
    long = "the sea is deep bright cold"
    cut = made(tmp_path / "cut", EncodingSpec(tokens_max=5))
    np.testing.assert_allclose(vectors(cut, [long]), expected(["the sea is"]), atol=1e-6)
    refusing = made(tmp_path / "refusing", EncodingSpec(tokens_max=6, truncate=False))
    with pytest.raises(InvalidArgument, match="text 1 has 8 tokens, at most 6 are allowed"):
        vectors(refusing, ["the sea", long])


def test_a_text_must_be_utf8_and_bounded(tmp_path: Path) -> None:
    servable = made(tmp_path, EncodingSpec())
    with pytest.raises(InvalidArgument, match="input 'text': a text must be UTF-8"):
        vectors(servable, [b"\xff"])
    with pytest.raises(InvalidArgument, match="a text of 1048577 bytes, at most 1048576 are allowed"):
        vectors(servable, ["a" * (1 << 20) + "a"])


def test_rows_that_depend_on_each_other_run_alone(tmp_path: Path) -> None:
    model, words = files(tmp_path, encoder(mixing=True))
    servable = load_text_encoder(EncoderSpec(model, words))
    assert "each runs alone" in servable.traits.batching
    apart = np.concatenate([vectors(servable, [text]) for text in TEXTS])
    assert np.array_equal(vectors(servable, TEXTS), apart)


def test_what_cannot_be_an_encoder_says_why(tmp_path: Path) -> None:
    model, words = files(tmp_path, encoder())
    spec = EncoderSpec(model, words)
    other = str(write(tmp_path / "affine", affine()))
    cases = [
        (replace(spec, model=other), "expected inputs input_ids, attention_mask and perhaps token_type_ids, got x"),
        (replace(spec, output="logits"), "no output 'logits': hidden"),
        (replace(spec, model=f"{model}.none"), "there is no such file"),
        (replace(spec, tokenizer=model), "not a tokenizer.json"),
        (replace(spec, tokenizer=f"{words}.none"), "there is no such file"),
        (
            replace(spec, encoding=EncodingSpec("none")),
            "with pooling 'none' output 'hidden' must be FP32 of 2 dimensions",
        ),
    ]
    for wrong, told in cases:
        with pytest.raises(ModelLoadError, match=told):
            load_text_encoder(wrong)


def test_padding_of_the_tokenizers_file_is_not_taken(tmp_path: Path) -> None:
    import tokenizers

    path = tokenizer(tmp_path)
    padding = tokenizers.Tokenizer.from_file(str(path))
    padding.enable_padding(length=16)
    padding.enable_truncation(3)
    padding.save(str(path))
    model = str(write(tmp_path, encoder()))
    servable = load_text_encoder(EncoderSpec(model, str(path)))
    np.testing.assert_allclose(vectors(servable, TEXTS), expected(TEXTS), atol=1e-6)
    assert servable.signature.outputs[0].shape == (-1, SIZE)
