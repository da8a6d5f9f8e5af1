"""`vireo explain` tells what collections are there, and how one query is answered."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine import Engine, collection_spec_of, parse_spec, points_of
from serving.cli import main

SPEC = """
server: {grpc_port: 0, http_port: 0}
vectors: {path: collections}
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A spec beside whose collections there are 3,000 points."""
    path = tmp_path / "vireo.yaml"
    path.write_text(SPEC)
    engine = Engine(parse_spec(SPEC, folder=tmp_path))
    engine.start()
    spec = collection_spec_of({"vectors": {"v": {"size": 16}}, "fields": {"n": {"type": "integer"}}})
    collection = engine.vectors.create("points", spec)
    rng = np.random.default_rng(5)
    rows = [
        {"id": each, "vector": rng.standard_normal(16, np.float32), "payload": {"n": each}} for each in range(3_000)
    ]
    collection.upsert(points_of(spec, rows))
    assert collection.wait_indexed(60)
    engine.close()
    return path


def test_collections_and_the_plan_of_a_query_are_told(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    query = app.parent / "query.json"
    filter_ = {"must": [{"key": "n", "range": {"lt": 7}}]}
    query.write_text(json.dumps({"vector": [1.0] * 16, "k": 5, "filter": filter_}))
    assert main(["explain", str(app), "--collection", "points", "--query", str(query)]) == 0
    told = capsys.readouterr().out
    assert "collection points" in told
    assert "3000 points" in told
    assert "all 7 of 3000 rows that may be found are scored" in told
    assert "1.00 of what an exact search finds is among them" in told


def test_a_query_of_no_collection_is_refused(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    query = app.parent / "query.json"
    query.write_text("{}")
    assert main(["explain", str(app), "--query", str(query)]) == 1
    assert "--collection" in capsys.readouterr().err
    assert main(["explain", str(app), "--query", str(query), "--collection", "pints"]) == 1
    assert "nearest: 'points'" in capsys.readouterr().err
