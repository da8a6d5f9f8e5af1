"""Exact k nearest neighbours on a GPU: one pass over the rows, scores and the choice of the best fused, no matrix of distances.

Sorting every tile's scores costs more than reading them: of 10M rows and 64 queries 640M scores. So hardly any is sorted. The
first few thousand rows are scored and the `wanted` best of them found: a score below the last of those cannot be among the best
of all. Then a round of up to 64 times as many rows keeps only what is past that threshold, some `wanted` times the ratio, by
an atomic counter a query; the best are found again, and the threshold rises. Three or four rounds go over 10M rows. Tiles are
taken in steps of the golden ratio, so that each round is a fair sample of rows in whatever order they lie. Thresholds are whole
keys, row included, so that equal scores do not flood the room either. Whatever is found to have had no room (it takes an order
made for that) makes the search go over the rows once more, with a threshold from almost all of them: the answer is exact always.

What is found by float16 (8-bit, estimated) queries is more than was asked for by a margin, which is scored again in float64.

A launch costs the host some 5 µs and a read of 10M x 384 no more than 2 ms, so nothing waits for the device before all is in its
queue: that numbers are finite, and that nothing was lost, is asked last. Only a filter is counted first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import triton

from kernels.gpu import scan as triton_kernels
from kernels.gpu.faults import DeviceLost
from kernels.gpu.rounds import K_MAX, QUERIES_MAX, ROOM_KEYS, Room, gathers, golden_stride, rounds, wanted_for
from kernels.gpu.rows import DeviceRows, ReadyQueries, Tensor, checked, exact_scores, ready

_EMPTY = -(2**63)
_NEVER = 2**63 - 1
_KINDS = {"float16": 0, "bfloat16": 0, "int8": 1, "binary": 2, "rabitq": 2}
_BITS_BYTES = 1_024
_KEYS_A_WARP = 512


@contextmanager
def translated() -> Iterator[None]:
    """What the device raises as MemoryError where it has no room, else as DeviceLost; so too where it cannot run a kernel."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise MemoryError(f"the GPU has no room: {str(error)[:300]}") from error
    except triton.TritonError as error:
        raise DeviceLost(f"a kernel cannot be run on the GPU: {str(error)[-300:]}") from error
    except RuntimeError as error:
        ours = not isinstance(error, torch.AcceleratorError) and "CUDA" not in str(error)
        if not ours and "out of memory" in str(
            error
        ):  # taken past torch, as by Triton's launch: nothing else is lost by it
            raise MemoryError(f"the GPU has no room: {str(error)[:300]}") from error
        if not ours:
            raise DeviceLost(f"the GPU failed: {str(error)[:300]}") from error
        raise


@dataclass(frozen=True, slots=True)
class Tuning:
    """How the scan is laid out: rows of a tile, numbers (or bytes of bits) multiplied at once, Triton's warps and stages of its
    pipeline, programs a multiprocessor."""

    rows: int = 128
    step: int = 64
    warps: int = 4
    stages: int = 3
    programs: int = 2


FEW_QUERIES = Tuning(stages=4, programs=3)
MANY_QUERIES = Tuning()
"""Up to 16 queries, and more. Compiled for Hopper (Triton 3.9) they use its warpgroup instructions; not yet run on one."""


def found_gpu() -> bool:
    """Whether there is a GPU that these kernels run on."""
    return bool(torch.cuda.is_available()) and torch.cuda.get_device_capability()[0] >= 8


class Search:
    """One search of up to QUERIES_MAX queries: rows are fed to it, in any number of parts, and the best of all are told.

    `wanted` of them are exact by what the scan computes. One thread; nothing waits for the device but `lost`.
    """

    def __init__(
        self, queries: Tensor, wanted: int, tuning: Tuning | None = None, *, room_keys: int = ROOM_KEYS
    ) -> None:
        """`queries` float32 [q, d], on the device. `room_keys`: see Room."""
        assert 0 < len(queries) <= QUERIES_MAX, len(queries)
        assert 0 < wanted <= 2 * K_MAX, wanted
        self._queries, self._room = queries, Room.of(wanted, room_keys)
        self._block = 16 if len(queries) <= 16 else 32 if len(queries) <= 32 else 64
        self._blocks = -(-len(queries) // self._block)
        self._tuning = tuning or (FEW_QUERIES if self._block == 16 else MANY_QUERIES)
        padded, device = self._block * self._blocks, queries.device
        self._kept = torch.full((padded, self._room.keys), _EMPTY, dtype=torch.int64, device=device)
        self._counts = torch.zeros(padded, dtype=torch.int32, device=device)
        self._thresholds = torch.full((padded,), _NEVER, dtype=torch.int64, device=device)
        self._thresholds[: len(queries)] = _EMPTY
        self._lost = torch.zeros(1, dtype=torch.int32, device=device)
        self._seen = 0

    def feed(
        self, rows: DeviceRows, *, chosen: Tensor | None = None, bits: Tensor | None = None, base: int = 0
    ) -> None:
        """Searches `rows`, which are `base` and on; of them those in `chosen` int32, or with their bit in `bits` uint8."""
        positions = len(rows) if chosen is None else len(chosen)
        asked = ready(self._queries, rows, len(self._counts))
        for begin, end, every in rounds(positions, self._tuning.rows, self._seen, self._room):
            self._scan(rows, asked, chosen, bits, base, (begin, end), positions, every)
        self._seen += positions

    def _scan(
        self, rows: DeviceRows, asked: ReadyQueries, chosen: Tensor | None, bits: Tensor | None, base: int,
        turns: tuple[int, int], positions: int, every: bool,
    ) -> None:  # fmt: skip
        begin, end = turns
        tiles = -(-positions // self._tuning.rows)
        if every:
            self._counts[: len(self._queries)] = (end - begin) * self._tuning.rows
        data, counts = rows.data, self._counts
        programs = min(end - begin, _processors(data) * self._tuning.programs) * self._blocks
        triton_kernels.scan[(programs,)](
            data, _or(rows.scales, data), _or(rows.terms, data), _or(chosen, counts), _or(bits, data),
            asked.codes, asked.scales, asked.terms, self._thresholds, self._kept, counts,
            begin, end, tiles, golden_stride(tiles), positions, base, self._room.keys, self._room.wanted, self._blocks,
            SIZE=data.shape[1], KIND=_KINDS[rows.kind], SCALED=rows.scales is not None, SHIFTED=rows.terms is not None,
            CHOSEN=chosen is not None, FILTERED=bits is not None, EVERY=every, ROWS=self._tuning.rows,
            QUERIES=self._block, STEP=self._tuning.step,
            num_warps=self._tuning.warps, num_stages=self._tuning.stages,
        )  # fmt: skip
        triton_kernels.settle[(len(self._queries),)](
            self._kept, self._counts, self._thresholds, self._lost, self._room.wanted,
            ROOM=self._room.keys, num_warps=self._room.keys // _KEYS_A_WARP,
        )  # fmt: skip

    def lost(self) -> bool:
        """Whether there was no room for something since the start or the last `again`; waits for the device. Then `again`, and
        feed the same once more."""
        return bool(self._lost.item())

    def again(self) -> None:
        """Forgets all that was found but how good it was."""
        many = len(self._queries)
        least = self._kept[:many, : self._room.wanted].amin(1)
        self._thresholds[:many] = torch.where(least == _EMPTY, least, least - 1)
        self._kept.fill_(_EMPTY)
        self._lost.zero_()

    def best(self) -> tuple[Tensor, Tensor]:
        """The scan's scores float32 and rows int64, [q, wanted], best first, of equals the lower row; -1 where there are no
        more."""
        keys = self._kept[: len(self._queries), : self._room.wanted].sort(dim=1, descending=True).values
        return scores_of(keys), torch.where(keys == _EMPTY, -1, 0xFFFFFFFF - (keys & 0xFFFFFFFF))


def scores_of(keys: Tensor) -> Tensor:
    """The float32 scores of keys."""
    ordered = (keys >> 32).int()
    scores = torch.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered).view(torch.float32)
    return torch.where(keys == _EMPTY, float("-inf"), scores)


def chosen_rows(bits: Tensor, rows: int) -> Tensor:
    """Those of `rows` rows, fewer than 2^32, whose bits are set in uint8 [ceil(rows / 8)]: int32, to be read as unsigned, near
    enough in order. Waits for the device."""
    chosen = torch.empty(rows, dtype=torch.int32, device=bits.device)
    count = torch.zeros(1, dtype=torch.int64, device=bits.device)
    grid = (-(-len(bits) // _BITS_BYTES),)
    triton_kernels.rows_of_bits[grid](bits, chosen, count, len(bits), BYTES=_BITS_BYTES, num_warps=4)
    return chosen[: int(count)]


def nearest(
    parts: DeviceRows | Iterable[DeviceRows], queries: Tensor, k: int, *, bits: np.ndarray | Tensor | None = None,
    wanted: int | None = None, refine: DeviceRows | None = None,
    exact: bool = True, tuning: Tuning | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The k nearest rows of each query: scores float32 and rows int64, both [q, k] on the device; best first, of equal scores the
    lower row first; rows -1 with scores minus infinity where there are no more.

    `parts`: rows in one piece, or pieces in order, of which each comes onto the device when it is its turn (`streamed`): it is
    gone through twice where the first pass had no room. `queries` float32 [q, d], finite. k from 1 to K_MAX. `bits` uint8
    [ceil(n / 8)], bits past the rows 0: only rows whose bit is set are found; pieces but the last are then of a multiple of 8
    rows. `wanted`: how many the scan is to find, which are
    then scored from `refine`, or the rows themselves where those are not `rabitq`; not `exact`: they stay as the scan scored
    them, and k may be 2 K_MAX. Raises ValueError.
    """
    bound = K_MAX if exact else 2 * K_MAX
    if not 1 <= k <= bound:
        raise ValueError(f"k is from 1 to {bound}, not {k}")
    wanted = min(2 * K_MAX, max(k, wanted or (wanted_for(k) if exact else k)))
    found = [
        _nearest(parts, queries, begin, k, bits, wanted, refine, exact, tuning)
        for begin in range(0, len(queries), QUERIES_MAX)
    ]
    return torch.cat([each[0] for each in found]), torch.cat([each[1] for each in found])


def _nearest(
    parts: DeviceRows | Iterable[DeviceRows], queries: Tensor, first: int, k: int, bits: np.ndarray | Tensor | None,
    wanted: int, refine: DeviceRows | None, exact: bool, tuning: Tuning | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Of queries `first` and on, as many as are searched at once."""
    asked = queries[first : first + QUERIES_MAX]
    search = Search(asked, wanted, tuning)
    exact_of = refine or (parts if isinstance(parts, DeviceRows) and parts.kind != "rabitq" else None)
    while True:
        base = 0
        for each in [parts] if isinstance(parts, DeviceRows) else parts:
            chosen, kept = (None, None) if bits is None else _selection(each, bits, base)
            search.feed(each, chosen=chosen, bits=kept, base=base)
            base += len(each)
        scores, rows = search.best()
        if exact and exact_of is not None:
            scores, rows = refined(exact_of, asked, rows)
        checked(asked, "query", first)
        if not search.lost():
            return scores[:, :k], rows[:, :k]
        search.again()


def _selection(rows: DeviceRows, bits: np.ndarray | Tensor, base: int) -> tuple[Tensor | None, Tensor | None]:
    """Of rows `base` and on: those to look at, or the bits of those that may be found."""
    some = bits[base >> 3 : (base + len(rows) + 7) >> 3]
    if base % 8 or len(some) != -(-len(rows) // 8):
        raise ValueError(f"{len(bits)} bytes of bits do not fit {len(rows)} rows from row {base} on")
    if len(rows) % 8 and int(some[-1]) >> len(rows) % 8:
        raise ValueError(f"bits past the last of {base + len(rows)} rows are set")
    kept = (
        (torch.from_numpy(np.array(some)) if isinstance(some, np.ndarray) else some).to(rows.data.device).contiguous()
    )
    chosen = chosen_rows(kept, len(rows))
    if gathers(len(chosen), len(rows), rows.data.shape[1] * rows.data.element_size()):
        return chosen, None
    return None, kept


def refined(rows: DeviceRows, queries: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """`chosen` rows int64 [q, m] by their exact scores, best first, of equals the lower row first, with those scores."""
    step = max(1, (256 << 20) // (8 * chosen.shape[1] * rows.size))
    parts = [
        exact_scores(rows, queries[begin : begin + step], chosen[begin : begin + step])
        for begin in range(0, len(chosen), step)
    ]
    scores = torch.cat(parts)
    by_row = torch.where(chosen < 0, _NEVER, chosen).sort(dim=1)
    scores = scores.gather(1, by_row.indices)
    order = scores.sort(dim=1, descending=True, stable=True)
    found = by_row.values.gather(1, order.indices)
    return order.values, torch.where(found == _NEVER, -1, found)


def _or(given: Tensor | None, instead: Tensor) -> Tensor:
    """A kernel looks at no argument that its flags say is not there, but wants a pointer."""
    return instead if given is None else given


def _processors(data: Tensor) -> int:
    return torch.cuda.get_device_properties(data.device).multi_processor_count if data.is_cuda else 2
