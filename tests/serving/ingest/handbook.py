"""An application with a collection of passages, and documents for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, Hit, load_spec
from serving.cli import main
from tests.engine.documents.pdfs import pdf, protected
from tests.engine.encoders.small import encoder, files

SPEC = """
server: {grpc_port: 0, http_port: 0}
encoders:
  words:
    model: encoder/model.onnx
    tokenizer: encoder/tokenizer.json
    encoding: {tokens_max: 40, prompts: {passage: "the "}}
vectors:
  path: vectors
  collections:
    handbook:
      id: text
      vectors: {meaning: {size: 5, embedder: {model: words, version: 1}}}
      fields:
        text: {type: text}
        searched: {type: text}
        document: {type: keyword}
        digest: {type: keyword}
        title: {type: keyword}
        headings: {type: keyword, array: true}
        page: {type: integer}
        start: {type: integer}
        end: {type: integer}
      durability: os
documents:
  handbook: {prompt: passage, overlap_chars: 30}
language_models:
  never: {call: 'tests.language:NoSuchModel'}
"""
SEA = "# The sea\n\nThe sea is deep.\n\n## Tide\n\nThe tide turns at noon.\n"


def application(folder: Path, spec: str = SPEC) -> Path:
    """`app.yaml` in `folder`, with its encoder."""
    files(folder / "encoder", encoder())
    path = folder / "app.yaml"
    path.write_text(spec)
    return path


def library(folder: Path) -> Path:
    """Documents of every kind, some of which cannot be read."""
    (folder / "more").mkdir(parents=True)
    (folder / "sea.md").write_text(SEA)
    (folder / "more" / "fox.html").write_text("<title>Fox</title><h1>Fox</h1><p>A red fox runs home.</p>")
    (folder / "more" / "bell.txt").write_text("A bell at noon. " * 20)
    (folder / "tide.pdf").write_bytes(pdf([["The tide turns."], ["The wind is cold."]], "Tide"))
    (folder / "empty.txt").write_text("\n")
    (folder / "notes.doc").write_bytes(b"passed over")
    (folder / ".hidden.md").write_text("passed over")
    (folder / "bad").mkdir()
    (folder / "bad" / "torn.pdf").write_bytes(pdf([["A page."]])[:150])
    (folder / "bad" / "closed.pdf").write_bytes(protected(pdf([["Secret."]]), "x"))
    (folder / "bad" / "binary.txt").write_bytes(b"\x00\x01\x02")
    (folder / "bad" / "latin.txt").write_bytes(b"caf\xe9")
    (folder / "bad" / "deep.html").write_text("<div>" * 5000)
    return folder


GOOD = ("sea.md", "more/fox.html", "more/bell.txt", "tide.pdf", "empty.txt")
BAD = {
    "bad/torn.pdf": "is no PDF that can be read", "bad/closed.pdf": "is protected by a password",
    "bad/binary.txt": "is no text: character 0 is U+0000", "bad/latin.txt": "is no text in utf-8: byte 3",
    "bad/deep.html": "elements in each other, deeper than 1000",
}  # fmt: skip


def ingested(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, dict[str, Any]]:
    """The exit code of `vireo ingest`, and its summary."""
    capsys.readouterr()
    code = main(["ingest", *map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def points(app: Path, name: str = "handbook", tenant: str | None = None) -> dict[Any, Hit]:
    """All that the collection has, by id."""
    spec = load_spec(app)
    engine = Engine(type(spec)(vectors=spec.vectors, encoders=spec.encoders, folder=spec.folder))
    engine.start()
    try:
        collection = engine.vectors.collection(name)
        found, _ = collection.scroll(
            limit=10_000, payload=list(collection.spec.fields), vectors=list(collection.spec.vectors), tenant=tenant
        )
        return {each.id: each for each in found}
    finally:
        engine.close()
