"""Makes the shop in a folder: `built`, `folder`, `items`, `users` and `seed` come as JSON on standard input. See `inputs`."""

import json
import shutil
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from benchmarks.graphs.running import infer_message, write_frames
from benchmarks.recommendation.inputs import DIFFERENT, REFRESHED, Filled, Shop
from benchmarks.workloads.recommendation.application import (
    GRAPH,
    Application,
    Shelf,
    collection_for,
    load_items,
    load_users,
    push_ratings,
    show_items,
)
from benchmarks.workloads.recommendation.artifacts import read_shelf, shelf_of
from benchmarks.workloads.recommendation.catalogue import Singles
from benchmarks.workloads.recommendation.features import padded, ratings_of, scaled_profile, user_rows
from benchmarks.workloads.recommendation.movielens import movielens
from benchmarks.workloads.recommendation.offline import session
from benchmarks.workloads.recommendation.world import NOW_S, World, make_world, widened
from engine import Engine, load_spec

PUSHED, VECTORS_AT_ONCE = 100_000, 50_000
INDEXED_S_MAX = 1800.0


def main() -> None:
    """Make it, and say what it took."""
    order = json.load(sys.stdin)
    built, shop = Path(order["built"]), Shop(Path(order["folder"]))
    shutil.rmtree(shop.folder, ignore_errors=True)
    application = Application(shop.folder)
    application.write()
    shelf, _ = read_shelf(built)
    learnt = np.vstack([np.zeros((1, shelf.features.shape[1]), np.float32), shelf.features])
    real = movielens(built)
    world = make_world(real, learnt, items=order["items"], users=order["users"], seed=order["seed"])
    write_models(application, built, world)
    made = shelf_of(world.dataset.items, world.features, vectors_of(built, world))
    columns = {name: getattr(made, name) for name in ("category", "stock", "regions", "features", "vector")}
    np.savez(shop.catalogue, allow_pickle=False, **columns)
    write_requests(shop, world, np.random.default_rng(order["seed"]))
    write_users(application, shop, world)
    filled = fill(application, world, made)
    (shop.folder / "filled.json").write_text(json.dumps(asdict(filled)))
    print(json.dumps(asdict(filled)))


def write_models(application: Application, built: Path, world: World) -> None:
    """The learnt ones, with tables of this world's items; of the user tower a second version, see REFRESHED."""
    for name in ("user_tower", "ranker"):
        made = widened(onnx.load(Application(built).model(name)), world.template)
        write_model(made, application.model(name))
        if name == "user_tower":
            write_model(scaled_output(made, REFRESHED[0]), application.model(name, 2))


def write_model(model: onnx.ModelProto, file: Path) -> None:
    """As it is served."""
    file.parent.mkdir(parents=True)
    file.write_bytes(model.SerializeToString(deterministic=True))


def scaled_output(model: onnx.ModelProto, factor: float) -> onnx.ModelProto:
    """The same model whose only output is so many times as large."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    name = made.graph.output[0].name
    for node in made.graph.node:
        node.output[:] = [f"{each}.unscaled" if each == name else each for each in node.output]
    made.graph.initializer.append(numpy_helper.from_array(np.array(factor, np.float32), "factor"))
    made.graph.node.append(helper.make_node("Mul", [f"{name}.unscaled", "factor"], [name]))
    return made


def vectors_of(built: Path, world: World) -> Singles:
    """What the item tower says: [items + 1, 64]."""
    tower = session(onnx.load(Application(built).model("item_tower")))
    parts = [slice(at, at + VECTORS_AT_ONCE) for at in range(0, len(world.template), VECTORS_AT_ONCE)]
    return np.vstack([tower(features=world.features[some], item=world.template[some]) for some in parts])


def write_requests(shop: Shop, world: World, rng: np.random.Generator) -> None:
    """Of users drawn by how often they come."""
    events, regions = world.dataset.interactions, world.dataset.users.region
    user = events.user[rng.integers(0, len(events), DIFFERENT)]
    past = [world.history(each) for each in user.tolist()]
    history = np.stack([padded(each) for each in past])
    as_of_us = np.full(DIFFERENT, NOW_S * 1_000_000)
    np.savez(shop.asked, allow_pickle=False, user=user, region=regions[user], history=history, as_of_us=as_of_us)
    messages = [
        infer_message(
            GRAPH,
            {
                "user": user[at : at + 1],
                "key": user[at : at + 1].astype(np.uint64),
                "region": regions[user[at : at + 1]],
                "history": history[at : at + 1],
                "seen": past[at].astype(np.uint64)[None],
                "as_of": as_of_us[at : at + 1],
            },
        )
        for at in range(DIFFERENT)
    ]
    write_frames(shop.frames, messages)


def write_users(application: Application, shop: Shop, world: World) -> None:
    """As the first version of the user tower sees and embeds who asks."""
    asked, dataset = shop.requests(), world.dataset
    user, place = np.unique(asked["user"], return_inverse=True)
    mine = dataset.interactions.take(np.flatnonzero(np.isin(dataset.interactions.user, user)))
    rows = user_rows(dataset.users, ratings_of(mine, dataset.items), user, np.full(len(user), NOW_S))
    tower = session(onnx.load(application.model("user_tower")))
    np.savez(
        shop.users, allow_pickle=False, user=user, row=rows, vector=tower(user=rows[place], history=asked["history"])
    )  # fmt: skip


def fill(application: Application, world: World, shelf: Shelf) -> Filled:
    """Collections and log, by the engine in this process; all is on the disk and indexed when it returns."""
    sys.path.insert(0, str(application.folder))
    events, items = world.dataset.interactions, world.dataset.items
    profile = scaled_profile(world.dataset.users)
    engine = Engine(load_spec(application.spec))
    try:
        engine.start()
        began_s = time.perf_counter()
        load_items(engine, shelf)
        loaded_s = time.perf_counter()
        load_items(engine, replace(shelf, vector=shelf.vector * np.float32(REFRESHED[1])), tower=2)
        load_users(engine, np.arange(1, len(profile)), profile[1:])
        for name in (collection_for(1), collection_for(2), "users"):
            if not engine.vectors.collection(name).wait_indexed(INDEXED_S_MAX):
                raise TimeoutError(f"collection {name} is not indexed within {INDEXED_S_MAX:g} s")
        indexed_s = time.perf_counter()
        show_items(engine)
        if not engine.ready:
            raise RuntimeError(f"the recommendation graph is not served: {engine.problems()}")
        ordered = events.take(np.argsort(events.time_s, kind="stable"))  # as they happened, else they were late
        for begin in range(0, len(events), PUSHED):
            some = ordered.take(slice(begin, begin + PUSHED))
            push_ratings(
                engine, some.user, some.item, some.time_s * 1_000_000, some.rating, items.genres[some.item] > 0
            )
        ended_s = time.perf_counter()
    finally:
        engine.close()
    return Filled(
        len(shelf.number), len(profile) - 1, len(events),
        items_s=loaded_s - began_s, indexed_s=indexed_s - began_s, events_s=ended_s - indexed_s,
    )  # fmt: skip


if __name__ == "__main__":
    main()
