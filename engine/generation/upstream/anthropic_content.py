"""The content of messages, in OpenAI's form, as blocks of Anthropic's Messages API. Pure."""

from __future__ import annotations

import re
from typing import Any, Final

from engine.errors import InvalidArgument
from engine.generation.upstream.checked_json import a_list, a_mapping, a_text, refused

Json = dict[str, Any]

_DATA_URL: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,")
_IMAGES: Final = ("image/jpeg", "image/png", "image/gif", "image/webp")


def text_blocks(content: object, where: str) -> list[Json]:
    """Text, or parts that are all text. Empty text is left out: the API refuses it."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    blocks = []
    for index, each in enumerate(a_list(content, where)):
        part = a_mapping(each, f"{where}[{index}]")
        name = "refusal" if part.get("type") == "refusal" else "text"
        if part.get("type") != name:
            raise refused(f"{where}[{index}].type", "'text'", part.get("type"))
        blocks += _text(part.get(name), f"{where}[{index}].{name}")
    return blocks


def blocks_of(content: object, where: str) -> list[Json]:
    """What a user says: text, images, PDF files."""
    if isinstance(content, str):
        return text_blocks(content, where)
    return [
        block
        for index, each in enumerate(a_list(content, where))
        for block in _part(a_mapping(each, f"{where}[{index}]"), f"{where}[{index}]")
    ]


def _text(value: object, where: str) -> list[Json]:
    text = a_text(value, where)
    return [{"type": "text", "text": text}] if text else []


def _part(part: Json, where: str) -> list[Json]:
    kind = part.get("type")
    if kind == "text":
        return _text(part.get("text"), f"{where}.text")
    if kind == "image_url":
        return [_image(part, where)]
    if kind == "file":
        return [_file(a_mapping(part.get("file"), f"{where}.file"), f"{where}.file")]
    raise refused(f"{where}.type", "one of text, image_url, file, which Anthropic's API knows", kind)


def _image(part: Json, where: str) -> Json:
    given = a_mapping(part.get("image_url"), f"{where}.image_url")
    url = a_text(given.get("url"), f"{where}.image_url.url")
    if url.startswith(("https://", "http://")):
        return {"type": "image", "source": {"type": "url", "url": url}}
    media_type, data = _data(url, f"{where}.image_url.url")
    if media_type not in _IMAGES:
        raise refused(f"{where}.image_url.url", f"an image of type {', '.join(_IMAGES)}", media_type)
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}


def _file(file: Json, where: str) -> Json:
    if file.get("file_data") is None:
        raise InvalidArgument(f"{where}: expected 'file_data'; files of another provider's store cannot be named")
    media_type, data = _data(a_text(file["file_data"], f"{where}.file_data"), f"{where}.file_data")
    if media_type != "application/pdf":
        raise refused(f"{where}.file_data", "a file of type application/pdf", media_type)
    document: Json = {"type": "document", "source": {"type": "base64", "media_type": media_type, "data": data}}
    if file.get("filename") is not None:
        document["title"] = a_text(file["filename"], f"{where}.filename")
    return document


def _data(url: str, where: str) -> tuple[str, str]:
    """Media type and base64 text of a data URL (RFC 2397)."""
    found = _DATA_URL.match(url)
    if found is None:
        raise refused(where, "an https: URL, or a data: URL in base64", url)
    return found[1], url[found.end() :]
