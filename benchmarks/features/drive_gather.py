"""Driver `gather`: the servable over a collection of many items, one gather after another on one core."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.features.drive_reads import WARMUP, timed
from engine import DATATYPES, Engine, Request, Tensor, parse_spec

UINT64 = DATATYPES["UINT64"]
LOADED_ROWS = 50_000


def drive(order: dict[str, Any]) -> list[dict[str, Any]]:
    """The order: `rows` of the collection, `shapes` (keys, numbers), `calls`, `rounds`, `seed`.

    Gives for each shape and round {"count", "width", "took_us": list}.
    """
    rng, found = np.random.default_rng(order["seed"]), []
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(parse_spec(spec_of([width for _, width in order["shapes"]]), folder=Path(folder)))
        engine.start()
        try:
            load(engine, order["rows"], [width for _, width in order["shapes"]], rng)
            for count, width in order["shapes"]:
                keys = rng.integers(0, order["rows"], (order["calls"] + WARMUP, count)).astype(np.uint64)
                for each in gathered(engine, width, keys, order["rounds"]):
                    found.append({"count": count, "width": width, "took_us": each["took_us"]})
        finally:
            engine.close()
    return found


def gathered(engine: Engine, width: int, keys: npt.NDArray[np.uint64], rounds: int) -> list[dict[str, Any]]:
    """Rows of keys [calls, count], call after call; the first WARMUP calls are left out."""
    servable = engine._registry.find(f"g{width}", None).hosted.servable
    assert servable is not None
    asked = [{"key": Tensor(UINT64, each)} for each in keys]
    assert engine.infer(Request(f"g{width}", asked[0])).outputs["found"].array.all()
    return timed("gather", lambda call: servable.execute(asked[call], ("rows",)), len(keys) - WARMUP, rounds)


def spec_of(widths: list[int]) -> str:
    """A collection with a vector of each width, and a gather of each."""
    vectors = "".join(f"        v{each}: {{size: {each}, metric: dot, index: {{kind: flat}}}}\n" for each in widths)
    gathers = "".join(f"  g{each}: {{sources: [{{collection: items, vector: v{each}}}]}}\n" for each in widths)
    return (
        f"vectors:\n  path: vectors\n  collections:\n    items:\n      durability: os\n      vectors:\n{vectors}"
        f"gathers:\n{gathers}"
    )


def load(engine: Engine, rows: int, widths: list[int], rng: np.random.Generator) -> None:
    """Random numbers, sealed."""
    items = engine.vectors.collection("items")
    for begin in range(0, rows, LOADED_ROWS):
        ids = np.arange(begin, min(rows, begin + LOADED_ROWS), dtype=np.uint64)
        columns: dict[str, Any] = {"id": pa.array(ids)}
        for width in widths:
            flat = pa.array(rng.random(len(ids) * width, np.float32))
            columns[f"vector.v{width}"] = pa.FixedSizeListArray.from_arrays(flat, width)
        items.load(pa.record_batch(columns))
    assert items.wait_indexed(600)
