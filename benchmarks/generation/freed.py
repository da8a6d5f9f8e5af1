"""Part `freed`: how soon the place of an answer that nobody waits for any more is another's, seen from outside.

The engine has one place (`max-num-seqs: 1`). A long answer holds it; a short call waits behind it. The one who asked for the long
answer leaves; measured is from that instant to the first token of the one who waited, which also computes its prompt. What that
takes alone, on an idle engine, is measured in the same turns, and so is one step of the engine: it looks for who left between two
steps, so that up to one of them belongs to what is measured, whoever serves.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import grpc
import numpy as np

from benchmarks.features.part import Part, Setting, kept, say
from benchmarks.generation.callers import LONG_TOKENS, Caller, EndedError, GrpcCaller, chat, http_caller
from benchmarks.generation.served import LanguageServer, model_folder, vireo
from benchmarks.generation.streaming import Connection, connected, read
from benchmarks.report import Judgement
from benchmarks.table import Table
from protos.vireo.v1.generation_pb2_grpc import GenerationStub

FREED_MS_MAX = 100.0
EVENTS_MAX = 4
BEHIND_MS = (20, 60)
"""So long the next waits behind the long answer before that is left."""

TIMEOUT_MS = (500, 700)
NEXT_TOKENS = 2
TURNS, QUICK_TURNS = 70, 5

Begin = Callable[[LanguageServer, random.Random], Awaitable[Caller]]


@dataclass(frozen=True, slots=True)
class Freed:
    """In one turn, by `way` of leaving: from leaving to the first token of who waited, that of a call alone, and the step that
    makes its next one, in ms."""

    way: str
    taken_ms: float
    alone_ms: float
    step_ms: float


def run(setting: Setting) -> Part:
    """Measure and conclude."""
    say("generation: starting a server with one place, which takes a minute")
    with vireo(model_folder(setting.cache), setting.out / "generation-freed", max_num_seqs=1) as server:
        turns = asyncio.run(taken(server, QUICK_TURNS if setting.quick else TURNS, random.Random(setting.seed)))
    return Part([judgement_of(turns)], [table_of(turns)], data=turns)


async def taken(server: LanguageServer, count: int, chance: random.Random) -> list[Freed]:
    """So many of each way, in turns. One whose long answer ended before its caller left, as by a deadline that comes too soon on
    a busy machine, is taken again, of twice as many at most."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = GenerationStub(channel)  # type: ignore[no-untyped-call]

        async def by_grpc(_: LanguageServer, __: random.Random) -> Caller:
            return GrpcCaller(stub)

        ways: dict[str, Begin] = {"HTTP disconnect": by_http, "gRPC cancel": by_grpc, "deadline": by_deadline}
        found = list[Freed]()
        behind = await connected(server.port)
        for _ in range(2 * count):
            for way, begin in ways.items():
                if sum(each.way == way for each in found) < count:
                    try:
                        found.append(await one_turn(way, begin, server, behind, chance))
                    except EndedError as error:
                        say(f"generation: {way}: {error}")
        behind.close()
    return found


async def by_http(server: LanguageServer, chance: random.Random) -> Caller:
    """Hangs up one way or the other."""
    caller = await http_caller(server.port, chat(LONG_TOKENS))
    caller.by_reset = chance.random() < 0.5
    return caller


async def by_deadline(server: LanguageServer, chance: random.Random) -> Caller:
    """Leaves it to its deadline."""
    timeout_ms = chance.randint(*TIMEOUT_MS)
    return await http_caller(server.port, chat(LONG_TOKENS, timeout_ms=timeout_ms), timeout_ms)


async def one_turn(way: str, begin: Begin, server: LanguageServer, behind: Connection, chance: random.Random) -> Freed:
    """A call alone, then one behind a long answer that is left. Raises EndedError."""
    alone = read(*await behind.call(chat(NEXT_TOKENS)))
    caller = await begin(server, chance)
    await caller.events(chance.randint(1, EVENTS_MAX))
    waiting = asyncio.create_task(behind.call(chat(NEXT_TOKENS)))
    await asyncio.sleep(chance.randint(*BEHIND_MS) / 1e3)
    begun_ns = time.monotonic_ns()
    left_ns = await caller.leave()
    answer = read(*await waiting)
    if left_ns < begun_ns or answer.token_ns[0] < left_ns:
        raise EndedError("its deadline came before another call waited behind it; taken again")
    return Freed(way, (answer.token_ns[0] - left_ns) / 1e6, alone.first_ms, alone.between_ms)


def judgement_of(turns: list[Freed]) -> Judgement:
    """Less what the next call takes alone. Pure."""
    alone_ms = float(np.median([each.alone_ms for each in turns]))
    step_ms = float(np.median([each.step_ms for each in turns]))
    worst_ms = float(np.percentile([each.taken_ms - alone_ms for each in turns], 99))
    said = (
        f"p99 {worst_ms:.0f} ms of {len(turns)}, less the {alone_ms:.0f} ms that the next call's first token takes alone; "
        f"the step of the engine that ends first takes {step_ms:.0f} ms"
    )
    return kept(
        f"the place of an answer that was left is free within {FREED_MS_MAX:g} ms", worst_ms <= FREED_MS_MAX, said
    )


def table_of(turns: list[Freed]) -> Table:
    """By way of leaving. Pure."""
    rows = [
        [way, len(mine), *np.percentile(mine, [50, 90, 99, 100]).tolist()]
        for way in dict.fromkeys(each.way for each in turns)
        for mine in [[each.taken_ms for each in turns if each.way == way]]
    ]
    for what, measured in (
        ("(a call alone)", [each.alone_ms for each in turns]),
        ("(a step of the engine)", [each.step_ms for each in turns]),
    ):
        rows.append([what, len(measured), *np.percentile(measured, [50, 90, 99, 100]).tolist()])
    about = "From leaving to the first token of the call that waited for the only place; computing its prompt is part of it."
    return Table("A place is another's", about, ["left by", "turns", "p50 ms", "p90 ms", "p99 ms", "max ms"], rows)
