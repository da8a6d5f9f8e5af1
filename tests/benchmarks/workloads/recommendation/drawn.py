"""Weights of models that learnt nothing: drawn, of the shapes that are exported; and what the workload leaves, made of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.workloads.recommendation.application import FEATURES, USER, VECTOR
from benchmarks.workloads.recommendation.artifacts import Trained, shelf_of, write
from benchmarks.workloads.recommendation.catalogue import Dataset
from benchmarks.workloads.recommendation.export import FIELDS, SIZE, Weights
from benchmarks.workloads.recommendation.features import item_rows, ratings_of, scaled_profile
from benchmarks.workloads.recommendation.offline import offline_of
from benchmarks.workloads.recommendation.split import split_by_time
from tests.benchmarks.workloads.recommendation.built import ITEMS

HIDDEN, TOP = 24, (20, 12)


def leave(out: Path, dataset: Dataset, *, other_vectors: bool = False) -> None:
    """Models and a catalogue. `other_vectors`: the catalogue's are not those that the item tower gives."""
    rng = np.random.default_rng(4)
    features = item_rows(dataset.items, split_by_time(dataset.interactions).train, seed=1)
    models = Trained(towers(rng), ranker(rng)).models()
    vectors = offline_of(dataset, ratings_of(dataset.interactions, dataset.items), features, models).vectors
    shelf = shelf_of(dataset.items, features, vectors)
    if other_vectors:
        shelf = replace(shelf, vector=shelf.vector[::-1])
    write(out, models, shelf, scaled_profile(dataset.users))


def towers(rng: np.random.Generator) -> Weights:
    shapes = {
        "number.weight": (ITEMS + 1, VECTOR),
        "past.weight": (ITEMS + 1, VECTOR),
        "past_direct.weight": (VECTOR, VECTOR),
        "user_hidden.weight": (HIDDEN, USER + VECTOR),
        "user_hidden.bias": (HIDDEN,),
        "user_last.weight": (VECTOR, HIDDEN),
        "user_last.bias": (VECTOR,),
        "item_hidden.weight": (HIDDEN, FEATURES),
        "item_hidden.bias": (HIDDEN,),
        "item_last.weight": (VECTOR, HIDDEN),
        "item_last.bias": (VECTOR,),
    }
    return drawn(shapes, rng)


def ranker(rng: np.random.Generator) -> Weights:
    linear = {
        "user": (SIZE, USER),
        "features": (SIZE, FEATURES),
        "user_vector": (SIZE, VECTOR),
        "item_vector": (SIZE, VECTOR),
        "top_0": (TOP[0], FIELDS * (FIELDS - 1) // 2 + 1 + 2 * SIZE),
        "top_1": (TOP[1], TOP[0]),
        "top_2": (1, TOP[1]),
        "near": (1, 1),
    }
    shapes: dict[str, tuple[int, ...]] = {f"{name}.weight": shape for name, shape in linear.items()}
    shapes |= {f"{name}.bias": shape[:1] for name, shape in linear.items()}
    return drawn(shapes | {"number.weight": (ITEMS + 1, SIZE), "category.weight": (19, SIZE)}, rng)


def drawn(shapes: dict[str, tuple[int, ...]], rng: np.random.Generator) -> Weights:
    found = {
        name: (rng.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32) for name, shape in shapes.items()
    }
    for name in ("number.weight", "past.weight"):
        if name in found:
            found[name][0] = 0
    return found
