"""`vireo ingest --url` into a running server: the same points as by an engine of its own, embedded by the server's model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine import Hit
from serving.cli import main
from tests.serving.ingest.handbook import GOOD, SEA, SPEC, application, ingested, library, points
from tests.serving.servers import ServerHere, spec_for

SERVED = SPEC.partition("language_models:")[0]
TENANTS = """
    pages:
      id: integer
      vectors: {}
      tenant: owner
      fields: {text: {type: text}, document: {type: keyword}, digest: {type: keyword}, owner: {type: keyword}}
      durability: os
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The application; documents that can be read are in `library`, below the current folder."""
    folder = library(tmp_path / "library")
    for each in (folder / "bad").iterdir():
        each.unlink()
    monkeypatch.chdir(tmp_path)
    return application(tmp_path, SERVED.replace("documents:\n", TENANTS.lstrip("\n") + "documents:\n"))


@pytest.fixture
def server(app: Path) -> Iterator[ServerHere]:
    """One that has the collections open."""
    made = ServerHere(spec_for(app.read_text(), app.parent, "native"))
    yield made
    made.stop()


def url(server: ServerHere) -> str:
    return f"http://127.0.0.1:{server.host.http_port}"


def kept(server: ServerHere, name: str, tenant: str | None = None) -> dict[object, Hit]:
    """All that its collection has, by id."""
    collection = server.engine.vectors.collection(name)
    names = list(collection.spec.vectors)
    found, _ = collection.scroll(limit=1_000, payload=list(collection.spec.fields), vectors=names, tenant=tenant)
    return {each.id: each for each in found}


def test_a_server_gets_what_an_engine_of_its_own_gets(
    app: Path, server: ServerHere, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, summary = ingested(capsys, app, "handbook", "library", "--url", url(server))
    assert (code, summary["documents"], summary["problems"]) == (0, len(GOOD), {})
    there = kept(server, "handbook")
    alone = application(tmp_path / "alone", SERVED)
    assert ingested(capsys, alone, "handbook", "library")[0] == 0
    here = points(alone)
    assert len(here) == summary["passages_written"]
    assert {key: each.payload for key, each in there.items()} == {key: each.payload for key, each in here.items()}
    for key, each in here.items():
        np.testing.assert_array_equal(there[key].vectors["meaning"], each.vectors["meaning"])


def test_a_second_run_into_a_server_changes_what_has_changed(
    app: Path, server: ServerHere, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = (app, "handbook", "library", "--url", url(server), "--prune")
    ingested(capsys, *ask)
    again = ingested(capsys, *ask)[1]
    assert (again["unchanged"], again["passages_written"], again["pruned"]) == (len(GOOD) - 1, 0, 0)
    (app.parent / "library" / "sea.md").write_text("# The sea\n\nThe sea is deep.\n")
    (app.parent / "library" / "tide.pdf").unlink()
    changed = ingested(capsys, *ask)[1]
    assert (changed["passages_written"], changed["passages_deleted"], changed["pruned"]) == (1, 3, 1)
    (app.parent / "library" / "sea.md").write_text(SEA)
    assert ingested(capsys, *ask)[1]["passages_written"] == 2
    assert "library/tide.pdf" not in {each.payload["document"] for each in kept(server, "handbook").values()}


def test_a_server_takes_documents_of_a_tenant_and_says_what_is_wrong(
    app: Path, server: ServerHere, capsys: pytest.CaptureFixture[str]
) -> None:
    for tenant in ("one", "two & more"):
        assert ingested(capsys, app, "pages", "library/sea.md", "--url", url(server), "--tenant", tenant)[0] == 0
        assert {each.payload["document"] for each in kept(server, "pages", tenant).values()} == {"library/sea.md"}
    for arguments, told in (
        (["pages", "library", "--url", url(server)], "tenant"),
        (["nowhere", "library", "--url", url(server)], "the server says NOT_FOUND"),
        (["pages", "library", "--url", "http://127.0.0.1:1"], "the server cannot be reached: "),
        (["pages", "library", "--url", "127.0.0.1:1"], "--url: expected http://HOST:PORT or https://HOST:PORT"),
    ):
        assert main(["ingest", str(app), *arguments]) == 1
        assert told in capsys.readouterr().err
