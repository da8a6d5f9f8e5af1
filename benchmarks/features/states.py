"""A view's state without an engine around it, and chunks of events for it: what a log's reader would have given."""

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import yaml

from benchmarks.features.events import SCHEMA
from benchmarks.features.views import Declared, local_log, spec_of
from engine import FEATURE_KERNELS, Chunk, FeatureState, compile_kernels, compile_view, parse_spec

NAME = "cards"
WARM_ROWS = 1000


def state_of(view: Declared) -> FeatureState:
    """An empty state of `view` over the log of card events."""
    text = yaml.safe_dump(spec_of({NAME: view}, local_log("unused")), sort_keys=False)
    declared = parse_spec(text, folder=Path.cwd()).feature_views[NAME]
    return FeatureState(compile_view(NAME, declared, SCHEMA))


def chunk_of(batch: pa.RecordBatch, first: int = 0) -> Chunk:
    """The batch as entries `first` and on of partition 0, all of them appended when the newest of them happened."""
    times = batch.column("at").cast(pa.int64()).to_numpy(zero_copy_only=False)
    appended = np.full(batch.num_rows, times.max(initial=0), np.int64)
    return Chunk(partition=0, first=first, next=first + batch.num_rows, batch=batch, appended_us=appended)


def chunks_of(batches: list[pa.RecordBatch], first: int = 0) -> list[Chunk]:
    """Batch after batch."""
    made = []
    for batch in batches:
        made.append(chunk_of(batch, first))
        first += batch.num_rows
    return made


def warm(view: Declared, batch: pa.RecordBatch) -> float:
    """Lets everything be compiled on a state of its own; the seconds that took."""
    began_s = time.perf_counter()
    for each in FEATURE_KERNELS:
        compile_kernels(each)
    state = state_of(view)
    state.ingest(chunk_of(batch.slice(0, WARM_ROWS)))
    state.lookup(batch.column("card").slice(0, 1), 0)
    return time.perf_counter() - began_s
