"""Part `million`: 1,000,000 clustered vectors of 128 dimensions, beside bare FAISS of the same kind."""

from benchmarks.features.part import Part, Setting, say
from benchmarks.vectors.inprocess import best_faiss, curves_from, driven, faiss_judgements, table_of
from benchmarks.vectors.inputs import clustered_vectors, prepared

CANDIDATES = (20, 30, 40, 60, 80, 120, 160, 240)
EFFORTS = (1, 0.125, 0.25, 0.5, 2)
PROBED = (1, 2, 4, 8, 16, 32)
RIVAL = "FAISS IVF,PQfs,RFlat"
LISTS = 2_048


def run(setting: Setting) -> Part:
    """Measure and conclude."""
    inputs = prepared(setting, "clustered-165", clustered_vectors, share=0.0)
    say("million: Vireo and FAISS by turns")
    order = {"share": 0.0, "rivals": [RIVAL], "candidates": CANDIDATES, "probed": PROBED, "efforts": EFFORTS,
             "lists": LISTS // 4 if setting.quick else LISTS}  # fmt: skip
    told = driven(setting, {**inputs.order(), **order})
    curves = curves_from(told)
    about = "k 10, cosine; queries a second of CPU on one core, medians of rounds; setting: candidates scored exactly."
    table = table_of("A million points in process, one thread", about, curves, best_faiss(curves))
    judged = faiss_judgements(setting, "a million", curves)
    return Part(judged, [table], notes=[f"Vireo's parts: {told['parts']}"], data=curves)
