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
from functools import cache

import numpy as np
import torch
import triton

from kernels.gpu import scan as triton_kernels
from kernels.gpu.faults import DeviceLost
from kernels.gpu.layout import BLOCKS, SHARED_BYTES, Tuning, block_of, laid_out, padded_of
from kernels.gpu.rounds import K_MAX, QUERIES_MAX, ROOM_KEYS, Room, gathers, rounds, scanned_for
from kernels.gpu.rows import DeviceRows, ReadyQueries, Tensor, checked, exact_scores, ready

EMPTY = -(2**63)
"""The key of no row."""
_NEVER = 2**63 - 1
_KINDS = {"float16": 0, "bfloat16": 0, "int8": 1, "binary": 2, "rabitq": 2}
_BITS_BYTES = 1_024
_KEYS_A_WARP = 512
_ALL = 2**31 - 1


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


def found_gpu() -> bool:
    """Whether there is a GPU that these kernels run on."""
    return bool(torch.cuda.is_available()) and torch.cuda.get_device_capability()[0] >= 8


class Search:
    """One search of up to QUERIES_MAX queries: rows are fed to it, in any number of parts, and the best of all are told.

    `wanted` of them are exact by what the scan computes. One thread; nothing waits for the device but `lost`.
    """

    def __init__(
        self, queries: Tensor, wanted: int, tuning: Tuning | None = None, *, room_keys: int = ROOM_KEYS,
        live: Tensor | None = None,
    ) -> None:  # fmt: skip
        """`queries` float32 [q, d], on the device. `room_keys`: see Room. `live` int32 [1]: so many of them are asked for."""
        assert 0 < len(queries) <= QUERIES_MAX, len(queries)
        assert 0 < wanted <= 2 * K_MAX, wanted
        self.queries, self._tuning = queries, tuning
        self._block = block_of(len(queries))
        self._blocks = padded_of(len(queries)) // self._block
        self._sifts = self._block > BLOCKS[0]
        self._room = Room.of(wanted, room_keys, many=self._sifts)
        padded, device = padded_of(len(queries)), queries.device
        self.kept = torch.full((padded, self._room.keys), EMPTY, dtype=torch.int64, device=device)
        self._counts = torch.zeros(padded, dtype=torch.int32, device=device)
        nth = torch.arange(padded, device=device)
        self._thresholds = torch.where(nth < (len(queries) if live is None else live), EMPTY, _NEVER)
        self.lost_at = torch.zeros(1, dtype=torch.int32, device=device)
        self._found = torch.zeros(self._blocks, dtype=torch.int32, device=device)
        self._sifted_room = self._block * self._room.keys if self._sifts else 1
        self._sifted = torch.empty((self._blocks, self._sifted_room), dtype=torch.int32, device=device)
        self._course = torch.zeros(3, dtype=torch.int64, device=device)
        self._scales: Tensor | None = None
        self._seen = 0

    def feed(
        self, rows: DeviceRows, *, chosen: Tensor | None = None, count: Tensor | None = None, bits: Tensor | None = None,
        base: int = 0,
    ) -> None:  # fmt: skip
        """Searches `rows`, which are `base` and on; of them those in `chosen` int32, of which there are `count` int64 [1], all
        where that is None; or with their bit in `bits` uint8."""
        positions = len(rows) if chosen is None else len(chosen)
        asked = ready(self.queries, rows, len(self._counts))
        self._scales = asked.scales
        tuning = self._tuning or tuned(rows, self._block)
        if count is None:
            count = torch.full((1,), positions, dtype=torch.int64, device=rows.data.device)
        triton_kernels.set_course[(1,)](count, self._course, ROWS=tuning.rows, num_warps=1)
        for begin, end, every in rounds(positions, tuning.rows, self._seen, self._room):
            sifts = self._sifts and not every
            self._scan(rows, asked, chosen, bits, base, (begin, end), tuning, every, sifts, False)
            if sifts:
                self._scan(rows, asked, None, None, base, (0, _ALL), tuning, False, False, True)
            triton_kernels.settle[(len(self.queries),)](
                self.kept, self._counts, self._thresholds, self.lost_at, self._found,
                self._room.wanted, self._block, self._sifted_room,
                ROOM=self._room.keys, num_warps=max(1, self._room.keys // _KEYS_A_WARP),
            )  # fmt: skip
        self._seen += positions

    def _scan(
        self, rows: DeviceRows, asked: ReadyQueries, chosen: Tensor | None, bits: Tensor | None, base: int,
        turns: tuple[int, int], tuning: Tuning, every: bool, sift: bool, sifted: bool,
    ) -> None:  # fmt: skip
        begin, end = turns
        data, counts = rows.data, self._counts
        programs = min(end - begin, _processors(data) * tuning.programs) * self._blocks
        triton_kernels.scan[(programs,)](
            data, _or(rows.scales, data), _or(rows.terms, data), _or(chosen, counts), _or(bits, data),
            asked.codes, asked.terms, asked.inverses, self._thresholds, self.kept, counts, self._course,
            self._sifted, self._found, begin, end, base, self._room.keys, self._room.wanted, self._blocks,
            self._sifted_room,
            SIZE=data.shape[1], KIND=_KINDS[rows.kind], TERMED=rows.signs, SCALED=rows.scales is not None,
            SHIFTED=rows.terms is not None, CHOSEN=chosen is not None, FILTERED=bits is not None, EVERY=every,
            ROWS=tuning.rows, QUERIES=self._block, STEP=tuning.step, SIFT=sift, SIFTED=sifted, HELD=tuning.held,
            AHEAD=tuning.stages, num_warps=tuning.warps,
        )  # fmt: skip

    @property
    def scales(self) -> Tensor:
        """By which scores in keys are to be multiplied: float32, one a query. Of what was fed last."""
        assert self._scales is not None
        return self._scales

    def lost(self) -> bool:
        """Whether there was no room for something since the start or the last `again`; waits for the device. Then `again`, and
        feed the same once more."""
        return bool(self.lost_at.item())

    def again(self) -> None:
        """Forgets all that was found but how good it was."""
        many = len(self.queries)
        least = self.kept[:many, : self._room.wanted].amin(1)
        self._thresholds[:many] = torch.where(least == EMPTY, least, least - 1)
        self.kept.fill_(EMPTY)
        self.lost_at.zero_()

    def best(self) -> tuple[Tensor, Tensor]:
        """The scan's scores float32 and rows int64, [q, wanted], best first, of equals the lower row; -1 where there are no
        more."""
        keys = self.kept[: len(self.queries), : self._room.wanted].sort(dim=1, descending=True).values
        scores = scores_of(keys) * self.scales[: len(keys), None]
        return scores, torch.where(keys == EMPTY, -1, 0xFFFFFFFF - (keys & 0xFFFFFFFF))


def tuned(rows: DeviceRows, block: int) -> Tuning:
    """How a scan of `rows` is laid out on their device."""
    data = rows.data
    return laid_out(
        data.shape[1] * data.element_size(), data.element_size(), rows.signs, block, _shared_bytes(data.device)
    )


@cache
def _shared_bytes(device: torch.device) -> int:
    if device.type != "cuda":
        return SHARED_BYTES
    return int(torch.cuda.get_device_properties(device).shared_memory_per_block_optin)


def scores_of(keys: Tensor) -> Tensor:
    """The float32 scores of keys."""
    ordered = (keys >> 32).int()
    scores = torch.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered).view(torch.float32)
    return torch.where(keys == EMPTY, float("-inf"), scores)


def listed(bits: Tensor, chosen: Tensor, count: Tensor) -> None:
    """The rows whose bits are set in uint8 [ceil(n / 8)], into `chosen` int32 [n], to be read as unsigned, near enough in order;
    how many they are into `count` int64 [1]."""
    count.zero_()
    grid = (-(-len(bits) // _BITS_BYTES),)
    triton_kernels.rows_of_bits[grid](bits, chosen, count, len(bits), BYTES=_BITS_BYTES, num_warps=4)


def chosen_rows(bits: Tensor, rows: int) -> Tensor:
    """Those of `rows` rows, fewer than 2^32, that `listed` lists. Waits for the device."""
    chosen = torch.empty(rows, dtype=torch.int32, device=bits.device)
    count = torch.zeros(1, dtype=torch.int64, device=bits.device)
    listed(bits, chosen, count)
    return chosen[: int(count)]


def gathered(rows: DeviceRows) -> int:
    """Bytes of a row that a scan of listed rows reads at once."""
    return rows.data.shape[1] * rows.data.element_size()


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
    wanted = scanned_for(k, wanted, exact)
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
    kept = bits_on(bits, base, len(rows), rows.data.device)
    chosen = chosen_rows(kept, len(rows))
    if gathers(len(chosen), len(rows), gathered(rows)):
        return chosen, None
    return None, kept


def bits_on(bits: np.ndarray | Tensor, base: int, rows: int, device: torch.device) -> Tensor:
    """The bits of `rows` rows from `base` on, on the device. Raises ValueError where they do not fit."""
    some = bits[base >> 3 : (base + rows + 7) >> 3]
    if base % 8 or len(some) != -(-rows // 8):
        raise ValueError(f"{len(bits)} bytes of bits do not fit {rows} rows from row {base} on")
    if rows % 8 and int(some[-1]) >> rows % 8:
        raise ValueError(f"bits past the last of {base + rows} rows are set")
    return (torch.from_numpy(np.array(some)) if isinstance(some, np.ndarray) else some).to(device).contiguous()


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
