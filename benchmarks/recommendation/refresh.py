"""Items and user tower change to another version, and back, while requests come: none fails, none is answered by one of each.

The caller is an open loop of Poisson arrivals in Python that keeps every answer, at a rate far below what is sustained. Phases of
quiet and of moves alternate. Both versions give the same lists, and scores that tell which one gave them: see `inputs.REFRESHED`.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from benchmarks.load.frames import message_of, read_frames
from benchmarks.load.order import INFER_PATH
from benchmarks.load.schedule import poisson_offsets_ns
from benchmarks.recommendation.inputs import REFRESHED, Shop
from benchmarks.recommendation.served import outputs_of
from benchmarks.workloads.recommendation.application import ITEMS, collection_for
from protos.vireo.v1 import vectors_pb2, vectors_pb2_grpc

MOVE_EVERY_S = 2.0
TOLERANCE = 1e-3
ANSWER_S_MAX = 10.0
FACTORS = {1: 1.0, 2: REFRESHED[0] * REFRESHED[1]}
"""By version, what scores of retrieval are multiplied by."""


@dataclass(slots=True)
class Phase:
    """Latencies from the scheduled send of what was answered, in ms; failures in words; answers by version, `mixed` by none."""

    moves: list[float] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    by_version: dict[int, int] = field(default_factory=lambda: {1: 0, 2: 0})
    mixed: int = 0

    def p99_ms(self) -> float:
        """Of all."""
        return float(np.percentile(self.latency_ms, 99))


@dataclass(frozen=True, slots=True)
class Refresh:
    """All phases pooled, by whether versions moved meanwhile."""

    rate_per_s: float
    quiet: Phase
    moving: Phase


class Truth:
    """What each request's list is scored by retrieval, by version."""

    def __init__(self, shop: Shop) -> None:
        with np.load(shop.catalogue) as catalogue, np.load(shop.users) as users:
            self._items, self._users = catalogue["vector"], users["vector"]

    def version(self, request: int, items: Sequence[int], scores: Sequence[float]) -> int | None:
        """The one whose scores these all are; None where they are of no one version."""
        plain: NDArray[np.float32] = self._items[np.array(items) - 1] @ self._users[request]
        for version, factor in FACTORS.items():
            if np.allclose(scores, plain * np.float32(factor), rtol=TOLERANCE, atol=TOLERANCE):
                return version
        return None


@dataclass(frozen=True, slots=True)
class RefreshPlan:
    """So many rounds of a quiet phase and one of moves."""

    rate_per_s: float
    phase_s: float
    rounds: int
    seed: int


def refreshed(shop: Shop, port: int, plan: RefreshPlan) -> Refresh:
    """It ends with the first version."""
    truth = Truth(shop)
    messages = [message_of(each) for each in read_frames(shop.frames)]
    found = Refresh(plan.rate_per_s, Phase(), Phase())
    for number in range(2 * plan.rounds):
        moving = number % 2 == 1
        offsets = poisson_offsets_ns(rate_per_s=plan.rate_per_s, duration_s=plan.phase_s, seed=plan.seed + number)
        phase = found.moving if moving else found.quiet
        asyncio.run(
            _phase(port, messages, offsets, truth, phase, moves=int(plan.phase_s / MOVE_EVERY_S) if moving else 0)
        )
    return found


async def _phase(
    port: int, messages: Sequence[bytes], offsets: NDArray[np.int64], truth: Truth, phase: Phase, *, moves: int
) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: Any = channel.unary_unary(INFER_PATH)
        mover = asyncio.create_task(_move(channel, phase, moves))
        begin_ns, asked = time.monotonic_ns(), []

        async def ask(request: int, due_ns: int) -> None:
            try:
                answer = service_pb2.ModelInferResponse.FromString(await call(messages[request], timeout=ANSWER_S_MAX))
            except grpc.aio.AioRpcError as error:
                phase.failed.append(f"{error.code().name}: {error.details()}")
                return
            phase.latency_ms.append((time.monotonic_ns() - due_ns) / 1e6)
            listed = outputs_of(answer)
            version = truth.version(request, listed["item"], listed["retrieval"])
            if version is None:
                phase.mixed += 1
            else:
                phase.by_version[version] += 1

        for at, offset_ns in enumerate(offsets.tolist()):
            due_ns = begin_ns + offset_ns
            await asyncio.sleep(max(0.0, (due_ns - time.monotonic_ns()) / 1e9))
            asked.append(asyncio.create_task(ask(at % len(messages), due_ns)))
        await asyncio.gather(*asked, mover)


async def _move(channel: grpc.aio.Channel, phase: Phase, moves: int) -> None:
    """To and fro, an even number of times; how long each took, in ms."""
    stub = vectors_pb2_grpc.VectorsStub(channel)  # type: ignore[no-untyped-call]
    for number in range(moves // 2 * 2):
        await asyncio.sleep(MOVE_EVERY_S / 2)
        request = vectors_pb2.ChangeAliasesRequest(aliases={ITEMS: collection_for(2 - number % 2)})
        began = time.monotonic()
        await stub.ChangeAliases(request, timeout=ANSWER_S_MAX)
        phase.moves.append((time.monotonic() - began) * 1e3)
        await asyncio.sleep(MOVE_EVERY_S / 2)
