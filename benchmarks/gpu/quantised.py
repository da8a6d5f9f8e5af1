"""Part `quantised`: candidates by int8, scored again from float16."""

from functools import partial

from benchmarks.features.part import Part, Setting, kept
from benchmarks.gpu.measure import K, Times, found_by, measured
from kernels.gpu.replay import Replayed

CANDIDATES = 32
RATE, RECALL = 1.7, 0.99


def run(setting: Setting) -> Part:
    """The part."""
    here = measured(setting.quick, setting.seed)
    codes, times, judged = here.corpus.codes, Times(here), []
    searches = Replayed(codes, refine=here.corpus.halves)
    for many in (1, here.scale.many):
        work = partial(searches.search, here.queries(many), K, wanted=CANDIDATES)
        found, whole = found_by(work, here.truth(many)), here.exact_ms(many)
        took = times.timed(f"int8 and refine, {many}", work, here.read_ms(codes), found)
        said = f"{whole / took:.2f} times at {found:.4f}"
        promise = f"int8, {many}: {RATE} times float16's rate at a recall of {RECALL}"
        judged.append(kept(promise, whole >= RATE * took and found >= RECALL, said))
    table = times.table("quantised", "The floor: all codes and their scales read once.")
    return Part(judged, [table], notes=here.told(), data=times.data())
