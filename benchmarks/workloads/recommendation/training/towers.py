"""Two towers (Yi et al., RecSys 2019): a user's vector whose dot product with an item's says how likely the item is met next.

Learnt by softmax over the item met and others drawn by popularity, each corrected by the logarithm of how often it is drawn. A
share of items is shown without its number, and moments without history among others: so features alone must do for what is new.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from benchmarks.workloads.recommendation.application import FEATURES, USER, VECTOR
from benchmarks.workloads.recommendation.catalogue import Longs, Singles
from benchmarks.workloads.recommendation.export import Weights
from benchmarks.workloads.recommendation.training.lessons import Best, Lessons

EPOCHS, BATCH, DRAWN, RATE, DECAY = 10, 512, 512, 3e-3, 1e-2
HIDDEN, DROPPED, UNNUMBERED, FORGOTTEN = 128, 0.2, 0.05, 0.3
"""Shares of hidden numbers, of items without their number, and of a history's items that are left out while learning."""

Say = Callable[[str], None]
Judge = Callable[[Weights], float]


def learn_towers(lessons: Lessons, judge: Judge, *, seed: int, say: Say = print, epochs: int = EPOCHS) -> Weights:
    """The weights by name of the epoch that `judge` finds best, as `export.user_tower` and `export.item_tower` take them."""
    torch.manual_seed(seed)
    parts, rng, best = _parts(len(lessons.items)), np.random.default_rng(seed), Best(judge)
    features = torch.from_numpy(lessons.items)
    drawing = torch.from_numpy((lessons.counts + 1.0) ** 0.75).float()
    drawing[0] = 0
    logs = torch.log(drawing / drawing.sum() + 1e-12)
    optimizer = torch.optim.AdamW(parts.parameters(), lr=RATE, weight_decay=DECAY)
    for epoch in range(epochs):
        total, order = 0.0, rng.permutation(len(lessons.events))
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 - epoch / epochs)
        for begin in range(0, len(order), BATCH):
            batch = lessons.batch(order[begin : begin + BATCH], rng)
            met, others = torch.from_numpy(batch.item), torch.multinomial(drawing, DRAWN, replacement=True)
            users = _users(parts, torch.from_numpy(batch.users), torch.from_numpy(batch.history), learning=True)
            one = (users * _items(parts, features, met)).sum(dim=1) - logs[met]
            many = users @ _items(parts, features, others).T - logs[others]
            many = many.masked_fill(others == met[:, None], -1e9)
            wanted = torch.zeros(len(met), dtype=torch.long)
            loss = functional.cross_entropy(torch.cat([one[:, None], many], dim=1), wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(met)
        quality = best.offer(arrays_of(parts))
        say(f"towers: epoch {epoch + 1} of {epochs}, loss {total / len(order):.3f}, NDCG on validation {quality:.3f}")
    assert best.weights is not None
    return best.weights


def tower_outputs(weights: Weights, users: Singles, history: Longs, features: Singles) -> tuple[Singles, Singles]:
    """Vectors of users and of all items by torch itself, for who wants to compare."""
    parts = _parts(len(features))
    parts.load_state_dict({name: torch.from_numpy(each) for name, each in weights.items()})
    with torch.no_grad():
        of_users = _users(parts, torch.from_numpy(users), torch.from_numpy(history), learning=False)
        of_items = _vectors(parts, torch.from_numpy(features), torch.arange(len(features)))
    return of_users.numpy(), of_items.numpy()


def arrays_of(parts: torch.nn.ModuleDict) -> Weights:
    """Copies of all parameters by name."""
    return {name: each.detach().numpy().copy() for name, each in parts.state_dict().items()}


def _parts(items: int) -> torch.nn.ModuleDict:
    linear, embedding = torch.nn.Linear, torch.nn.Embedding
    parts = torch.nn.ModuleDict(
        {
            "number": embedding(items, VECTOR, padding_idx=0),
            "past": embedding(items, VECTOR, padding_idx=0),
            "past_direct": linear(VECTOR, VECTOR, bias=False),
            "user_hidden": linear(USER + VECTOR, HIDDEN),
            "user_last": linear(HIDDEN, VECTOR),
            "item_hidden": linear(FEATURES, HIDDEN),
            "item_last": linear(HIDDEN, VECTOR),
        }
    )
    for name in ("number", "past"):
        torch.nn.init.normal_(parts[name].weight, 0, 0.05)
        parts[name].weight.data[0] = 0
    torch.nn.init.eye_(parts["past_direct"].weight)
    return parts


def _users(parts: torch.nn.ModuleDict, users: torch.Tensor, history: torch.Tensor, *, learning: bool) -> torch.Tensor:
    known = (history > 0).float()
    if learning:
        known = known * (torch.rand(known.shape) > FORGOTTEN)
    past = (parts["past"](history) * known[:, :, None]).sum(dim=1) / (known.sum(dim=1, keepdim=True) + 1)
    hidden = torch.relu(parts["user_hidden"](torch.cat([users, past], dim=1)))
    return parts["past_direct"](past) + parts["user_last"](functional.dropout(hidden, DROPPED, training=learning))


def _items(parts: torch.nn.ModuleDict, features: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    """While learning: some without their number."""
    return _vectors(parts, features[items], items * (torch.rand(len(items)) > UNNUMBERED))


def _vectors(parts: torch.nn.ModuleDict, features: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    return parts["number"](numbers) + parts["item_last"](torch.relu(parts["item_hidden"](features)))
