"""Rivals that hold the same points, in processes of their own: their curves from what their script tells."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.features.part import say
from benchmarks.peers.environments import HNSWLIB, QDRANT, USEARCH, ZVEC, NotInstalledError, PeerEnvironment, PeerError
from benchmarks.vectors.curve import Curve, point_of

Rows = npt.NDArray[np.int64]
RIVALS: dict[str, PeerEnvironment] = {"hnswlib": HNSWLIB, "usearch": USEARCH, "zvec": ZVEC, "qdrant": QDRANT}
SCRIPT = "vector_indexes.py"
RIVAL_S_MAX = 1_800.0


def curves_of(
    who: str,
    files: Mapping[str, Path],
    runs: Sequence[dict[str, Any]],
    truths: Sequence[Rows],
    *,
    k: int,
    rounds: int,
    core: int,
    columns: Mapping[str, Path] | None = None,
) -> Curve:
    """One point a run, in their order; `truths` are alike. `files`: "vectors" and "queries".

    Raises NotInstalledError, PeerError.
    """
    say(f"{who}: {len(runs)} settings")
    with tempfile.TemporaryDirectory() as folder:
        order: dict[str, Any] = {
            "who": who,
            **{name: str(path) for name, path in files.items()},
            "columns": {name: str(path) for name, path in (columns or {}).items()},
            "k": k,
            "runs": list(runs),
            "rounds": rounds,
            "folder": folder,
            "found": f"{folder}/found.npy",
        }
        told = RIVALS[who].run(SCRIPT, order, core=core, timeout_s=RIVAL_S_MAX)
        found = np.load(order["found"])
    points = [
        point_of(run["setting"], rows, truth, times)
        for run, rows, truth, times in zip(runs, found, truths, told.pop("runs"), strict=True)
    ]
    return Curve(who, points, told)


def those_there(
    names: Sequence[str], measure: Any,  # noqa: ANN401 - a function of a name
) -> tuple[list[Curve], list[str]]:  # fmt: skip
    """What `measure` gives for each, and a note for each that could not be run."""
    found, notes = [], []
    for who in names:
        try:
            found.append(measure(who))
        except (NotInstalledError, PeerError) as error:
            notes.append(f"{who} was not run: {error}")
    return found, notes
