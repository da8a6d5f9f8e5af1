"""Build the reranker of the retrieval workload: `python -m benchmarks.workloads.retrieval --out DIR`. Needs the extra `train`.

DIR gets cross_encoder.onnx and its tokenizer.json, learnt from WordNet's example sentences (8,000 of them take some 12 minutes of
one core), and what NDCG@10 is by vectors, by words, by both, and by both with reranking, on sentences that were held out.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx

from benchmarks.machine import ROOT
from benchmarks.packages import laid_out
from benchmarks.workloads.retrieval.embedding import PACKAGES, TOKENIZER, Encoder, Floats, PairTokens
from benchmarks.workloads.retrieval.export import cross_encoder
from benchmarks.workloads.retrieval.quality import Score, judged
from benchmarks.workloads.retrieval.training.cross_encoder import body_weights, learn, outputs
from benchmarks.workloads.retrieval.training.lessons import lessons, teaching
from benchmarks.workloads.retrieval.vectors import SEED, glosses

CACHE = ROOT / ".cache" / "retrieval"
PARITY_BOUND = 1e-4
"""Between torch and ONNX, of logits that reach some 20."""


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.workloads.retrieval",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=CACHE / "reranker", metavar="DIR", help="where everything goes")
    parser.add_argument("--cache", type=Path, default=CACHE, metavar="DIR", help="where data is kept")
    parser.add_argument("--lessons", type=int, default=8_000, metavar="N", help="sentences to learn from")
    parser.add_argument("--points", type=int, default=20_000, metavar="N", help="synsets to search, in the end")
    parser.add_argument("--queries", type=int, default=1_000, metavar="N", help="sentences to ask, in the end")
    parser.add_argument("--seed", type=int, default=SEED)
    given = parser.parse_args(arguments)
    say = partial(print, flush=True)
    data, tokens = glosses(given.cache), PairTokens(given.cache)
    labels = teaching(data.synsets, data.labels, given.lessons, seed=given.seed)
    asked = Encoder(given.cache).encode([each.sentence for each in labels])
    taught = lessons(data.synsets, data.vectors, labels, asked, seed=given.seed)
    model = learn(body_weights(given.cache), taught, tokens, seed=given.seed, say=say)
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / "cross_encoder.onnx"
    onnx.save(cross_encoder(model.arrays()), str(path))
    shutil.copy(laid_out(PACKAGES, given.cache / "packages") / TOKENIZER, given.out / "tokenizer.json")
    score = served(path, tokens)
    pairs = [(each.query, each.passages[0]) for each in taught[:32]]
    apart = float(np.abs(outputs(model, tokens(pairs)) - score(pairs)).max())
    if apart > PARITY_BOUND:
        raise SystemExit(f"{path}: logits are {apart:.2g} from torch's, at most {PARITY_BOUND:g} may be between them")
    say(f"ONNX is within {apart:.1g} of torch")
    for each in judged(data, score, points=given.points, queries=given.queries, seed=given.seed):
        say(f"{each.query:18} {each.by:18} NDCG@10 {each.ndcg:.3f}")
    return 0


def served(path: Path, tokens: PairTokens) -> Score:
    """The logits that ONNX Runtime gives, one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def score(pairs: Sequence[tuple[str, str]]) -> Floats:
        ids, segments, mask = tokens(pairs)
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": segments}
        logits: Floats = session.run(None, feeds)[0]
        return logits

    return score


if __name__ == "__main__":
    sys.exit(main())
