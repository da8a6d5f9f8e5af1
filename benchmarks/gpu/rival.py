"""Part `rival`: the same by torch's matmul and topk, which keep a matrix of all scores."""

from functools import partial
from typing import Any

from benchmarks.features.part import Part, Setting, kept
from benchmarks.gpu.measure import K, Times, measured

QUICKER = 2


def run(setting: Setting) -> Part:
    """The part."""
    here = measured(setting.quick, setting.seed)
    times, judged, halves = Times(here), [], here.corpus.halves
    for many in (1, here.scale.many):
        work = partial(_nearest, halves.data, here.queries(many).half())
        rival, took = times.timed(f"torch, {many}", work, here.read_ms(halves)), here.exact_ms(many)
        promise = f"{many} queries: {QUICKER} times as quick as torch"
        judged.append(kept(promise, rival >= QUICKER * took, f"{rival / took:.1f} times"))
    table = times.table("torch", "The floor: all rows read once at the copy's bandwidth.")
    return Part(judged, [table], notes=here.told(), data=times.data())


def _nearest(data: Any, queries: Any) -> Any:  # noqa: ANN401
    return (queries @ data.T).topk(K, dim=1)
