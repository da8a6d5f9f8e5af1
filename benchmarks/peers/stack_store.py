"""Fills Redis for the stack beside ours, as hashes or through Feast's SDK. Runs in the environment `stack`.

The order, on standard input: `redis_port`, `lookup` (feast, or anything else for hashes), `folder` (a new one, for Feast's
registry), `entities` (a list of {"name", "features"}) and `values` (a .npz: for each entity NAME, float32 [identities, features],
the identity being the row's number).
"""

# mypy: disable-error-code="import-not-found,import-untyped"

import datetime
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

SERVICE = "stack"
SCHEMA_VERSION = 3
BATCH = 1000


def open_store(folder: Path, redis_port: int) -> Any:  # noqa: ANN401 - a FeatureStore
    """A store with its registry in `folder`."""
    from feast import FeatureStore, RepoConfig

    return FeatureStore(
        config=RepoConfig(
            project="stack",
            registry=str(folder / "registry.db"),
            provider="local",
            online_store={"type": "redis", "connection_string": f"127.0.0.1:{redis_port}"},
            offline_store={"type": "file"},
            entity_key_serialization_version=SCHEMA_VERSION,
        )
    )


def fill_hashes(order: dict[str, Any], values: Any) -> None:  # noqa: ANN401 - numpy's archive
    """NAME:IDENTITY to a hash, a feature's value as four bytes."""
    import redis

    client = redis.Redis(port=order["redis_port"])
    for entity in order["entities"]:
        pipeline = client.pipeline(transaction=False)
        for identity, row in enumerate(values[entity["name"]]):
            fields = {name: value.tobytes() for name, value in zip(entity["features"], row, strict=True)}
            pipeline.hset(f"{entity['name']}:{identity}", mapping=fields)
            if identity % BATCH == BATCH - 1:
                pipeline.execute()
        pipeline.execute()


def fill_feast(order: dict[str, Any], values: Any) -> None:  # noqa: ANN401 - numpy's archive
    """A view for each entity, and one service of all."""
    import pandas as pd
    from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
    from feast.types import Float32

    folder, now = Path(order["folder"]), datetime.datetime.now(tz=datetime.UTC)
    store, views, frames = open_store(folder, order["redis_port"]), [], {}
    for entity in order["entities"]:
        name, rows = entity["name"], values[entity["name"]]
        columns = {each: rows[:, at] for at, each in enumerate(entity["features"])}
        count = len(rows)
        frames[name] = pd.DataFrame({name: range(count), "at": [now] * count, "created": [now] * count, **columns})
        file = folder / f"{name}.parquet"
        frames[name].to_parquet(file)
        source = FileSource(path=str(file), timestamp_field="at", created_timestamp_column="created")
        key = Entity(name=name, join_keys=[name], value_type=ValueType.INT64)
        schema = [Field(name=each, dtype=Float32) for each in entity["features"]]
        ttl = datetime.timedelta(days=1)
        views.append(FeatureView(name=f"{name}_view", entities=[key], ttl=ttl, schema=schema, source=source))
        store.apply([key, views[-1]])
    store.apply([FeatureService(name=SERVICE, features=views)])
    for name, frame in frames.items():
        for first in range(0, len(frame), BATCH):
            store.write_to_online_store(f"{name}_view", frame[first : first + BATCH])


def main() -> None:
    """Fill, and tell how many identities."""
    order = json.load(sys.stdin)
    with np.load(order["values"]) as values:
        (fill_feast if order["lookup"] == "feast" else fill_hashes)(order, values)
        print(json.dumps({each["name"]: len(values[each["name"]]) for each in order["entities"]}))


if __name__ == "__main__":
    main()
