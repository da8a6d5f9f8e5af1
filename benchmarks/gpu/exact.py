"""Part `exact`: one query and many over float16 rows; more neighbours than ten."""

from functools import partial

from benchmarks.features.part import Part, Setting, kept
from benchmarks.gpu.measure import Times, found_by, measured

READS_ONE, READS_MANY = 1.3, 1.6


def run(setting: Setting) -> Part:
    """The part."""
    here = measured(setting.quick, setting.seed)
    times, judged, floor = Times(here), [], here.read_ms(here.corpus.halves)
    for many, bar in ((1, READS_ONE), (here.scale.many, READS_MANY)):
        found, took = found_by(here.exact(many), here.truth(many)), here.exact_ms(many)
        times.add(f"float16, {many}", took, floor, found)
        judged += [
            kept(f"{many} queries take at most {bar} times a read", took <= bar * floor, f"{took / floor:.2f}"),
            kept(f"{many} queries: recall 1.0 against float64", found == 1, f"{found:.4f}"),
        ]
    for k in here.scale.large_k:
        work = partial(here.searches(here.scale.many).search, here.queries(here.scale.many), k)
        times.timed(f"float16, {here.scale.many}, k={k}", work, floor)
    table = times.table("exact", "The floor: all rows read once at the copy's bandwidth.")
    return Part(judged, [table], notes=here.told(), data=times.data())
