"""The graph over exported models serves the offline lists, at each query's moment; where the two differ it is seen."""

from pathlib import Path

from benchmarks.workloads.recommendation.catalogue import Dataset
from benchmarks.workloads.recommendation.judged import Case, cases_of
from benchmarks.workloads.recommendation.served import agreement
from benchmarks.workloads.recommendation.split import cold_queries, queries, split_by_time
from tests.benchmarks.workloads.recommendation.built import small
from tests.benchmarks.workloads.recommendation.drawn import leave


def left_in(out: Path, *, other_vectors: bool = False) -> tuple[Dataset, list[Case]]:
    """Models and a catalogue, and ten queries of the test period, some of them first visits. `other_vectors`: the catalogue's are
    not those that the item tower gives."""
    dataset = small()
    split = split_by_time(dataset.interactions)
    leave(out, dataset, other_vectors=other_vectors)
    asked = [
        *queries(split.before_test, split.test)[:8],
        *cold_queries(split.train.take(slice(0, 20)), split.train)[:2],
    ]
    return dataset, cases_of(dataset, asked)


def test_what_is_served_is_what_the_offline_pipeline_lists(tmp_path: Path) -> None:
    dataset, cases = left_in(tmp_path)
    found = agreement(tmp_path, dataset, cases)
    assert (found.lists, found.other) == (len(cases), 0)
    assert len(cases) > 8
    assert found.score_difference <= 1e-6
    assert found.served_ndcg == found.offline_ndcg > 0


def test_a_catalogue_of_other_vectors_is_told(tmp_path: Path) -> None:
    assert agreement(tmp_path, *left_in(tmp_path, other_vectors=True)).other > 0
