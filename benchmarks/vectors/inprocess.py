"""Part `inprocess`: one thread, one query a call, glosses of WordNet of which a fifth was upserted again or deleted; beside bare
FAISS in the same process, and hnswlib, usearch and zvec in their own."""

import tempfile
from typing import Any

import msgspec
import numpy as np

from benchmarks.features.part import DRIVER_S_MAX, Part, Setting, kept, say, undecided
from benchmarks.graphs.running import run_driver
from benchmarks.harness import SERVER_CORE
from benchmarks.report import Judgement
from benchmarks.table import Cell, Table
from benchmarks.vectors.curve import Curve, ratio_at
from benchmarks.vectors.inputs import K, gloss_vectors, prepared
from benchmarks.vectors.rivals import curves_of, those_there

DRIVER = "benchmarks.vectors.drive_inprocess"
SHARE = 0.2
CANDIDATES = (20, 24, 28, 32, 36, 40, 48, 56, 64, 80, 96, 128, 160, 240)
EFFORTS = (16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 400)
FAISS = ("FAISS PQfs, refine f32", "FAISS PQfs, refine SQ8")
LIBRARIES = ("hnswlib", "usearch", "zvec")
RECALLS = (0.95, 0.99)
"""Where bare FAISS was first measured, its 0.8 were 7,000 and 5,500 queries/s."""
FAISS_RATIO = 0.8
COLUMNS = ["who", "setting", "recall@10", "queries/CPU s", "wall µs", "p50 µs", "p99 µs", "x FAISS"]


def run(setting: Setting) -> Part:
    """Measure and conclude."""
    inputs = prepared(setting, "glosses", gloss_vectors, share=SHARE)
    say("inprocess: Vireo and FAISS by turns")
    told = driven(
        setting, {**inputs.order(), "share": SHARE, "rivals": FAISS, "candidates": CANDIDATES, "efforts": [1]}
    )
    curves = curves_from(told)
    truth = np.load(inputs.truth)
    runs = [{"setting": each, "filter": None} for each in EFFORTS]
    others, missing = those_there(
        LIBRARIES,
        lambda who: curves_of(
            who, {"vectors": inputs.final, "queries": inputs.queries}, runs, [truth] * len(runs), k=K,
            rounds=rounds_of(setting), core=SERVER_CORE,
        ),
    )  # fmt: skip
    notes = [f"Vireo's parts: {told['parts']}", "No rival had anything deleted: each was built of the points left."]
    judged = [*faiss_judgements(setting, "glosses", curves), *library_judgements(setting, curves[0], others)]
    about = (
        f"{len(truth):,} queries, k 10, cosine, {SHARE:.0%} of the points touched before. Queries a second of CPU on one core: "
        "medians of rounds; setting: candidates scored exactly, or ef. x FAISS: the best FAISS of at least this recall."
    )
    table = table_of("In process, one thread", about, [*curves, *others], best_faiss(curves))
    return Part(judged, [table], notes=[*notes, *missing], data=[*curves, *others])


def driven(setting: Setting, order: dict[str, Any]) -> Any:  # noqa: ANN401 - the driver's JSON
    """What the driver finds on one core."""
    setting.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=setting.out) as folder:
        more = {"k": K, "rounds": rounds_of(setting), "seed": setting.seed, "folder": f"{folder}/collection"}
        return run_driver(DRIVER, {**order, **more}, core=SERVER_CORE, timeout_s=DRIVER_S_MAX)


def rounds_of(setting: Setting) -> int:
    """Of each setting."""
    return 3 if setting.quick else 5


def curves_from(told: Any) -> list[Curve]:  # noqa: ANN401
    """Ours first."""
    return msgspec.convert(told["curves"], list[Curve])


def best_faiss(curves: list[Curve]) -> list[Curve]:
    """All of FAISS."""
    return [each for each in curves if each.who.startswith("FAISS")]


def best_ours(curves: list[Curve], recall: float) -> Curve:
    """Of ours, which differ in effort, the quickest at a recall; the first where none reaches it."""
    ours = [each for each in curves if each not in best_faiss(curves)]
    return max(ours, key=lambda each: best.qps if (best := each.best(recall)) else 0.0)


def faiss_judgements(setting: Setting, what: str, curves: list[Curve]) -> list[Judgement]:
    """Against the quickest of FAISS at each recall."""
    judged = []
    for recall in RECALLS:
        promise = f"{what}, recall@10 of {recall}: at least {FAISS_RATIO:g} x bare FAISS"
        mine = best_ours(curves, recall)
        ours = mine.best(recall)
        ratios = [ratio_at(mine, each, recall) for each in best_faiss(curves)]
        known = [each for each in ratios if each is not None]
        if ours is None or not known:
            judged.append(kept(promise, False, "not reached at any setting"))
            continue
        said = f"{min(known):.2f} x, {ours.qps:,.0f} queries/CPU s at {ours.recall:.4f}"
        judged.append(undecided(promise, f"{said}, but a quick run has few points") if setting.quick
                      else kept(promise, min(known) >= FAISS_RATIO, said))  # fmt: skip
    return judged


def library_judgements(setting: Setting, ours: Curve, others: list[Curve]) -> list[Judgement]:
    """Ahead of each at each recall."""
    judged = []
    for recall in RECALLS:
        for each in others:
            promise = f"recall@10 of {recall}: ahead of {each.who}"
            mine, theirs = ours.best(recall), each.best(recall)
            if mine is None:
                judged.append(kept(promise, False, "not reached at any setting"))
            elif theirs is None:
                judged.append(kept(promise, True, f"{each.who} does not reach it"))
            else:
                said = f"{mine.qps:,.0f} and {theirs.qps:,.0f} queries/CPU s, {mine.qps / theirs.qps:.2f} x"
                judged.append(undecided(promise, f"{said}, but a quick run has few points") if setting.quick
                              else kept(promise, mine.qps > theirs.qps, said))  # fmt: skip
    return judged


def table_of(title: str, about: str, curves: list[Curve], beside: list[Curve]) -> Table:
    """Every setting of all."""
    rows: list[list[Cell]] = []
    for curve in curves:
        for point in curve.points:
            best = [each.qps for other in beside if (each := other.best(point.recall))]
            rows.append([
                curve.who, point.setting, f"{point.recall:.4f}", point.qps, point.middle("wall_us"), point.middle("p50_us"),
                point.middle("p99_us"), point.qps / max(best) if best else None,
            ])  # fmt: skip
    return Table(title, about, COLUMNS, rows)
