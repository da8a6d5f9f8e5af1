"""The folder from which recommendations are served, and how it is filled; light enough for a benchmark to read."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine import (
    DATATYPES,
    CollectionSpec,
    Deadline,
    EmbedderSpec,
    Engine,
    FieldSpec,
    IndexSpec,
    Request,
    Response,
    Tensor,
    VectorSpec,
    monotonic,
)

GRAPH, ITEMS = "recommend", "items"
HERE = Path(__file__).parent
DECLARED, STEPS = HERE / "graph.yaml", HERE / "steps.py"
GENRES, PROFILE, USER, HISTORY = 18, 23, 43, 50
FEATURES, VECTOR, ITEM = 38, 64, 102
CANDIDATES, SLATE = 500, 20
REGIONS = 10

Singles = NDArray[np.float32]
Longs = NDArray[np.int64]
FOLLOWED_S_MAX, ANSWER_S_MAX = 60.0, 30.0
LOADED_ROWS = 50_000
"""Points of one load."""


@dataclass(frozen=True, slots=True)
class Application:
    """`folder` holds the spec and all it names, its models below `models`: user_tower and ranker, see graph.yaml."""

    folder: Path

    @property
    def spec(self) -> Path:
        """What to serve."""
        return self.folder / "recommendation.yaml"

    def model(self, name: str, version: int = 1) -> Path:
        """Where a version of a model belongs."""
        return self.folder / "models" / name / str(version) / "model.onnx"

    def write(self) -> None:
        """The spec and its functions; the models are somebody else's."""
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(DECLARED, self.spec)
        shutil.copyfile(STEPS, self.folder / "recommendation_steps.py")


@dataclass(frozen=True, slots=True)
class Shelf:
    """Items, a row each: their number, first genre (0: none), units in stock, the regions they are sold in (bit r of a mask), the
    ranker's `features` [n, 38], and the item tower's `vector` [n, 64]."""

    number: Longs
    category: Longs
    stock: Longs
    regions: Longs
    features: Singles
    vector: Singles


def load_items(engine: Engine, shelf: Shelf, *, tower: int = 1) -> None:
    """Into a new collection for this version of the user tower; `show_items` has it answer."""
    items = engine.vectors.create(collection_for(tower), items_spec(tower))
    for begin in range(0, len(shelf.number), LOADED_ROWS):
        some = slice(begin, begin + LOADED_ROWS)
        sold = (shelf.regions[some, None] >> np.arange(REGIONS)) & 1 == 1
        ends = np.concatenate([[0], np.cumsum(sold.sum(axis=1))]).astype(np.int32)
        items.load(
            pa.record_batch(
                {
                    "id": pa.array(shelf.number[some].astype(np.uint64)),
                    "vector.vector": _rows(shelf.vector[some]),
                    "vector.features": _rows(shelf.features[some]),
                    "field.regions": pa.ListArray.from_arrays(pa.array(ends), pa.array(np.nonzero(sold)[1])),
                    "field.stock": pa.array(shelf.stock[some]),
                    "field.category": pa.array(shelf.category[some]),
                }
            )
        )


def show_items(engine: Engine, *, tower: int = 1) -> None:
    """From now on user tower and items of this version answer; returns when they do."""
    engine.vectors.set_alias(ITEMS, collection_for(tower))


def collection_for(tower: int) -> str:
    """The name of the collection whose vectors belong to this version of the user tower."""
    return f"{ITEMS}_{tower}"


def items_spec(tower: int) -> CollectionSpec:
    """`features` is what else than the item tower's vector the ranker is told; `regions`: where an item is sold; `stock`: units;
    `category` 0: none."""
    vectors = {
        "vector": VectorSpec(VECTOR, metric="dot", embedder=EmbedderSpec("user_tower", tower)),
        "features": VectorSpec(FEATURES, metric="dot", index=IndexSpec("flat")),
    }
    fields = {
        "regions": FieldSpec("integer", array=True),
        "stock": FieldSpec("integer"),
        "category": FieldSpec("integer"),
    }
    return CollectionSpec(vectors, fields=fields, durability="os")


def load_users(engine: Engine, number: Longs, profile: Singles) -> None:
    """Who users are: `profile` [n, 23]."""
    users = engine.vectors.collection("users")
    for begin in range(0, len(number), LOADED_ROWS):
        some = slice(begin, begin + LOADED_ROWS)
        ids = pa.array(number[some].astype(np.uint64))
        users.load(pa.record_batch({"id": ids, "vector.profile": _rows(profile[some])}))


def push_ratings(
    engine: Engine, user: Longs, item: Longs, at_us: Longs, stars: Singles, genres: NDArray[np.bool_]
) -> None:
    """Events into the log, `genres` [n, 18] of the items; returns when the features have them. Raises TimeoutError."""
    schema = engine.features.schema("ratings")
    columns = {"user": user, "item": item, "at": at_us, "stars": stars}
    columns |= {f"genre_{each + 1}": genres[:, each] for each in range(GENRES)}
    arrays = [pa.array(columns[field.name]).cast(field.type) for field in schema]
    appended = engine.features.push("ratings", pa.RecordBatch.from_arrays(arrays, schema=schema))
    if not engine.features.view("user_ratings").wait(appended, FOLLOWED_S_MAX):
        raise TimeoutError(f"ratings are not followed within {FOLLOWED_S_MAX:g} s")


def ask(
    engine: Engine, user: int, region: int, history: Longs, seen: Longs, as_of_us: int, *, id_: str = "", graph: str = GRAPH
) -> Response:  # fmt: skip
    """The list for a user: `history` [50], the latest first; `seen`: what is not to be in it."""
    tensors = {
        "user": ("INT64", np.array([user])),
        "key": ("UINT64", np.array([user], np.uint64)),
        "region": ("INT64", np.array([region])),
        "history": ("INT64", history[None]),
        "seen": ("UINT64", seen.astype(np.uint64)[None]),
        "as_of": ("INT64", np.array([as_of_us])),
    }
    inputs = {name: Tensor(DATATYPES[datatype], array) for name, (datatype, array) in tensors.items()}
    return engine.infer(Request(graph, inputs, id=id_, deadline=Deadline.after(ANSWER_S_MAX, monotonic())))


def _rows(numbers: Singles) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(numbers).reshape(-1)), numbers.shape[1])
