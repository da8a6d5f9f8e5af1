"""Small PDF files, written by hand (ISO 32000-1, 7.5), so that what is read of them is known."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pypdf


def pdf(pages: Sequence[Sequence[str]], title: str | None = None) -> bytes:
    """Each page of lines of ASCII, one below the other."""
    font, first = 3, 4
    objects = {
        1: "<< /Type /Catalog /Pages 2 0 R >>",
        2: f"<< /Type /Pages /Count {len(pages)} /Kids [{' '.join(f'{first + 2 * at} 0 R' for at in range(len(pages)))}] >>",
        font: "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    }
    for at, lines in enumerate(pages):
        shown = " ".join(f"({_escaped(line)}) Tj T*" for line in lines)
        content = f"BT /F1 12 Tf 14 TL 72 720 Td {shown} ET"
        page = first + 2 * at
        objects[page] = (
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {page + 1} 0 R "
            f"/Resources << /Font << /F1 {font} 0 R >> >> >>"
        )
        objects[page + 1] = f"<< /Length {len(content)} >>\nstream\n{content}\nendstream"
    info = max(objects) + 1
    if title is not None:
        objects[info] = f"<< /Title ({_escaped(title)}) >>"
    return _written(objects, "" if title is None else f" /Info {info} 0 R")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")


def _written(objects: dict[int, str], more: str) -> bytes:
    out = io.BytesIO()
    out.write(b"%PDF-1.7\n")
    places = {}
    for number, body in sorted(objects.items()):
        places[number] = out.tell()
        out.write(f"{number} 0 obj\n{body}\nendobj\n".encode("latin-1"))
    table = out.tell()
    out.write(f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode())
    out.writelines(f"{places[number]:010d} 00000 n \n".encode() for number in sorted(objects))
    out.write(f"trailer << /Size {len(objects) + 1} /Root 1 0 R{more} >>\nstartxref\n{table}\n%%EOF\n".encode())
    return out.getvalue()


def protected(content: bytes, password: str) -> bytes:
    """The same, to be opened with `password`."""
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(content))
    writer.encrypt(password, algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()
