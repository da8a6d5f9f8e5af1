"""PDF as a document, by pypdf, which this file alone knows. Its text is that of its pages, each after the other; what is
drawn or scanned has none."""

from __future__ import annotations

import io
import logging

from engine.documents.document import Block, Document
from engine.documents.plain_text import read_text
from engine.errors import FailedPrecondition, InvalidArgument, TooLarge


def read_pdf(content: bytes, pages_max: int) -> Document:
    """Its title is what its metadata says. Raises InvalidArgument where it cannot be read or has no text, FailedPrecondition
    where it wants a password, TooLarge where it has more than `pages_max` pages."""
    import pypdf

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # what is amiss and can be read all the same
    try:
        reader = pypdf.PdfReader(io.BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise FailedPrecondition("is protected by a password")
        if (count := len(reader.pages)) > pages_max:
            raise TooLarge(f"has {count} pages, at most {pages_max} are allowed")
        pages = [page.extract_text() for page in reader.pages]
        title = None if reader.metadata is None else reader.metadata.title
    except pypdf.errors.DependencyError as error:
        raise FailedPrecondition(f"is encrypted: {error}") from error
    except (InvalidArgument, FailedPrecondition, TooLarge):
        raise
    except Exception as error:  # the library lets through whatever a torn file makes of it
        raise InvalidArgument(f"is no PDF that can be read: {type(error).__name__}: {error}") from error
    return _document(pages, title)


def _document(pages: list[str], title: object) -> Document:
    text, blocks = "", []
    for number, page in enumerate(pages, 1):
        content = page.encode("utf-8", "replace").decode().replace("\x00", "").strip()
        if not content:
            continue
        text += "\n\n" if text else ""
        for each in read_text(content).blocks:
            blocks.append(Block(len(text) + each.start, len(text) + each.end, "prose", (), number))
        text += content
    if not text:
        raise InvalidArgument(f"has no text on its {len(pages)} pages: they may be pictures")
    named = title.strip() if isinstance(title, str) else ""
    return Document(text, tuple(blocks), named or None)
