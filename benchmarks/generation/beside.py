"""Part `beside`: streamed chats through Vireo and through `vllm serve` of the same version, in turns, by one client.

Both servers live side by side and one at a time is asked: each turn of one stands between turns of the other, and neither's start
lies between. A turn begins when both have come to rest; what the idle one costs is told. An engine that starts second may find
less good memory, so there are two sittings, in which they start in either order. The model computes on both cores, which callers
share: the client only stamps what comes. Ratios and differences are within one round, medians over rounds.
"""

import asyncio
import random
import time
from collections.abc import Sequence
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
REST_S, REST_SHARE, REST_S_MAX = 0.5, 0.03, 10.0
"""A server rests once it used so little of one core for so long: its threads spin on after the last answer."""


@dataclass(frozen=True, slots=True)
class Callers:
    """So many at once, each of which asks `calls` times in a turn, one after another."""

    count: int
    calls: int


FULL = (Callers(1, 8), Callers(4, 5), Callers(16, 4))
QUICK = (Callers(1, 4), Callers(4, 2), Callers(16, 1))
STARTS = (vllm_serve, vireo)
SITTING_ROUNDS = 6


def run(setting: Setting) -> Part:
    """Measure and conclude."""
    model = model_folder(setting.cache)
    chance = random.Random(setting.seed)
    turns = list[Turn]()
    for starts in (STARTS,) if setting.quick else (STARTS, STARTS[::-1]):
        with ExitStack() as opened:
            say("generation: starting both servers, which takes two minutes")
            servers = [opened.enter_context(start(model, setting.out / "generation")) for start in starts]
            turns += sitting(servers, chance, len(turns), quick=setting.quick)
    return Part(judgements_of(turns), [table_of(turns)], notes=notes_of(turns), data=turns)


def sitting(servers: Sequence[LanguageServer], chance: random.Random, before: int, *, quick: bool) -> list[Turn]:
    """Every server under every number of callers, in rounds numbered from `before` on, odd ones the other way round."""
    met, rounds = (QUICK, 2) if quick else (FULL, SITTING_ROUNDS)
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
                turns.append(replace(one_turn(server, idle, requests), round=before + number))
    return turns


def rest(server: LanguageServer) -> None:
    """Returns when it rests, or after REST_S_MAX."""
    give_up = time.monotonic() + REST_S_MAX
    while time.monotonic() < give_up:
        before_s = server.process.cpu_s()
        time.sleep(REST_S)
        if server.process.cpu_s() - before_s <= REST_SHARE * REST_S:
            return


def requests_of(chance: random.Random, callers: Callers) -> list[list[bytes]]:
    """For each caller its requests. No two prompts begin alike, or a cache of prefixes would answer."""
    return [[chat(prompt(chance)) for _ in range(callers.calls)] for _ in range(callers.count)]


def prompt(chance: random.Random) -> str:
    """Random words."""
    return f"{chance.randrange(1 << 30)}: {' '.join(chance.choices(WORDS.split(), k=PROMPT_WORDS))}"


def chat(text: str) -> bytes:
    """A streamed chat of exactly TOKENS new tokens, the likeliest ones."""
    body = {
        "model": MODEL, "messages": [{"role": "user", "content": text}], "max_tokens": TOKENS, "ignore_eos": True,
        "temperature": 0, "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip
    return request_of("/v1/chat/completions", body)


def one_turn(server: LanguageServer, idle: LanguageServer, requests: list[list[bytes]]) -> Turn:
    """One server asked by all callers at once. The round is the caller's to set."""
    rest(server)
    rest(idle)
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
