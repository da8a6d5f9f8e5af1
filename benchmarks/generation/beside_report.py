"""What the turns of two servers of one language model show, and which promises they keep. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

import numpy as np

from benchmarks.features.part import kept
from benchmarks.generation.served import OURS, RIVAL
from benchmarks.generation.streaming import Streamed
from benchmarks.report import Judgement
from benchmarks.table import Cell, Table
from benchmarks.turns import median_of

FIRST_MS_MAX, RATE_MIN = 3.0, 0.97
ERRORS = 2.0
"""A difference is known to so many standard errors of its rounds."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One server under `callers` in one round. CPU in seconds, of the process that callers speak to, of all its processes, and of
    all of the other server, which was not asked."""

    round: int
    server: str
    callers: int
    answers: list[Streamed]
    took_s: float
    front_cpu_s: float
    cpu_s: float
    idle_cpu_s: float

    @property
    def tokens(self) -> int:
        """All that were made."""
        return sum(each.tokens for each in self.answers)


def rate(turn: Turn) -> float:
    """Tokens a second."""
    return turn.tokens / turn.took_s


def first_ms(turn: Turn) -> float:
    """The median of the times to the first text."""
    return float(np.median([each.first_ms for each in turn.answers]))


def of(turns: Sequence[Turn], server: str, callers: int) -> list[Turn]:
    """Of one server under so many callers, by round."""
    return sorted(
        (each for each in turns if (each.server, each.callers) == (server, callers)), key=lambda one: one.round
    )


def pairs(turns: Sequence[Turn], callers: int) -> list[tuple[Turn, Turn]]:
    """Ours and the rival's, by round."""
    return list(zip(of(turns, OURS, callers), of(turns, RIVAL, callers), strict=True))


def counts(turns: Sequence[Turn]) -> list[int]:
    """Of callers."""
    return sorted({each.callers for each in turns})


def judgements_of(turns: Sequence[Turn]) -> list[Judgement]:
    """The bars at every number of callers, and that both say the same."""
    return [
        *(first_judgement(pairs(turns, callers), callers) for callers in counts(turns)),
        *(rate_judgement(pairs(turns, callers), callers) for callers in counts(turns)),
        same_judgement(pairs(turns, 1)),
    ]


def first_judgement(both: Sequence[tuple[Turn, Turn]], callers: int) -> Judgement:
    """Undecided where the bar is missed by less than the rounds differ."""
    differences = [first_ms(ours) - first_ms(rival) for ours, rival in both]
    middle, error = median_of(differences), ERRORS * error_of(differences)
    decided = middle <= FIRST_MS_MAX or (None if middle - error <= FIRST_MS_MAX else False)
    promise = f"{callers} callers: the first token comes at most {FIRST_MS_MAX:g} ms after that of {RIVAL} (medians)"
    return Judgement(promise, decided, f"{middle:+.1f} ms, known to {error:.1f} ms")


def rate_judgement(both: Sequence[tuple[Turn, Turn]], callers: int) -> Judgement:
    """Undecided where the bar is missed by less than the rounds differ."""
    ratios = [rate(ours) / rate(rival) for ours, rival in both]
    middle, error = median_of(ratios), ERRORS * error_of(ratios)
    decided = middle >= RATE_MIN or (None if middle + error >= RATE_MIN else False)
    promise = f"{callers} callers: at least {RATE_MIN:g} times the output tokens a second of {RIVAL}"
    return Judgement(promise, decided, f"{middle:.3f} times, known to {error:.3f}")


def error_of(values: Sequence[float]) -> float:
    """The standard error of their mean; infinite of a single one."""
    return math.inf if len(values) < 2 else stdev(values) / math.sqrt(len(values))


def same_judgement(both: Sequence[tuple[Turn, Turn]]) -> Judgement:
    """Greedy answers to one caller: with more, sums depend on who else is in the batch."""
    same, all_of_them = agreement(both)
    return kept(
        f"one caller gets the same greedy answers as from {RIVAL}", same == all_of_them, f"{same} of {all_of_them}"
    )


def agreement(both: Sequence[tuple[Turn, Turn]]) -> tuple[int, int]:
    """How many answers are the same text, and of how many."""
    told = [
        one.text == other.text for ours, rival in both for one, other in zip(ours.answers, rival.answers, strict=True)
    ]
    return sum(told), len(told)


def table_of(turns: Sequence[Turn]) -> Table:
    """Both servers, by callers."""
    columns = ["server", "callers", "answers", "first token p50 ms", "p99 ms", "between tokens p50 ms", "p99 ms", "tokens/s",
               "front CPU µs/token", "all CPU ms/token"]  # fmt: skip
    rows = [row_of(of(turns, server, callers), server) for callers in counts(turns) for server in (OURS, RIVAL)]
    about = (
        "Streamed chats in closed loops, greedy, fixed length; percentiles over all answers, tokens a second and CPU over all "
        "turns. Front: the process that callers speak to."
    )
    return Table("Streamed answers of one model", about, columns, rows)


def row_of(mine: Sequence[Turn], server: str) -> list[Cell]:
    """One server under one number of callers."""
    answers = [each for turn in mine for each in turn.answers]
    tokens = sum(turn.tokens for turn in mine)
    first = np.percentile([each.first_ms for each in answers], [50, 99]).tolist()
    between = np.percentile([each.between_ms for each in answers], [50, 99]).tolist()
    per_s = tokens / sum(turn.took_s for turn in mine)
    front, whole = (sum(turn.front_cpu_s for turn in mine), sum(turn.cpu_s for turn in mine))
    return [server, mine[0].callers, len(answers), *first, *between, per_s, front / tokens * 1e6, whole / tokens * 1e3]


def notes_of(turns: Sequence[Turn]) -> list[str]:
    """What is told and not judged."""
    shares = []
    for callers in counts(turns):
        same, all_of_them = agreement(pairs(turns, callers))
        shares.append(f"{same} of {all_of_them} with {callers}")
    idle = mean(turn.idle_cpu_s / turn.took_s for turn in turns)
    return [
        f"Greedy answers that are the same text from both, by callers: {', '.join(shares)}.",
        f"The server that was not asked used {idle:.1%} of one core meanwhile.",
    ]
