"""What is read of each kind of file, and what is said of those that cannot be."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from engine import DeadlineExceeded, DocumentReader, FailedPrecondition, InvalidArgument, TooLarge, VireoError
from engine.documents.declaration import DocumentsSpec
from engine.documents.document import Block, Document
from engine.documents.reading import read_document
from tests.engine.documents.pdfs import pdf, protected

SPEC = DocumentsSpec()


def parts(document: Document) -> list[tuple[str, str, tuple[str, ...]]]:
    """(kind, text, headings) of each block."""
    return [(each.kind, document.text[each.start : each.end], each.headings) for each in document.blocks]


def test_text_is_its_paragraphs_by_the_encoding_that_it_says() -> None:
    document = read_document("a.TXT", "one\nmore\n \ntwo — ü\n".encode(), SPEC)
    assert parts(document) == [("prose", "one\nmore", ()), ("prose", "two — ü", ())]
    for content in (b"\xef\xbb\xbfw\xc3\xbc", "\ufeffwü".encode("utf-16-le"), "\ufeffwü".encode("utf-32-be")):
        assert read_document("a.txt", content, SPEC).text == "wü"
    assert read_document("a.txt", b"w\xfc", replace(SPEC, encoding="cp1252")).text == "wü"


def test_markdown_is_its_blocks_below_their_headings() -> None:
    text = (
        "---\ntitle: 'The Book'\n---\n# Top `x` *y*\r\n\r\nOne\r\ntwo.\r\n\r\n- a\r\n- b\r\n\r\n  more\r\n\r\nSub\r\n---\r\n"
        "```\r\n# no heading\r\n```\r\n| a |\r\n|---|\r\n| b |\r\n\r\n[r]: u\r\n\r\n# Next\r\n"
    )
    document = read_document("a.md", text.encode(), SPEC)
    assert document.title == "The Book"
    assert document.text == text
    assert parts(document) == [
        ("lines", "---\ntitle: 'The Book'\n---", ()),
        ("heading", "# Top `x` *y*", ("Top x y",)),
        ("prose", "One\r\ntwo.", ("Top x y",)),
        ("prose", "- a", ("Top x y",)),
        ("prose", "- b\r\n\r\n  more", ("Top x y",)),
        ("heading", "Sub\r\n---", ("Top x y", "Sub")),
        ("lines", "```\r\n# no heading\r\n```", ("Top x y", "Sub")),
        ("lines", "| a |\r\n|---|\r\n| b |", ("Top x y", "Sub")),
        ("lines", "[r]: u", ("Top x y", "Sub")),
        ("heading", "# Next", ("Next",)),
    ]
    assert read_document("a.md", b"text\n\n# One\n", SPEC).title == "One"
    windows = read_document("a.md", text.replace("\r\n", "\n").replace("\n", "\r\n").encode(), SPEC)
    assert windows.title == "The Book"
    assert parts(windows)[0] == ("lines", "---\r\ntitle: 'The Book'\r\n---", ())


def test_html_is_what_a_reader_sees() -> None:
    html = (
        "<!doctype html><html><head><title> The\n title </title><style>p {}</style></head><body><nav><p>menu</p></nav>"
        "<h1>Top <em>one</em></h1><p>One <b>bold</b> &amp; two.<br>Line\n three.</p><script>no()</script><ul><li>a<li>b</ul>"
        "<h2>Sub</h2><pre>x\n  y\n</pre><table><tr><th>1<th>2<tr><td>3<td>4</table>tail"
    )
    document = read_document("a.html", html.encode(), SPEC)
    assert document.title == "The title"
    assert parts(document) == [
        ("heading", "Top one", ("Top one",)),
        ("prose", "One bold & two.\nLine three.", ("Top one",)),
        ("prose", "a", ("Top one",)),
        ("prose", "b", ("Top one",)),
        ("heading", "Sub", ("Top one", "Sub")),
        ("lines", "x\n  y", ("Top one", "Sub")),
        ("lines", "1 | 2\n3 | 4", ("Top one", "Sub")),
        ("prose", "tail", ("Top one", "Sub")),
    ]
    latin = b'<meta http-equiv="content-type" content="text/html; charset=iso-8859-1"><p>w\xfc'
    assert read_document("a.htm", latin, SPEC).text == "wü"
    assert read_document("a.htm", b"<h1>Only</h1>", SPEC).title == "Only"


def test_html_is_not_nested_by_what_its_scripts_comments_and_drawings_hold() -> None:
    busy = f"<p>one</p><script>{'i<n;' * 1001}</script><!--{'<i>' * 1001}--><svg>{'<path/>' * 1001}</svg><p>two</p>"
    assert read_document("a.html", busy.encode(), SPEC).text == "one\n\ntwo"


def test_pdf_is_the_text_of_its_pages() -> None:
    document = read_document("a.pdf", pdf([["Hello there.", "(again)"], [], ["Third page."]], "A Title"), SPEC)
    assert document.title == "A Title"
    assert document.text == "Hello there.\n(again)\n\nThird page."
    assert document.blocks == (Block(0, 20, page=1), Block(22, 33, page=3))


BAD: list[tuple[str, bytes, type[VireoError], str]] = [
    ("a.txt", b"\x89PNG\r\n\x1a\n\x00", InvalidArgument, "is no text in utf-8: byte 0 is '89 50 4e 47'"),
    ("a.txt", b"MZ\x90"[:2] + b"\x00\x03", InvalidArgument, "is no text: character 2 is U+0000"),
    ("a.md", b"caf\xe9 au lait", InvalidArgument, "is no text in utf-8: byte 3 is 'e9"),
    ("a.txt", b"\xff\xfe\x00", InvalidArgument, "is no text in utf-16-le: byte 2"),
    ("a.html", b"<meta charset='klingon'>", InvalidArgument, "says that its encoding is 'klingon', which is not known"),
    ("a.html", b"<meta charset='base64'>", InvalidArgument, "says that its encoding is 'base64', which is not known"),
    (
        "a.html",
        b"<meta charset='undefined'>",
        InvalidArgument,
        "says that its encoding is 'undefined', which is not known",
    ),
    ("a.html", b"<meta charset='unicode_escape'>\\ud800", InvalidArgument, "is no text: character 31 is U+D800"),
    ("a.html", b"<div>" * 1001, InvalidArgument, "elements in each other, deeper than 1000, at character 5000"),
    ("a.pdf", b"", InvalidArgument, "is no PDF that can be read"),
    ("a.pdf", b"%PDF-1.7\nnothing", InvalidArgument, "is no PDF that can be read"),
    ("a.pdf", pdf([["A page."]])[:200], InvalidArgument, "is no PDF that can be read"),
    ("a.pdf", pdf([[], []]), InvalidArgument, "has no text on its 2 pages: they may be pictures"),
    ("a.pdf", pdf([["p"]] * 4), TooLarge, "has 4 pages, at most 3 are allowed"),
    ("a.pdf", protected(pdf([["Secret."]]), "x"), FailedPrecondition, "is protected by a password"),
    ("a.doc", b"", InvalidArgument, "ends with none of .txt, "),
]


@pytest.mark.parametrize(("name", "content", "kind", "told"), BAD, ids=[each[3][:40] for each in BAD])
def test_what_cannot_be_read_says_why(name: str, content: bytes, kind: type[VireoError], told: str) -> None:
    with pytest.raises(VireoError) as caught:
        read_document(name, content, replace(SPEC, pages_max=3))
    assert type(caught.value) is kind
    assert caught.value.message.startswith(told)


def test_a_pdf_without_a_password_to_open_it_is_read() -> None:
    assert read_document("a.pdf", protected(pdf([["Open."]]), ""), SPEC).text == "Open."


@pytest.fixture
def reader() -> Iterator[DocumentReader]:
    """For short documents."""
    made = DocumentReader(replace(SPEC, pages_max=3))
    yield made
    made.close()


def test_a_process_beside_reads_as_this_one_does(reader: DocumentReader) -> None:
    content = b"# One\n\ntext \xc3\xbc"
    assert reader.read("a.md", content) == read_document("a.md", content, SPEC)
    with pytest.raises(TooLarge, match=r"^has 4 pages, at most 3 are allowed$"):
        reader.read("a.pdf", pdf([["p"]] * 4))
    assert reader.read("b.pdf", pdf([["p"]])).text == "p"


def test_what_takes_too_long_ends_its_reader() -> None:
    reader = DocumentReader(replace(SPEC, seconds_max=0.1))  # it takes more to start
    with pytest.raises(DeadlineExceeded, match=r"^takes more than 0\.1 s to read$"):
        reader.read("a.txt", b"text")
    assert reader.process_id is None


def test_a_reader_that_dies_is_told_with_its_document(reader: DocumentReader) -> None:
    reader.read("a.txt", b"first")
    process = reader.process_id
    assert process is not None
    os.kill(process, signal.SIGSTOP)  # it cannot take the next
    killer = threading.Timer(0.2, os.kill, (process, signal.SIGKILL))
    killer.start()
    with pytest.raises(InvalidArgument, match=r"^ends the process that reads it: signal SIGKILL$"):
        reader.read("a.txt", b"second")
    killer.join()
    assert reader.read("a.txt", b"third").text == "third"
