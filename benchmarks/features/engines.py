"""An engine of ours in this process, over a log, with what its views need said in one place."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import yaml

from benchmarks.features.views import LOG, Declared, spec_of
from engine import Engine, Unavailable, parse_spec

WAIT_S_MAX = 300.0
POLL_S = 0.002


@contextmanager
def engine_over(views: Mapping[str, Declared], log: Declared, folder: Path) -> Iterator[Engine]:
    """A started engine, all its views ready; closed at the end."""
    engine = Engine(parse_spec(yaml.safe_dump(spec_of(views, log), sort_keys=False), folder=folder))
    engine.start()
    try:
        for name in views:
            await_view(engine, name)
        yield engine
    finally:
        engine.close()


def await_view(engine: Engine, name: str) -> None:
    """Returns once the view answers. Raises Unavailable where it does not within WAIT_S_MAX."""
    until_s = time.monotonic() + WAIT_S_MAX
    while True:
        try:
            engine.features.view(name)
            return
        except Unavailable:
            if time.monotonic() > until_s:
                raise
            time.sleep(POLL_S)


def push_all(engine: Engine, batches: list[pa.RecordBatch], *waiting: str) -> None:
    """Batch after batch; returns once these views show them."""
    appended = [engine.features.push(LOG, batch) for batch in batches]
    for name in waiting:
        assert engine.features.view(name).wait(appended[-1], WAIT_S_MAX), f"{name} has not caught up"
