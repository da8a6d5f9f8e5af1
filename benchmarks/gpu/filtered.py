"""Part `filtered`: bitsets that 1, 10 and 50% of the rows are in, at random."""

from benchmarks.features.part import Part, Setting, kept
from benchmarks.gpu.data import bits_keeping
from benchmarks.gpu.measure import Times, found_by, measured

SHARES = (0.01, 0.1, 0.5)
QUICKER = {0.01: 3}
"""Than without a filter; of other shares no slower."""


def run(setting: Setting) -> Part:
    """The part."""
    here = measured(setting.quick, setting.seed)
    times, judged, floor = Times(here), [], here.read_ms(here.corpus.halves)
    for many in (1, here.scale.many):
        whole = here.exact_ms(many)
        for share in SHARES:
            bits = bits_keeping(share, here.scale.rows, here.scale.device)
            found = found_by(here.exact(many, bits), here.truth(many, bits))
            name = f"float16, {many}, {share:.0%} pass"
            took = times.timed(name, here.exact(many, bits), floor * share, found)
            times_quicker = QUICKER.get(share, 1)
            bar = f"{name}: {times_quicker} times as quick as without, and exact"
            said = f"{whole / took:.2f} times, recall {found:.4f}"
            judged.append(kept(bar, took * times_quicker <= whole and found == 1, said))
    table = times.table("filtered", "The floor: the rows that pass read once, of the bitset nothing.")
    return Part(judged, [table], notes=here.told(), data=times.data())
