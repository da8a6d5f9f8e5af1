"""Part `beside`: streamed chats through Vireo and through `vllm serve` of the same version, in turns, by one client.

Both servers live through the run and one at a time is asked, so that each turn of one stands between turns of the other and
neither's start lies between; what the idle one costs is told. The model computes on both cores, which callers share: the client
only stamps what comes. Ratios and differences are within one round, medians over rounds.
"""

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from benchmarks.features.part import Part, Setting, say
from benchmarks.generation.beside_report import Turn, judgements_of, notes_of, table_of
from benchmarks.generation.served import MODEL, LanguageServer, model_folder, vireo, vllm_serve
from benchmarks.generation.streaming import Connection, Streamed, connected, read, request_of

WORDS = """time year people way day man thing woman life child world school state family student group country problem hand part
place case week company system program question work government number night point home water room mother area money story
fact month lot right study book eye job word business issue side kind head house service friend father power hour game line
end member law car city community name president team minute idea body back parent face level office door health person art
war history party result change morning reason research girl guy moment air teacher force education"""
PROMPT_WORDS, TOKENS = 100, 48
SETTLE_S = 0.4
"""Between turns: threads of OpenMP spin on for a while."""


@dataclass(frozen=True, slots=True)
class Callers:
    """So many at once, each of which asks `calls` times in a turn, one after another."""

    count: int
    calls: int


FULL = (Callers(1, 10), Callers(4, 5), Callers(16, 3))
QUICK = (Callers(1, 4), Callers(4, 2), Callers(16, 1))
ROUNDS, QUICK_ROUNDS = 10, 2


def run(setting: Setting) -> Part:
    """Measure and conclude."""
    model = model_folder(setting.cache)
    out = setting.out / "generation"
    with ExitStack() as opened:
        say("generation: starting both servers, which takes two minutes")
        servers = [opened.enter_context(start(model, out)) for start in (vllm_serve, vireo)]
        turns = in_turns(servers, QUICK if setting.quick else FULL, QUICK_ROUNDS if setting.quick else ROUNDS, setting)
    return Part(judgements_of(turns), [table_of(turns)], notes=notes_of(turns), data=turns)


def in_turns(servers: Sequence[LanguageServer], met: Sequence[Callers], rounds: int, setting: Setting) -> list[Turn]:
    """Every server under every number of callers, round after round, odd rounds the other way round."""
    chance = random.Random(setting.seed)
    warm = requests_of(chance, met[-1])
    for server in servers:
        asyncio.run(asked(server, warm))
    turns = []
    for number in range(rounds):
        say(f"generation: round {number + 1} of {rounds}")
        for callers in met:
            requests = requests_of(chance, callers)
            for server in servers[:: 1 if number % 2 == 0 else -1]:
                idle = next(each for each in servers if each is not server)
                turns.append(replace(one_turn(server, idle, requests), round=number))
    return turns


def requests_of(chance: random.Random, callers: Callers) -> list[list[bytes]]:
    """For each caller its requests. No two prompts begin alike, or a cache of prefixes would answer."""
    return [[chat("".join(prompt(chance))) for _ in range(callers.calls)] for _ in range(callers.count)]


def prompt(chance: random.Random) -> Iterator[str]:
    """Random words."""
    yield f"{chance.randrange(1 << 30)}: "
    yield " ".join(chance.choices(WORDS.split(), k=PROMPT_WORDS))


def chat(text: str) -> bytes:
    """A streamed chat of exactly TOKENS new tokens, the likeliest ones."""
    body = {
        "model": MODEL, "messages": [{"role": "user", "content": text}], "max_tokens": TOKENS, "ignore_eos": True,
        "temperature": 0, "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip
    return request_of("/v1/chat/completions", body)


def one_turn(server: LanguageServer, idle: LanguageServer, requests: list[list[bytes]]) -> Turn:
    """One server asked by all callers at once. The round is the caller's to set."""
    time.sleep(SETTLE_S)
    front_s, all_s, idle_s = server.front_cpu_s(), server.process.cpu_s(), idle.process.cpu_s()
    began_ns = time.monotonic_ns()
    answers = asyncio.run(asked(server, requests))
    took_s = (time.monotonic_ns() - began_ns) / 1e9
    front_s, all_s = server.front_cpu_s() - front_s, server.process.cpu_s() - all_s
    return Turn(0, server.name, len(requests), answers, took_s, front_s, all_s, idle.process.cpu_s() - idle_s)


async def asked(server: LanguageServer, requests: list[list[bytes]]) -> list[Streamed]:
    """The answers, caller after caller."""
    connections = [await connected(server.port) for _ in requests]
    try:
        met = zip(connections, requests, strict=True)
        found = await asyncio.gather(*(one_caller(connection, mine) for connection, mine in met))
    finally:
        for each in connections:
            each.close()
    return [read(*answer) for mine in found for answer in mine]


async def one_caller(connection: Connection, requests: list[bytes]) -> list[tuple[int, list[tuple[int, bytes]]]]:
    """One call after another."""
    return [await connection.call(each) for each in requests]
