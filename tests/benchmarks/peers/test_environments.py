"""Environments of rivals, and the answers of those that are installed."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.features.events import Stream, stream_file
from benchmarks.peers.environments import (
    DUCKDB,
    ENVIRONMENTS,
    INSTALL,
    POLARS,
    REDIS,
    TANTIVY,
    NotInstalledError,
    PeerEnvironment,
    PeerError,
)
from benchmarks.peers.redis_server import RedisServer

BATCH, PREFILL, EVENTS = 1_000, 500, 3_000


def order_of(file: Path) -> dict[str, Any]:
    sizes = {"rows": BATCH, "prefill": PREFILL, "seconds": 30, "merge_every": 1}
    return {"file": str(file), "tiles_s": [5, 300], **sizes}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return stream_file(Stream(entities=PREFILL, events=EVENTS, span_s=60), tmp_path)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_environment_that_is_not_there_says_how_to_make_it(name: str, tmp_path: Path) -> None:
    absent = PeerEnvironment(name, ENVIRONMENTS[name].packages, tmp_path)
    with pytest.raises(NotInstalledError, match=f"{INSTALL} {name}"):
        absent.check_installed()


def test_an_environment_made_of_other_packages_does_not_count(tmp_path: Path) -> None:
    mine = PeerEnvironment("mine", ("one==1",), tmp_path)
    mine.folder.mkdir()
    (mine.folder / "complete").write_text("Python 3.11\none==2\n")
    assert not mine.installed


def test_a_rival_that_breaks_down_says_why(tmp_path: Path) -> None:
    if not POLARS.installed:
        pytest.skip(POLARS.how)
    with pytest.raises(PeerError, match="No such file"):
        POLARS.run("polars_tiles.py", order_of(tmp_path / "absent.arrow"), core=None)


def test_a_rival_that_hangs_is_killed_with_all_it_started(tmp_path: Path) -> None:
    hanging = PeerEnvironment("hanging", (), tmp_path)
    hanging.python.parent.mkdir(parents=True)
    hanging.python.write_text('#!/bin/sh\nsleep 60 & echo $! > "${0%/*}/started"; wait\n')
    hanging.python.chmod(0o755)
    (hanging.folder / "complete").write_text(f"Python {sys.version_info.major}.{sys.version_info.minor}\n")
    with pytest.raises(PeerError, match=r"hanging did not finish in 0\.5 s"):
        hanging.run("milvus_vectors.py", {}, core=None, timeout_s=0.5)
    started = int((hanging.python.parent / "started").read_text())
    until = time.monotonic() + 10
    while alive(started) and time.monotonic() < until:
        time.sleep(0.01)
    assert not alive(started)


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.parametrize(("peer", "script"), [(POLARS, "polars_tiles.py"), (DUCKDB, "duckdb_upsert.py")])
def test_both_rivals_fold_every_event_and_keep_as_many_tiles(peer: PeerEnvironment, script: str, file: Path) -> None:
    if not peer.installed:
        pytest.skip(peer.how)
    found = peer.run(script, order_of(file), core=None)
    assert found["events"] == EVENTS
    assert found["kept"] == tiles_in(file)


def tiles_in(file: Path) -> int:
    import pyarrow as pa

    table = pa.ipc.open_file(pa.memory_map(str(file))).read_all()
    cards, times_us = table["card"].to_pylist(), table["at"].cast(pa.int64()).to_pylist()
    rows = list(zip(cards, times_us, strict=True))
    return sum(len({(card, at // (tile_s * 1_000_000)) for card, at in rows}) for tile_s in (5, 300))


def test_redis_comes_up_and_goes_away(tmp_path: Path) -> None:
    if not REDIS.installed:
        pytest.skip(REDIS.how)
    with RedisServer(tmp_path, core=None) as server:
        assert server.process.pid
    assert not Path(f"/proc/{server.process.pid}").exists()


def test_tantivy_and_exact_vectors_find_what_only_words_or_only_vectors_tell(tmp_path: Path) -> None:
    if not TANTIVY.installed:
        pytest.skip(TANTIVY.how)
    texts = ["cough: exhale abruptly", "run: move fast", "swim, float: be afloat", "wait: stay in one place"]
    np.save(tmp_path / "vectors.npy", np.eye(4, dtype=np.float32))
    np.save(tmp_path / "queries.npy", np.array([[0.1, 0.2, 0.9, 0.0]] * 2, np.float32))
    written = {"texts": texts, "asked": ["Swim now", "wait and wait"], "answers": [2, 3]}
    for name, value in written.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    sort = {"query": "short", "texts": str(tmp_path / "asked.json"), "vectors": str(tmp_path / "queries.npy")}
    files = {"texts": "texts.json", "answers": "answers.json", "vectors": "vectors.npy"}
    order = {**{name: str(tmp_path / file) for name, file in files.items()}, "sorts": [sort]}
    told = TANTIVY.run("tantivy_hybrid.py", {**order, "k": 2, "depth": 2, "rank_k": 10}, core=None)
    assert [(each["query"], each["by"], each["recall"]) for each in told] == [
        ("short", "vectors", 0.5),
        ("short", "words", 1.0),
        ("short", "RRF", 1.0),
    ]
