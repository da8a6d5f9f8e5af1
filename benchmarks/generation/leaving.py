"""Part `leaving`: what is left of a thousand callers who leave at any moment, of every kind."""

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass

import grpc
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.features.part import Part, Setting, kept, say
from benchmarks.generation.callers import LONG_TOKENS, Caller, EndedError, GrpcCaller, chat, http_caller
from benchmarks.generation.served import LanguageServer, model_folder, vireo
from benchmarks.generation.streaming import connected
from benchmarks.process_cpu import family, read_stats
from benchmarks.report import Judgement
from benchmarks.soak.sample import memory_of, read_metrics, status_of
from benchmarks.table import Table
from protos.vireo.v1.generation_pb2_grpc import GenerationStub

LEAVE, QUICK_LEAVE = 1_000, 100
FIRST = 0.2
"""Of them leave before memory is read for the first time: by then every pool has its size."""

AT_ONCE = 8
EVENTS_MAX, SILENCE_S_MAX = 5, 0.3
EMPTY = (
    "vireo_requests_in_flight",
    "vireo_language_calls_under_way",
    "vireo_streams",
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:kv_cache_usage_perc",
)
EMPTY_S_MAX = 20.0
GROWN_BYTES_MAX = 16 << 20
"""Of all processes, for 800 who leave: 20 kB each, which a leaked request of the engine with its prompt and task would exceed."""


@dataclass(frozen=True, slots=True)
class Left:
    """How many left after what, what the gauges told in the end, and bytes of memory that all processes had, before and after."""

    counts: dict[str, int]
    gauges: dict[str, float]
    before_bytes: int
    after_bytes: int

    @property
    def grown_bytes(self) -> int:
        """Between the two."""
        return self.after_bytes - self.before_bytes


def run(setting: Setting) -> Part:
    """Measure and conclude."""
    say("generation: starting a server, which takes a minute")
    with vireo(model_folder(setting.cache), setting.out / "generation-leaving") as server:
        found = asyncio.run(left(server, QUICK_LEAVE if setting.quick else LEAVE, random.Random(setting.seed)))
    return Part(judgements_of(found), [table_of(found)], data=found)


async def left(server: LanguageServer, count: int, chance: random.Random) -> Left:
    """All of them, AT_ONCE at a time."""
    counts = dict.fromkeys(("HTTP, streamed", "HTTP, whole", "HTTP, half a request", "gRPC"), 0)
    seeds = iter([chance.randrange(1 << 32) for _ in range(count)])
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = GenerationStub(channel)  # type: ignore[no-untyped-call]

        async def some(share: int) -> None:
            for _, seed in zip(range(share), seeds, strict=False):
                mine = random.Random(seed)
                kind = mine.choice(list(counts))
                counts[kind] += 1
                await one(await begun(kind, server, stub, mine), mine)

        async def in_all(number: int) -> int:
            await asyncio.gather(*(some(number // AT_ONCE) for _ in range(AT_ONCE)))
            await emptied(server)
            return resident_bytes(server)

        before = await in_all(int(count * FIRST))
        after = await in_all(count - int(count * FIRST))
    return Left(counts, gauges(server), before, after)


async def begun(kind: str, server: LanguageServer, stub: object, chance: random.Random) -> Caller:
    """Somebody who calls in one of the ways."""
    if kind == "gRPC":
        return GrpcCaller(stub)
    request = chat(LONG_TOKENS, stream=kind != "HTTP, whole")
    if kind == "HTTP, half a request":
        request = request[: chance.randrange(len(request))]
    caller = await http_caller(server.port, request)
    caller.by_reset = chance.random() < 0.5
    return caller


async def one(caller: Caller, chance: random.Random) -> None:
    """Reads some events or waits in silence, whichever is over first, and leaves."""
    with suppress(TimeoutError, EndedError, ConnectionError, grpc.aio.AioRpcError):
        async with asyncio.timeout(chance.uniform(0, SILENCE_S_MAX)):
            await caller.events(chance.randint(1, EVENTS_MAX))
    await caller.leave()


async def emptied(server: LanguageServer) -> None:
    """Returns when nothing is under way, or after EMPTY_S_MAX. vLLM's gauges are told anew with each answer: one is asked for."""
    give_up = asyncio.get_running_loop().time() + EMPTY_S_MAX
    while asyncio.get_running_loop().time() < give_up:
        last = await connected(server.port)
        await last.call(chat(2))
        last.close()
        await asyncio.sleep(0.5)
        if not any(gauges(server).values()):
            return


def gauges(server: LanguageServer) -> dict[str, float]:
    """What must be zero once nobody asks."""
    families = text_string_to_metric_families(read_metrics(server.port))
    return {each.name: sum(sample.value for sample in each.samples) for each in families if each.name in EMPTY}


def resident_bytes(server: LanguageServer) -> int:
    """Of the server's own memory, all its processes together."""
    members = family(read_stats(), server.process.pid)
    return sum(memory_of(status_of(each.pid)).anonymous for each in members)


def judgements_of(found: Left) -> list[Judgement]:
    """Pure."""
    total = sum(found.counts.values())
    told = ", ".join(f"{name} {value:g}" for name, value in found.gauges.items())
    empty = set(found.gauges) == set(EMPTY) and not any(found.gauges.values())
    grown = f"{found.grown_bytes / 2**20:.1f} MB, {found.after_bytes / 2**30:.2f} GB in the end"
    return [
        kept(
            f"{total} callers who leave at random moments leave no request, stream or block of cache behind",
            empty,
            told,
        ),
        kept(f"and less than {GROWN_BYTES_MAX >> 20} MB of memory", found.grown_bytes < GROWN_BYTES_MAX, grown),
    ]


def table_of(found: Left) -> Table:
    """Who left. Pure."""
    about = f"Within {SILENCE_S_MAX:g} s or {EVENTS_MAX} events, {AT_ONCE} at a time, by FIN, RST or a cancelled call."
    return Table(
        "Callers who left", about, ["kind", "callers"], [[kind, count] for kind, count in found.counts.items()]
    )
