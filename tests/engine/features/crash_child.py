"""The process that a crash test kills: pushes random events, and tells of each batch once it is acknowledged.

Importing this compiles what a view runs, so that a fork server pays for it once.
"""

from __future__ import annotations

import random
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pyarrow as pa

from engine import Chunk, Engine, parse_spec
from engine.features.compilation import compile_view
from engine.features.state import FeatureState, warm_kernels
from engine.log.schema import arrow_schema
from tests.engine.features.crash_events import CARDS, SPEC, random_rows
from tests.engine.features.running import batch


def run(folder: Path, seed: int, told: Connection) -> None:
    """Runs until it is killed. Tells 0 when it is ready, then after each acknowledged batch the offset after its last row."""
    engine = Engine(parse_spec(SPEC, folder=folder))
    engine.start()
    features = engine.features
    schema, draw = features.schema("tx"), random.Random(seed)
    told.send(0)
    first = features.view("spending").statistics().offsets.get(0, 0)
    while True:
        appended = features.push("tx", batch(random_rows(draw, first, draw.choice((1, 3, 20, 100))), schema))
        first = appended.next
        told.send(first)


def _compile() -> None:
    spec = parse_spec(SPEC, folder=Path())
    schema = arrow_schema(spec.logs["tx"].schema)
    state = FeatureState(compile_view("spending", spec.feature_views["spending"], schema))
    warm_kernels()
    rows = batch(random_rows(random.Random(1), 0, 100), schema)
    state.ingest(Chunk(0, 0, 100, rows, np.full(100, 1 << 60, np.int64)))
    state.lookup(pa.array(CARDS), 0)


_compile()
