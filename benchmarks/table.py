"""A table of figures, for the terminal and for HTML. Pure."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

Cell = str | float | int | None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under columns, with a title and a sentence on what is shown. A None cell is a figure that is not known."""

    title: str
    about: str
    columns: list[str]
    rows: list[list[Cell]]


def cell_text(cell: Cell) -> str:
    """A figure with three or four digits; "-" for None."""
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.1f}" if abs(cell) >= 10 else f"{cell:.3f}"
    return f"{cell:,}" if isinstance(cell, int) else cell


def number_cell(value: float) -> float | None:
    """A figure; unknown where it is NaN."""
    return None if math.isnan(value) else value


def percent_cell(share: float) -> str | None:
    """A share as a percentage; unknown where it is NaN."""
    return None if math.isnan(share) else f"{share:.0%}"


def as_text(table: Table) -> str:
    """The table for a terminal: first column left, the others right."""
    lines = [table.columns, *([cell_text(cell) for cell in row] for row in table.rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(table.columns))]
    body = "\n".join(_line(line, widths) for line in lines)
    return f"{table.title}\n{table.about}\n{body}\n"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return "  ".join([first, *(cell.strip().rjust(len(cell)) for cell in others)]).rstrip()


def as_html(table: Table) -> str:
    """The table as HTML."""
    head = "".join(f"<th>{html.escape(column)}</th>" for column in table.columns)
    rows = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(cell_text(cell))}</td>" for cell in row) + "</tr>" for row in table.rows
    )
    return (
        f"<h2>{html.escape(table.title)}</h2>\n<p>{html.escape(table.about)}</p>\n"
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table>"
    )
