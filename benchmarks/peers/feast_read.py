"""Feature lookups by Feast's SDK on sqlite or Redis. Runs in the environment `feast`.

The order: `folder` (a new one), `redis` (HOST:PORT, null: sqlite), `entities`, `widths` (features of each view), `reads`
(a list of {"entities", "features"}), `calls`, `warmup`. The feature service is resolved once, the entities rotate.
"""

# mypy: disable-error-code="import-not-found"

import datetime
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64

SCHEMA_VERSION = 3


def open_store(folder: Path, redis: str | None) -> FeatureStore:
    """A store with its registry in `folder`."""
    if redis is None:
        online = {"type": "sqlite", "path": str(folder / "online.db")}
    else:
        online = {"type": "redis", "connection_string": redis}
    return FeatureStore(
        config=RepoConfig(
            project="bench",
            registry=str(folder / "registry.db"),
            provider="local",
            online_store=online,
            offline_store={"type": "file"},
            entity_key_serialization_version=SCHEMA_VERSION,
        )
    )


def fill(store: FeatureStore, folder: Path, entities: int, widths: list[int]) -> dict[int, FeatureService]:
    """A view and its service for each width, every entity written."""
    card = Entity(name="card", join_keys=["card"], value_type=ValueType.INT64)
    services, now = {}, datetime.datetime.now(tz=datetime.UTC)
    for width in widths:
        names = [f"f{width}_{index}" for index in range(width)]
        rows = {"card": range(entities), "at": [now] * entities, "created": [now] * entities}
        frame = pd.DataFrame({**rows, **{name: [random.random() for _ in range(entities)] for name in names}})
        file = folder / f"view{width}.parquet"
        frame.to_parquet(file)
        source = FileSource(path=str(file), timestamp_field="at", created_timestamp_column="created")
        fields = [Field(name=name, dtype=Float64) for name in names]
        view = FeatureView(
            name=f"view{width}", entities=[card], ttl=datetime.timedelta(days=1), schema=fields, source=source
        )
        service = FeatureService(name=f"service{width}", features=[view])
        store.apply([card, view, service])
        for first in range(0, entities, 1000):
            store.write_to_online_store(f"view{width}", frame[first : first + 1000])
        services[width] = store.get_feature_service(f"service{width}")
    return services


def timed(
    store: FeatureStore, service: FeatureService, *, count: int, entities: int, calls: int, warmup: int
) -> dict[str, Any]:
    """Milliseconds of each call, and CPU milliseconds of this process a call."""
    rows = [[{"card": random.randrange(entities)} for _ in range(count)] for _ in range(calls + warmup)]
    took, cpu_s = [], 0.0
    for index, wanted in enumerate(rows):
        if index == warmup:
            cpu_s = time.process_time()
        began = time.perf_counter()
        answer = store.get_online_features(features=service, entity_rows=wanted)
        if index >= warmup:
            took.append((time.perf_counter() - began) * 1e3)
    values = answer.to_dict()
    assert all(value is not None for column in values.values() for value in column), "a feature is missing"
    return {"took_ms": took, "cpu_ms": (time.process_time() - cpu_s) * 1e3 / calls}


def main() -> None:
    """Fill a store and time every kind of read."""
    order = json.load(sys.stdin)
    folder = Path(order["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    random.seed(order["seed"])
    store = open_store(folder, order["redis"])
    services = fill(store, folder, order["entities"], order["widths"])
    found = []
    for read in order["reads"]:
        times = timed(
            store,
            services[read["features"]],
            count=read["entities"],
            entities=order["entities"],
            calls=order["calls"],
            warmup=order["warmup"],
        )
        found.append({**read, **times})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
