"""A DLRM (Naumov et al., 2019): embeddings and bottom networks, their dot products by pairs, and a top network over them.

Learnt on what users of the training period met later, beside candidates that the towers find for them at that moment: it is told
what the towers' dot product is, and learns what that one misses.
"""

import numpy as np
import torch
from torch.nn import functional

from benchmarks.workloads.recommendation.application import FEATURES, USER, VECTOR
from benchmarks.workloads.recommendation.catalogue import Longs, Singles
from benchmarks.workloads.recommendation.export import FIELDS, SIZE, Weights
from benchmarks.workloads.recommendation.movielens import GENRES
from benchmarks.workloads.recommendation.split import LIKED
from benchmarks.workloads.recommendation.training.lessons import Batch, Best, Lessons
from benchmarks.workloads.recommendation.training.towers import Judge, Say, arrays_of, tower_outputs

EPOCHS, BATCH, OTHERS, AMONG, RATE, DECAY = 3, 256, 31, 500, 1e-3, 1e-2
TOP = (64, 32)
DROPPED, FORGOTTEN = 0.2, 0.5
PAIRS = FIELDS * (FIELDS - 1) // 2


def learn_ranker(
    lessons: Lessons, towers: Weights, judge: Judge, *, seed: int, say: Say = print, epochs: int = EPOCHS
) -> Weights:
    """The weights of the epoch that `judge` finds best, as `export.ranker` takes them; it begins with the order of the towers."""
    torch.manual_seed(seed)
    parts, rng, best = _parts(len(lessons.items)), np.random.default_rng(seed), Best(judge)
    best.offer(arrays_of(parts))
    optimizer = torch.optim.AdamW(parts.parameters(), lr=RATE, weight_decay=DECAY)
    met = np.flatnonzero(lessons.events.rating >= LIKED)
    for epoch in range(epochs):
        total, order = 0.0, rng.permutation(met)
        for begin in range(0, len(order), BATCH):
            loss = _loss(parts, lessons, towers, lessons.batch(order[begin : begin + BATCH], rng), rng)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(order[begin : begin + BATCH])
        quality = best.offer(arrays_of(parts))
        say(f"ranker: epoch {epoch + 1} of {epochs}, loss {total / len(order):.3f}, NDCG on validation {quality:.3f}")
    assert best.weights is not None
    return best.weights


def _loss(
    parts: torch.nn.ModuleDict, lessons: Lessons, towers: Weights, batch: Batch, rng: np.random.Generator
) -> torch.Tensor:
    user_vectors, item_vectors = tower_outputs(towers, batch.users, batch.history, lessons.items)
    items, found = _candidates(batch, user_vectors @ item_vectors.T, rng)
    rows = np.concatenate([lessons.items[items], item_vectors[items]], axis=2)
    given = (batch.users[found], user_vectors[found], rows, items, lessons.categories[items])
    logits = _logits(parts, *map(torch.from_numpy, given))
    loss = functional.cross_entropy(logits, torch.zeros(len(items), dtype=torch.long))
    return loss + 1e-3 * (logits.mean() + 3) ** 2  # what all logits share is free otherwise


def ranker_outputs(
    weights: Weights, user: Singles, user_vector: Singles, items: Singles, item: Longs, category: Longs
) -> Singles:
    """Scores [n] of one user's candidates by torch itself, for who wants to compare."""
    parts = _parts(len(weights["number.weight"]))
    parts.load_state_dict({name: torch.from_numpy(each) for name, each in weights.items()})
    with torch.no_grad():
        given = (torch.from_numpy(each) for each in (user, user_vector, items[None], item[None], category[None]))
        scores: Singles = torch.sigmoid(_logits(parts, *given, learning=False))[0].numpy()
    return scores


def _candidates(batch: Batch, near: Singles, rng: np.random.Generator) -> tuple[Longs, Longs]:
    """[m, 1 + OTHERS]: what was met, then others of the AMONG nearest that the user had not had; and their rows of the batch.

    What was met further away than that is left out: else the ranker learnt that whatever is far is met.
    """
    rows = np.arange(len(near))
    met = near[rows, batch.item].copy()
    near[:, 0] = near[rows[:, None], batch.history] = near[rows, batch.item] = -np.inf
    among = min(AMONG, near.shape[1] - 1)
    nearest = np.argpartition(-near, among - 1, axis=1)[:, :among]
    found = np.flatnonzero(met >= near[rows, nearest[:, -1]])
    drawn = nearest[found[:, None], rng.integers(0, among, (len(found), OTHERS))]
    return np.column_stack([batch.item[found], drawn]), found


def _parts(items: int) -> torch.nn.ModuleDict:
    linear, embedding = torch.nn.Linear, torch.nn.Embedding
    parts = torch.nn.ModuleDict(
        {
            "number": embedding(items, SIZE, padding_idx=0),
            "category": embedding(len(GENRES) + 1, SIZE),
            "user": linear(USER, SIZE),
            "features": linear(FEATURES, SIZE),
            "user_vector": linear(VECTOR, SIZE),
            "item_vector": linear(VECTOR, SIZE),
            "top_0": linear(PAIRS + 1 + 2 * SIZE, TOP[0]),
            "top_1": linear(TOP[0], TOP[1]),
            "top_2": linear(TOP[1], 1),
            "near": linear(1, 1),
        }
    )
    for name in ("number", "category"):
        torch.nn.init.normal_(parts[name].weight, 0, 0.05)
    parts["top_2"].weight.data[:] = 0  # at first the order is that of the towers
    parts["number"].weight.data[0] = 0
    parts["near"].weight.data[:] = 1
    return parts


def _logits(
    parts: torch.nn.ModuleDict, user: torch.Tensor, user_vector: torch.Tensor, items: torch.Tensor,
    item: torch.Tensor, category: torch.Tensor, *, learning: bool = True,
) -> torch.Tensor:  # fmt: skip
    """[users, candidates] of users [n, USER] with vectors [n, VECTOR] and candidates [n, candidates, ITEM]."""
    features, vectors = items[:, :, :FEATURES], items[:, :, FEATURES:]
    near = (vectors * user_vector[:, None]).sum(dim=2, keepdim=True)
    of_user = torch.relu(parts["user"](user))[:, None].expand(-1, items.shape[1], -1)
    of_vector = parts["user_vector"](user_vector)[:, None].expand(-1, items.shape[1], -1)
    of_features = torch.relu(parts["features"](features))
    number = parts["number"](item)
    if learning:
        number = functional.dropout(number, FORGOTTEN)
    fields = torch.stack(
        [of_user, of_vector, of_features, parts["item_vector"](vectors), number, parts["category"](category)], dim=2
    )
    one, other = torch.triu_indices(FIELDS, FIELDS, 1)
    pairs = (fields @ fields.transpose(2, 3))[:, :, one, other]
    hidden = torch.relu(parts["top_0"](torch.cat([pairs, near, of_user, of_features], dim=2)))
    hidden = functional.dropout(torch.relu(parts["top_1"](hidden)), DROPPED, training=learning)
    return (parts["top_2"](hidden) + parts["near"](near))[:, :, 0]
