"""LoRA adapters of random weights, as PEFT writes them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np


def write_adapter(folder: Path, model: Path, *, seed: int, rank: int = 8, hidden: int | None = None) -> Path:
    """One for the queries and values of the Llama in `model`, strong enough to say something else. `hidden`: of another model."""
    from safetensors.numpy import save_file  # comes with vLLM

    config = json.loads((model / "config.json").read_text())
    chance = np.random.default_rng(seed)
    width, heads = hidden or config["hidden_size"], config["head_dim"]
    sizes = {"q_proj": heads * config["num_attention_heads"], "v_proj": heads * config["num_key_value_heads"]}
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        for name, size in sizes.items():
            place = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            tensors[f"{place}.lora_A.weight"] = chance.normal(0, 0.1, (rank, width)).astype(np.float32)
            tensors[f"{place}.lora_B.weight"] = chance.normal(0, 0.02, (size, rank)).astype(np.float32)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    told = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank, "bias": "none",
            "target_modules": list(sizes), "base_model_name_or_path": str(model)}  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(told))
    return folder
