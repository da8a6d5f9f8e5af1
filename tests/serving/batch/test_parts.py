"""The parts of a batch run's output, after kills in the moments between what is written and what is counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.feather as feather
import pytest

from engine import FailedPrecondition
from serving.batch.parts import Output

SCHEMA = pa.schema([("y", pa.int64())])
REJECTED = pa.schema([("_row", pa.int64())])


@contextmanager
def opened(folder: Path, *, restart: bool = False) -> Iterator[Output]:
    with closing(Output(folder, folder.with_name("bad.arrow"))) as output:
        output.begin({"model": "m"}, restart=restart)
        yield output


def add(output: Output, rows: list[int], rejected: list[int]) -> None:
    output.add(pa.table({"y": rows}, SCHEMA), pa.table({"_row": rejected}, REJECTED))


def test_a_part_that_a_kill_left_uncounted_is_not_read_beside_those_written_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with opened(out) as output:
        add(output, [1], [])
        counted = (out / "_progress" / "progress.json").read_bytes()
        add(output, [2, 3], [0])
        (out / "part-00000002.parquet.draft").touch()
    (out / "_progress" / "progress.json").write_bytes(counted)  # killed before the second part was
    with opened(out) as output:
        assert output.manifest.rows_read == 1
        add(output, [], [0])  # stopped sooner, this time
    with opened(out) as output:
        add(output, [2, 3], [])
        output.finish(SCHEMA, REJECTED)
    assert ds.dataset(out).to_table()["y"].to_pylist() == [1, 2, 3]
    assert feather.read_table(tmp_path / "bad.arrow")["_row"].to_pylist() == [0]


def test_parts_that_nothing_counts_are_not_taken_over(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with opened(out) as output:
        add(output, [1], [])
        add(output, [2], [])
    (out / "_progress" / "progress.json").unlink()  # killed as it began anew
    with (
        pytest.raises(
            FailedPrecondition, match=r"is not empty: it has 'part-00000000\.parquet'; --restart begins anew"
        ),
        opened(out),
    ):
        pass
    with opened(out, restart=True) as output:
        add(output, [3], [])
        output.finish(SCHEMA, REJECTED)
    assert ds.dataset(out).to_table()["y"].to_pylist() == [3]
