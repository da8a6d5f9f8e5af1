"""Which files are documents, and how each kind is read."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Final, Literal

from engine.documents.declaration import DocumentsSpec
from engine.documents.document import Document
from engine.documents.limits import DOCUMENT_CHARS_MAX
from engine.errors import InvalidArgument, SpecError, TooLarge

Kind = Literal["text", "markdown", "html", "pdf"]

DOCUMENT_KINDS: Final[dict[str, Kind]] = {
    ".txt": "text", ".text": "text", ".md": "markdown", ".markdown": "markdown",
    ".html": "html", ".htm": "html", ".xhtml": "html", ".pdf": "pdf",
}  # fmt: skip
"""By the ending of a file's name, in small letters."""


def read_document(name: str, content: bytes, spec: DocumentsSpec) -> Document:
    """The document in a file. Raises InvalidArgument, FailedPrecondition, TooLarge, in words that follow its name: "is protected
    by a password"; SpecError where the library is not installed."""
    kind = DOCUMENT_KINDS.get(PurePosixPath(name).suffix.lower())
    if kind is None:
        raise InvalidArgument(f"ends with none of {', '.join(DOCUMENT_KINDS)}")
    try:
        found = _read(kind, content, spec)
    except ModuleNotFoundError as error:
        raise SpecError(f"{kind} needs what is not installed; pip install 'vireo[documents]': {error}") from error
    if len(found.text) > DOCUMENT_CHARS_MAX:
        raise TooLarge(f"has {len(found.text)} characters of text, at most {DOCUMENT_CHARS_MAX} are allowed")
    return found


def _read(kind: Kind, content: bytes, spec: DocumentsSpec) -> Document:
    if kind == "pdf":
        from engine.documents.pdf import read_pdf

        return read_pdf(content, spec.pages_max)
    if kind == "html":
        from engine.documents.html import read_html

        return read_html(content, spec.encoding)
    from engine.documents.plain_text import characters, read_text

    text = characters(content, spec.encoding)
    if kind == "text":
        return read_text(text)
    from engine.documents.markdown import read_markdown

    return read_markdown(text)
