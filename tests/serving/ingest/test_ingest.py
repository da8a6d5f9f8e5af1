"""`vireo ingest` into an application's own folder: what is there afterwards, and what a second run changes."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import numpy as np
import pytest

from engine import SpecError, parse_spec
from engine.documents.reading import read_document
from engine.encoders.pooling import normalised
from serving.cli import main
from tests.engine.encoders.small import ids_of, table
from tests.serving.ingest.handbook import BAD, GOOD, SEA, SPEC, application, ingested, library, points


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The application; documents are in `library`, below the current folder."""
    library(tmp_path / "library")
    monkeypatch.chdir(tmp_path)
    return application(tmp_path)


def test_documents_become_points_that_are_pieces_of_them(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, summary = ingested(capsys, app, "handbook", "library")
    assert code == 1
    assert summary["complete"]
    assert summary["documents"] == len(GOOD) + len(BAD)
    assert summary["problems"].keys() == {f"library/{each}" for each in BAD}
    for name, told in BAD.items():
        assert summary["problems"][f"library/{name}"].startswith(told)
    found = points(app)
    assert summary["passages_written"] == len(found) == 9
    spec = parse_spec(SPEC, folder=app.parent).documents["handbook"]
    documents = {
        f"library/{each}": read_document(each, (app.parent / "library" / each).read_bytes(), spec) for each in GOOD
    }
    for each in found.values():
        payload = each.payload
        assert payload["text"] == documents[payload["document"]].text[payload["start"] : payload["end"]]
        expected = normalised(table()[ids_of(_spaced(f"the {payload['searched']}"))].mean(0, keepdims=True))[0]
        np.testing.assert_allclose(each.vectors["meaning"], expected, atol=1e-6)
    tide = found["library/sea.md#1"].payload
    assert (tide["title"], tide["headings"], tide["text"]) == (
        "The sea",
        ["The sea", "Tide"],
        "## Tide\n\nThe tide turns at noon.",
    )
    assert tide["searched"] == f"The sea > Tide\n{tide['text']}"
    assert [found[f"library/tide.pdf#{each}"].payload["page"] for each in (0, 1)] == [1, 2]
    bell = [each.payload for key, each in sorted(found.items()) if str(key).startswith("library/more/bell.txt#")]
    assert len(bell) > 1, "it is longer than what the encoder takes"
    assert all(len(ids_of(_spaced(f"the {each['searched']}"))) <= 40 for each in bell)


def _spaced(text: str) -> str:
    """As the tokenizer parts signs from words."""
    return " ".join(re.findall(r"\w+|[^\w\s]+", text))


def test_a_second_run_changes_what_has_changed(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in BAD:
        (app.parent / "library" / name).unlink()
    assert ingested(capsys, app, "handbook", "library")[0] == 0
    before = points(app)
    code, again = ingested(capsys, app, "handbook", "library")
    assert (code, again["unchanged"], again["passages_written"], again["passages_deleted"]) == (0, len(GOOD) - 1, 0, 0)
    (app.parent / "library" / "sea.md").write_text(SEA + "\n## Wind\n\nThe wind is cold.\n")
    longer = ingested(capsys, app, "handbook", "library")[1]
    assert (longer["passages_written"], longer["passages_deleted"]) == (2, 0), "the new one, and the first that tells"
    (app.parent / "library" / "sea.md").write_text("# The sea\n\nThe sea is deep.\n")
    shorter = ingested(capsys, app, "handbook", "library")[1]
    assert (shorter["passages_written"], shorter["passages_deleted"]) == (1, 2)
    (app.parent / "library" / "sea.md").write_text(SEA)
    ingested(capsys, app, "handbook", "library")
    after = points(app)
    assert {key: each.payload for key, each in after.items()} == {key: each.payload for key, each in before.items()}


def test_a_document_that_cannot_be_read_any_more_stays_as_it_was(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ingested(capsys, app, "handbook", "library/tide.pdf")
    (app.parent / "library" / "tide.pdf").write_bytes(b"torn")
    assert ingested(capsys, app, "handbook", "library/tide.pdf")[0] == 1
    assert len(points(app)) == 2


def test_pruning_deletes_what_is_gone_from_its_folder_alone(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ingested(capsys, app, "handbook", "library", "library/sea.md")
    for name in ("more/fox.html", "more/bell.txt", "tide.pdf"):
        (app.parent / "library" / name).unlink()
    kept = ingested(capsys, app, "handbook", "library")[1]
    assert kept["pruned"] == 0
    code, empty = ingested(capsys, app, "handbook", "library/more", "--prune")
    assert (code, empty["pruned"]) == (1, 0)
    assert empty["problems"] == {"library/more": "has no documents: nothing of it is pruned"}
    (app.parent / "library" / "more" / "bell.txt").write_text("A bell.")
    assert ingested(capsys, app, "handbook", "library/more", "--prune")[1]["pruned"] == 1
    names = {each.payload["document"] for each in points(app).values()}
    assert names == {"library/sea.md", "library/more/bell.txt", "library/tide.pdf"}, "another folder's is not asked for"


def test_a_folder_that_cannot_be_looked_through_is_not_one_without_documents(
    app: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refusing(path: str) -> object:  # permissions would not stop who runs tests as root
        if str(path).endswith("more"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert main(["ingest", str(app), "handbook", "library", "--prune"]) == 1
    assert "library/more: cannot be looked through: Permission denied" in capsys.readouterr().err


def test_documents_are_called_as_they_are_from_the_root(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = app.parent / "library"
    ingested(capsys, app, "handbook", folder / "sea.md", "--root", folder)
    assert set(points(app)) == {"sea.md#0", "sea.md#1"}
    assert main(["ingest", str(app), "handbook", str(app), "--root", str(folder)]) == 1
    assert "lies outside of --root" in capsys.readouterr().err
    assert main(["ingest", str(app), "handbook", str(folder / "gone")]) == 1
    assert "gone: there is no such file or folder" in capsys.readouterr().err


def test_files_that_are_none_and_too_large_ones_are_told(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = app.parent / "odd"
    folder.mkdir()
    os.mkfifo(folder / "pipe.txt")
    (folder / "gone.md").symlink_to(folder / "nothing")
    with (folder / "large.html").open("wb") as opened:
        opened.truncate(1 << 30)
    (folder / os.fsdecode(b"\xff.txt")).write_text("text")
    code, summary = ingested(capsys, app, "handbook", "odd")
    assert code == 1
    assert summary["problems"] == {
        "odd/pipe.txt": "is no regular file",
        "odd/gone.md": "cannot be opened: No such file or directory",
        "odd/large.html": "has 1073741824 bytes, at most 67108864 are allowed",
        "'odd/\\udcff.txt'": "has a name that is no UTF-8",
    }


@pytest.mark.parametrize("kind", ["integer", "text"])
def test_a_collection_of_words_alone_takes_documents_of_a_tenant(
    kind: str, app: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app.write_text(f"""
vectors:
  path: others
  collections:
    pages:
      id: {kind}
      vectors: {{}}
      tenant: owner
      fields: {{body: {{type: text}}, document: {{type: keyword}}, digest: {{type: keyword}}, owner: {{type: keyword}}}}
documents:
  pages: {{chars_max: 50, overlap_chars: 0, fields: {{text: body}}}}
""")
    assert ingested(capsys, app, "pages", "library/sea.md", "--tenant", "one")[0] == 0
    assert ingested(capsys, app, "pages", "library/sea.md", "--tenant", "two")[1]["passages_written"] == 2
    assert ingested(capsys, app, "pages", "library/sea.md", "--tenant", "one")[1]["unchanged"] == 1
    found = points(app, "pages", "one")
    assert sorted(each.payload["body"] for each in found.values()) == [SEA[:27], SEA[29:-1]]
    assert all(isinstance(key, int) == (kind == "integer") for key in found)
    assert main(["ingest", str(app), "pages", "library/sea.md"]) == 1
    assert "tenant" in capsys.readouterr().err


DECLARED = "documents:\n  handbook: {prompt: passage, overlap_chars: 30}\n"
WRONG = [
    ("documents: {handbook: {chars_max: 10}}", "documents.handbook.chars_max: must be from 50 to 100000, got 10"),
    ("documents: {handbook: {overlap_chars: 1200}}", "must be from 0 to 1000, got 1200"),
    (
        "documents: {handbook: {context: '{tilte}'}}",
        "expected {path} and {title} and {headings} and {document} and {page}",
    ),
    (
        "documents: {handbook: {encoding: rot13}}",
        "expected an encoding of text such as 'utf-8' or 'cp1252', got 'rot13'",
    ),
    ("documents: {handbook: {encoding: undefined}}", "expected an encoding of text such as 'utf-8'"),
    ("documents: {handbook: {prompt: pasage}}", "encoder 'words' has no prompt 'pasage'; nearest: 'passage'"),
    (
        "documents: {handbook: {fields: {page: pages}}}",
        "the collection has no field 'pages', to be declared as {type: integer}",
    ),
    ("documents: {handbook: {fields: {text: page}}}", "field 'page' is integer, expected text or keyword"),
    ("documents: {handbook: {chunk: 3}}", "chunk"),
]


@pytest.mark.parametrize(("text", "told"), WRONG, ids=[each[0][21:50] for each in WRONG])
def test_a_declaration_that_cannot_be_is_told_with_its_place(text: str, told: str, tmp_path: Path) -> None:
    spec = SPEC.replace(DECLARED, text + "\n")
    with pytest.raises(SpecError) as caught:
        parse_spec(spec, folder=tmp_path)
    assert told in caught.value.message


REFUSED = [
    (SPEC.replace("        digest: {type: keyword}\n", "").replace(DECLARED, ""),
     "documents.handbook.fields.digest: the collection has no field 'digest', to be declared as {type: keyword}"),
    (SPEC.replace(", embedder: {model: words, version: 1}", ""), "vector 'meaning' names no embedder"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "told"), REFUSED, ids=["field", "embedder"])
def test_a_collection_that_cannot_take_documents_is_told(
    spec: str, told: str, app: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app.write_text(spec)
    assert main(["ingest", str(app), "handbook", "library"]) == 1
    assert told in capsys.readouterr().err
