"""The parts from end to end, as short as they can be; nothing that is timed is asserted."""

import os
from pathlib import Path

import pytest

from benchmarks.bench_graphs import PARTS
from benchmarks.options import Options
from benchmarks.report import Report, write_report
from tests.benchmarks.graphs.small import small_inputs

TWO_CORES = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="server and load generator are pinned to a core each")


def failures(report: Report) -> list[str]:
    """What was judged without a clock."""
    untimed = ("runs to its end", "no request fails")
    return [each.said for each in report.judgements if each.promise.endswith(untimed) and each.kept is False]


@TWO_CORES
@pytest.mark.parametrize("part", PARTS.names)
def test_a_part_measures_and_reports(part: str, tmp_path: Path) -> None:
    small_inputs(tmp_path / "fraud")
    report = PARTS.run(Options(out=tmp_path / "out", inputs=tmp_path / "fraud", quick=True, only=(part,)))
    assert not failures(report)
    assert all(table.rows for table in report.tables)
    as_json, page = write_report(report, tmp_path / "out")
    assert as_json.stat().st_size > 0
    assert report.tables[0].title in page.read_text()
