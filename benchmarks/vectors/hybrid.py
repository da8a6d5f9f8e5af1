"""Part `hybrid`: WordNet's glosses searched by sentences that show their meaning: by vectors, by words, by both fused.

Recall is of the one synset that a sentence was given for. Recall needs no quiet machine; times are told beside it.
"""

from dataclasses import dataclass

from benchmarks.features.part import Part, Setting, kept, say
from benchmarks.graphs.running import run_driver
from benchmarks.harness import SERVER_CORE
from benchmarks.report import Judgement
from benchmarks.table import Cell, Table
from benchmarks.vectors.inputs import RETRIEVAL

DRIVER = "benchmarks.vectors.drive_hybrid"
DOCUMENTS, QUERIES = 20_000, 1_000
BARS = {"sentence": 0.78, "lemma + sentence": 0.97}
DEFAULT = "RRF, default"
LEGS = ("vectors", "words")
COLUMNS = ["query", "by", "recall@10", "MRR@10", "queries/CPU s", "p50 µs", "p99 µs"]


@dataclass(frozen=True, slots=True)
class Hybrid:
    """One sort of query (of BARS), searched `by` something. `rank`: the mean of 1 / rank, 0 past 10."""

    query: str
    by: str
    recall: float
    rank: float
    cpu_us: float
    p50_us: float
    p99_us: float


def run(setting: Setting) -> Part:
    """Measure and conclude."""
    say("hybrid")
    order = {
        "cache": str((setting.inputs.parent / RETRIEVAL).resolve()),
        "documents": DOCUMENTS,
        "queries": QUERIES,
        "seed": setting.seed,
    }
    found = [Hybrid(**each) for each in run_driver(DRIVER, order, core=SERVER_CORE)]
    return Part(judgements(found), [table_of(found)], data=found)


def judgements(found: list[Hybrid]) -> list[Judgement]:
    """By the fusion that is taken where nothing is said."""
    recall = {(each.query, each.by): each.recall for each in found}
    judged = []
    for query, least in BARS.items():
        fused, better = recall[query, DEFAULT], max(recall[query, each] for each in LEGS)
        judged.append(kept(f"{query}: recall@10 of default fusion at least {least}", fused >= least, f"{fused:.3f}"))
        judged.append(
            kept(f"{query}: default fusion not below its better leg", fused >= better, f"{fused:.3f} and {better:.3f}")
        )
    return judged


def table_of(found: list[Hybrid]) -> Table:
    """All ways."""
    rows: list[list[Cell]] = [
        [each.query, each.by, f"{each.recall:.3f}", f"{each.rank:.3f}", 1e6 / each.cpu_us, each.p50_us, each.p99_us]
        for each in found
    ]
    about = (
        f"{DOCUMENTS:,} glosses, {QUERIES:,} sentences that WordNet gives for one of them each; k 10, one thread. RRF with "
        "k 10 of both legs' best."
    )
    return Table("Hybrid search", about, COLUMNS, rows)
