"""The benchmark on a GPU, in Triton's interpreter, so small that its figures say nothing: `make test-gpu`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import bench_gpu
from benchmarks.command import keeps_promises
from benchmarks.options import Options


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401
    """A GPU that is Triton's interpreter, with few rows; the parts' shared module."""
    pytest.importorskip("tests.kernels.gpu.interpreted", reason="wants torch and triton: make test-gpu")
    from benchmarks.gpu import measure, timing
    from kernels.gpu import knn
    from kernels.gpu.layout import Tuning

    layout = (Tuning(rows=1_024, step=32),)
    scale = measure.Scale(
        3_000, size=32, many=4, large_k=(50,), repeats=1, calls=2, copied_bytes=1 << 16, device="cpu",
        few=layout, more=layout,
    )  # fmt: skip
    monkeypatch.setattr(knn, "found_gpu", lambda: True)
    monkeypatch.setattr(measure, "SCALES", {True: scale})
    monkeypatch.setattr(timing, "WARM_UPS", 0)
    measure.measured.cache_clear()
    yield measure
    measure.measured.cache_clear()


@pytest.mark.usefixtures("small")
def test_every_promise_is_judged_beside_its_floor_and_what_is_exact_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keeps_promises(bench_gpu.run, Options(out=tmp_path, quick=True))
    found = json.loads((tmp_path / "gpu.json").read_bytes())
    promises = [each["promise"] for each in found["judgements"]]
    assert len(promises) == 2 * 2 + 2 + 2 * 3 + 2 + 1
    assert not [each["said"] for each in found["judgements"] if "broke down" in each["said"]]
    times = [each for part in ("exact", "rival", "filtered", "quantised", "streamed") for each in found["data"][part]]
    assert len(times) == 3 + 2 + 6 + 2 + 2
    assert all(each["ms"] > 0 < each["floor, ms"] for each in times)
    recalls = [each["recall"] for each in times if each["recall"] is not None]
    assert len(recalls) == 12
    assert min(recalls) == 1
    assert found["data"]["callers"]["apart_per_s"] > 0
    assert "gpu: float16, 4, 1% pass: " in capsys.readouterr().err


def test_a_part_that_breaks_down_leaves_the_others_their_figures(
    small: Any,  # noqa: ANN401
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from benchmarks.gpu import rival

    def full(*_: object) -> None:
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(rival, "_nearest", full)
    monkeypatch.setitem(small.SCALES, True, replace(small.SCALES[True], large_k=()))
    assert not keeps_promises(bench_gpu.run, Options(out=tmp_path, quick=True, only=("rival", "exact")))
    found = json.loads((tmp_path / "gpu.json").read_bytes())
    assert [each["what, queries"] for each in found["data"]["exact"]] == ["float16, 1", "float16, 4"]
    broken = [each["said"] for each in found["judgements"] if each["promise"] == "rival: runs to its end"]
    assert broken == ["it broke down: CUDA error: out of memory"]
