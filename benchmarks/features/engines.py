"""An engine of ours in this process, over a log, with what its views need said in one place."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import yaml

from benchmarks.features.views import LOG, Declared, spec_of
from engine import Engine, parse_spec

WAIT_S_MAX = 300.0


@contextmanager
def engine_over(views: Mapping[str, Declared], log: Declared, folder: Path) -> Iterator[Engine]:
    """A started engine; closed at the end."""
    engine = Engine(parse_spec(yaml.safe_dump(spec_of(views, log), sort_keys=False), folder=folder))
    engine.start()
    try:
        yield engine
    finally:
        engine.close()


def push_all(engine: Engine, batches: list[pa.RecordBatch], *waiting: str) -> None:
    """Batch after batch; returns once these views show them."""
    appended = [engine.features.push(LOG, batch) for batch in batches]
    for name in waiting:
        assert engine.features.view(name).wait(appended[-1], WAIT_S_MAX), f"{name} has not caught up"
