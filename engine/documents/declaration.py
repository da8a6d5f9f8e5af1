"""How a spec says that documents become points of a collection. Frozen values; docs/reference/documents.md says what each key
means."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.documents.limits import DOCUMENT_BYTES_MAX, DOCUMENT_PAGES_MAX, DOCUMENT_SECONDS_MAX


@dataclass(frozen=True, slots=True)
class DocumentFieldsSpec:
    """Which field of the collection has what of a passage. `text`, `document` and `digest` must be there; of the others those are
    written that the collection has.

    `text`: the passage. `document`: the name of its document. `digest`: what tells whether it has changed. `searched`: its
    context and text. `headings`: those it stands below. `start`, `end`: its place in the document's text, in characters.
    `position`: among the passages of the document, from 0.
    """

    text: str = "text"
    document: str = "document"
    digest: str = "digest"
    searched: str = "searched"
    title: str = "title"
    headings: str = "headings"
    page: str = "page"
    start: str = "start"
    end: str = "end"
    position: str = "position"


@dataclass(frozen=True, slots=True)
class DocumentsSpec:
    """How documents become points of one collection.

    `context` is put before a passage where it is embedded, and where words are searched in the field `searched`; of the places
    `{path}` (title and headings), `{title}`, `{headings}`, `{document}` and `{page}`. `prompt`: the name of the encoder's prompt
    for passages. `tokens_max`: of a passage with context and prompt; null is what the encoder takes. `chars_max`: of its text. A
    passage begins with the last whole sentences of the one before, up to `overlap_chars`. `encoding`: of text that does not say
    its own. `bytes_max`, `pages_max`, `seconds_max`: of one file, and of reading it.
    """

    fields: DocumentFieldsSpec = field(default_factory=DocumentFieldsSpec)
    context: str = "{path}\n"
    prompt: str | None = None
    tokens_max: int | None = None
    chars_max: int = 2_000
    overlap_chars: int = 150
    encoding: str = "utf-8"
    bytes_max: int = DOCUMENT_BYTES_MAX
    pages_max: int = DOCUMENT_PAGES_MAX
    seconds_max: float = DOCUMENT_SECONDS_MAX
