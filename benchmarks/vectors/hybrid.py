"""Part `hybrid`: WordNet's synsets searched by sentences that show their meaning: by vectors, by words, by both fused; beside
tantivy's BM25, exact scores, and the fusion of both.

What is searched is the words of a synset and its definition. A query is an example of a synset that has one of its words as a
whole word, alone or after the synset's first word; recall is of that one synset. Of the label sets that were tried this comes
nearest to what exact vectors and tantivy alone found when the bars were set. Words are not stemmed. Recall needs no quiet
machine; times are told beside it.
"""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.features.part import Part, Setting, kept, say
from benchmarks.graphs.running import run_driver
from benchmarks.harness import SERVER_CORE
from benchmarks.peers.environments import TANTIVY, NotInstalledError, PeerError
from benchmarks.report import Judgement
from benchmarks.table import Cell, Table
from benchmarks.vectors.drive_hybrid import documents, sorts
from benchmarks.vectors.inputs import RETRIEVAL, K
from benchmarks.workloads.retrieval.vectors import glosses

DRIVER = "benchmarks.vectors.drive_hybrid"
DOCUMENTS, QUERIES = 20_000, 1_000
BARS = {"sentence": 0.78, "lemma + sentence": 0.97}
DEFAULT = "RRF, default"
LEGS = ("vectors", "words")
DEPTH, RANK_K = 100, 20
"""Hits of each leg that are fused, and RRF's k: both sides' alike."""
COLUMNS = ["who", "query", "by", "recall@10", "MRR@10", "queries/CPU s", "p50 µs", "p99 µs"]


@dataclass(frozen=True, slots=True)
class Hybrid:
    """One sort of query (of BARS), searched `by` something. `rank`: the mean of 1 / rank, 0 past 10."""

    who: str
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
    found = [Hybrid("Vireo", **each) for each in run_driver(DRIVER, order, core=SERVER_CORE)]
    judged, notes = judgements(found), []
    say("hybrid: tantivy and exact vectors")
    try:
        found += rival(setting)
    except (NotInstalledError, PeerError) as error:
        notes = [f"tantivy was not run: {error}"]
    return Part(judged, [table_of(found)], notes=notes, data=found)


def rival(setting: Setting) -> list[Hybrid]:
    """The same texts, vectors and queries. Raises NotInstalledError, PeerError."""
    TANTIVY.check_installed()
    data = glosses(setting.inputs.parent / RETRIEVAL)
    labels = list(range(min(QUERIES, len(data.labels))))
    rows = documents(data, DOCUMENTS, labels, setting.seed)
    answers = np.searchsorted(rows, [data.labels[at].row for at in labels])
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder)
        np.save(files / "vectors.npy", data.vectors[rows])
        (files / "texts.json").write_text(json.dumps([data.synsets[row].text for row in rows.tolist()]))
        (files / "answers.json").write_text(json.dumps(answers.tolist()))
        asked = []
        for at, (query, vectors, texts) in enumerate(sorts(data, labels)):
            np.save(files / f"{at}.npy", vectors)
            (files / f"{at}.json").write_text(json.dumps(texts))
            asked.append({"query": query, "vectors": str(files / f"{at}.npy"), "texts": str(files / f"{at}.json")})
        names = {"texts": "texts.json", "vectors": "vectors.npy", "answers": "answers.json"}
        order = {**{name: str(files / file) for name, file in names.items()}, "sorts": asked}
        more = {"k": K, "depth": DEPTH, "rank_k": RANK_K}
        told = TANTIVY.run("tantivy_hybrid.py", {**order, **more}, core=SERVER_CORE)
    return [Hybrid("tantivy, exact", **each) for each in told]


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
        [
            each.who, each.query, each.by, f"{each.recall:.3f}", f"{each.rank:.3f}", 1e6 / each.cpu_us, each.p50_us,
            each.p99_us,
        ]
        for each in found
    ]  # fmt: skip
    about = (
        f"{DOCUMENTS:,} synsets, {QUERIES:,} examples that have a word of one of them each; k 10, one thread. RRF with "
        f"k {RANK_K} of both legs' best {DEPTH}."
    )
    return Table("Hybrid search", about, COLUMNS, rows)
