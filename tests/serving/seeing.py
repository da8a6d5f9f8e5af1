"""A model that sees, in the form of BLIP-2 (Li et al., ICML 2023): tiny and of random weights, as no package ships one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

IMAGE_TOKENS: Final = 4
"""Of each image, whatever its size. They come before the text."""

_PIXELS, _PATCH, _WIDTH = 56, 14, 64
_TEMPLATE: Final = "{% for each in messages %}{{ each.role }}: {{ each.content }}\n{% endfor %}assistant:"


def write_seeing(folder: Path, words: Path, *, seed: int) -> Path:
    """`folder` with the model in it, which reads with the tokenizer of the model in the folder `words`. It takes one image."""
    import torch
    from transformers import AutoTokenizer, Blip2Config, Blip2ForConditionalGeneration, Blip2Processor, LlamaConfig
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    tokenizer = AutoTokenizer.from_pretrained(words)
    tokenizer.chat_template = _TEMPLATE
    pixels = BlipImageProcessorPil(size={"height": _PIXELS, "width": _PIXELS})
    processor = Blip2Processor(pixels, tokenizer, num_query_tokens=IMAGE_TOKENS)  # it adds the token of images
    sizes: dict[str, Any] = {
        "hidden_size": _WIDTH, "intermediate_size": 2 * _WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2,
    }  # fmt: skip
    config = Blip2Config(
        vision_config={**sizes, "image_size": _PIXELS, "patch_size": _PATCH},
        qformer_config={**sizes, "encoder_hidden_size": _WIDTH, "vocab_size": 8},
        text_config=LlamaConfig(**sizes, num_key_value_heads=2, vocab_size=len(tokenizer)).to_dict(),
        num_query_tokens=IMAGE_TOKENS,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    torch.manual_seed(seed)
    Blip2ForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
