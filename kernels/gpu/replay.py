"""Searches of the same rows again and again: what the host would launch, some sixty small kernels, is recorded once and replayed.

A launch costs the host 5 to 30 µs, so that a search of 100,000 rows, of which the GPU needs 0.1 ms, would take 0.3 to 2. A
recording (a CUDA graph) is of a number of queries, 16 to 256, of how many are wanted and of whether rows are filtered. It has
memory of its own for what goes in and comes out; all of one `Replayed` share the rest, as one runs at a time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kernels.gpu.finish import ranked
from kernels.gpu.knn import Search, bits_on, gathered, listed, nearest
from kernels.gpu.layout import Tuning, padded_of
from kernels.gpu.rounds import K_MAX, QUERIES_MAX, gathers, scanned_for
from kernels.gpu.rows import DeviceRows, Tensor, checked

RECORDINGS_MAX = 32
_LEAST_WANTED = 16


@dataclass(frozen=True, slots=True)
class _What:
    """What a recording is of: queries asked at once, `wanted` of each, exactly or as scanned; rows all, listed, or in a bitset;
    whether queries come from the host's memory and answers go there."""

    queries: int
    wanted: int
    mode: str
    exact: bool
    host: bool


@dataclass(slots=True, eq=False)
class _Recording:
    """One recording, and what it reads and writes: queries float32, how many of them are asked for, scores, rows, and two flags:
    whether something was lost, and whether a query has a number that is not finite.
    `there`: the same on the device, which a recording does not own and writes to."""

    queries: Tensor
    live: Tensor
    scores: Tensor
    rows: Tensor
    flags: Tensor
    run: Callable[[], Any]
    there: list[Tensor]
    asked: int = 0


class Replayed:
    """Searches of `rows` on their device, one thread at a time. What is told is good until the next search."""

    def __init__(self, rows: DeviceRows, *, refine: DeviceRows | None = None, tuning: Tuning | None = None) -> None:
        """`refine`: what candidates are scored again from where that is asked for."""
        self._rows, self._tuning = rows, tuning
        self._refine = refine or (None if rows.kind == "rabitq" else rows)
        self._recordings: OrderedDict[_What, _Recording] = OrderedDict()
        self._cuda = rows.data.is_cuda
        self._pool: Any = torch.cuda.graph_pool_handle() if self._cuda else None
        self._bits: Tensor | None = None
        self._chosen: Tensor | None = None
        self._count: Tensor | None = None

    def search(
        self,
        queries: Tensor,
        k: int,
        *,
        bits: np.ndarray | Tensor | None = None,
        wanted: int | None = None,
        exact: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """As `kernels.gpu.knn.nearest`. Of queries in the host's memory the answer is there too."""
        wanted = scanned_for(k, wanted, exact)
        exact = exact and self._refine is not None
        mode = "all" if bits is None else self._filtered(bits)
        if len(queries) <= QUERIES_MAX:
            return self._some(queries, 0, k, wanted, mode, exact)
        found = []
        for begin in range(0, len(queries), QUERIES_MAX):
            scores, rows = self._some(queries[begin : begin + QUERIES_MAX], begin, k, wanted, mode, exact)
            found.append((scores.clone(), rows.clone()))
        return torch.cat([each[0] for each in found]), torch.cat([each[1] for each in found])

    def _some(self, queries: Tensor, first: int, k: int, wanted: int, mode: str, exact: bool) -> tuple[Tensor, Tensor]:
        """Of as many as are searched at once."""
        many, host = len(queries), not queries.is_cuda
        recording = self._recording(many, wanted, mode, exact, host)
        recording.queries[:many].copy_(queries)
        if many < recording.asked:  # what is not asked for must be finite too
            recording.queries[many:].zero_()
        if recording.asked != many:
            recording.live.fill_(many)
            recording.asked = many
        recording.run()
        if host and self._cuda:
            torch.cuda.current_stream().synchronize()
        lost, bad = recording.flags.tolist()
        if bad:
            checked(queries, "query", first)
        if not lost:
            return recording.scores[:many, :k], recording.rows[:many, :k]
        there = queries.to(self._rows.data.device)  # an order made against the stride
        found = nearest(
            self._rows, there, k, bits=None if mode == "all" else self._bits, wanted=wanted, refine=self._refine,
            exact=exact, tuning=self._tuning,
        )  # fmt: skip
        return found[0].to(queries.device), found[1].to(queries.device)

    def _filtered(self, bits: np.ndarray | Tensor) -> str:
        """Whether rows are listed or looked up in the bitset; either is made ready."""
        rows, device = len(self._rows), self._rows.data.device
        given = bits_on(bits, 0, rows, device)
        if self._bits is None or self._chosen is None or self._count is None:
            self._bits = torch.empty_like(given)
            self._chosen = torch.empty(rows, dtype=torch.int32, device=device)
            self._count = torch.empty(1, dtype=torch.int64, device=device)
        self._bits.copy_(given)
        listed(self._bits, self._chosen, self._count)
        return "listed" if gathers(int(self._count), rows, gathered(self._rows)) else "bits"

    def _recording(self, many: int, wanted: int, mode: str, exact: bool, host: bool) -> _Recording:
        wanted = min(2 * K_MAX, max(_LEAST_WANTED, 1 << (wanted - 1).bit_length()))
        what = _What(padded_of(many), wanted, mode, exact, host)
        known = self._recordings.get(what)
        if known is None:
            known = self._recordings[what] = self._record(what)
            if len(self._recordings) > RECORDINGS_MAX:
                self._recordings.popitem(last=False)
        self._recordings.move_to_end(what)
        return known

    def _record(self, what: _What) -> _Recording:
        held, listed_there = self._rows, what.mode == "listed"
        shapes = ((what.queries, held.size), (1,), (what.queries, what.wanted), (what.queries, what.wanted), (2,))
        kinds = (torch.float32, torch.int32, torch.float32, torch.int64, torch.int32)
        there = [
            torch.zeros(shape, dtype=kind, device=held.data.device) for shape, kind in zip(shapes, kinds, strict=True)
        ]
        queries, live, scores, rows, flags = there
        ends = (
            [torch.zeros_like(each, device="cpu").pin_memory() for each in there] if what.host and self._cuda else there
        )

        def run() -> None:
            if ends is not there:
                queries.copy_(ends[0], non_blocking=True)
                live.copy_(ends[1], non_blocking=True)
            search = Search(queries, what.wanted, self._tuning, live=live)
            search.feed(
                held, chosen=self._chosen if listed_there else None, count=self._count if listed_there else None,
                bits=self._bits if what.mode == "bits" else None,
            )  # fmt: skip
            ranked(search, self._refine if what.exact else None, scores, rows)
            flags[:1].copy_(search.lost_at)
            flags[1:].copy_((~torch.isfinite(queries)).any())
            if ends is not there:
                for end, made in zip(ends[2:], there[2:], strict=True):
                    end.copy_(made, non_blocking=True)

        return _Recording(*ends, run=self._captured(run) if self._cuda else run, there=there)

    def _captured(self, run: Callable[[], None]) -> Callable[[], Any]:
        """Run once, so that all is compiled, then recorded; other threads may go on meanwhile."""
        run()
        torch.cuda.current_stream().synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            run()
        return graph.replay
