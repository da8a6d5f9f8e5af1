"""What a benchmark leaves behind: one JSON file with everything, one HTML page to read; both say how to repeat it."""

import html
import shlex
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.machine import Machine, describe_machine
from benchmarks.table import Table, as_html, as_text

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: .5rem 0 1.5rem } th, td { padding: .2rem .7rem; text-align: right }
th { border-bottom: 2px solid #888 } td { border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left }
pre { background: #f4f4f4; padding: .5rem }
.judgement { font-weight: 600 } svg { max-width: 100%; height: auto }
"""


@dataclass(frozen=True, slots=True)
class Judgement:
    """A promise and whether this run kept it; `kept` is None when the run cannot say."""

    promise: str
    kept: bool | None
    said: str


@dataclass(frozen=True, slots=True)
class Report:
    """All of one benchmark's run. `data` holds the raw results, whatever msgspec can encode; `notes` are told, not judged."""

    name: str
    about: str
    seed: int
    judgements: list[Judgement]
    tables: list[Table]
    figures: list[str]
    data: Any
    notes: list[str] = field(default_factory=list)
    command: str = field(default_factory=lambda: repeat_command(sys.argv))
    machine: Machine = field(default_factory=describe_machine)
    taken_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))


def repeat_command(arguments: list[str]) -> str:
    """The command line that repeats this run."""
    program = Path(arguments[0])
    module = "benchmarks" if program.name == "__main__.py" else f"benchmarks.{program.stem}"
    return shlex.join(["python", "-m", module, *arguments[1:]])


def write_report(report: Report, out: Path) -> tuple[Path, Path]:
    """Write NAME.json and NAME.html into `out`; their paths."""
    out.mkdir(parents=True, exist_ok=True)
    as_json, page = out / f"{report.name}.json", out / f"{report.name}.html"
    fields = {name: getattr(report, name) for name in Report.__slots__ if name != "figures"}
    as_json.write_bytes(msgspec.json.format(msgspec.json.encode(fields), indent=1))
    page.write_text(as_page(report))
    return as_json, page


def as_page(report: Report) -> str:
    """The HTML page, with nothing to fetch from elsewhere."""
    title = f"Vireo benchmark: {report.name}"
    judgements = "".join(f'<p class="judgement">{html.escape(judgement_line(one))}</p>' for one in report.judgements)
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in report.notes)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style></head><body><h1>{html.escape(title)}</h1><p>{html.escape(report.about)}</p>"
        f"{judgements}{notes}{''.join(map(as_html, report.tables))}{''.join(report.figures)}"
        f"<h2>Where and how</h2><pre>{html.escape(provenance(report))}</pre></body></html>\n"
    )


def provenance(report: Report) -> str:
    """Machine, versions, commit, seed and command, a line each."""
    machine = report.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    return (
        f"taken    {report.taken_at}\n"
        f"machine  {machine.cpu}, {machine.cores} cores, {machine.memory_gib} GiB, Linux {machine.kernel}\n"
        f"software Python {machine.python}, {versions}\n"
        f"commit   {machine.commit or 'none'}\n"
        f"seed     {report.seed}\n"
        f"repeat   {report.command}"
    )


def judgement_line(judgement: Judgement) -> str:
    """The promise, what came of it, and the figures."""
    word = {True: "kept", False: "BROKEN", None: "not decided"}[judgement.kept]
    return f"[{word}] {judgement.promise}: {judgement.said}"


def print_report(report: Report, paths: tuple[Path, Path]) -> None:
    """The report for a terminal."""
    print(f"== {report.name}: {report.about}\n")
    for table in report.tables:
        print(as_text(table))
    for judgement in report.judgements:
        print(judgement_line(judgement))
    for note in report.notes:
        print(f"[told] {note}")
    print(f"\n{provenance(report)}\nwritten  {paths[0]}, {paths[1]}")
