"""Part `crash`: kill -9 at random points, with torn and short writes; what comes back is what was acknowledged, once."""

from dataclasses import dataclass

from benchmarks.features.part import Part, Setting, kept, run_driver, say
from benchmarks.harness import LOAD_CORE, SERVER_CORE
from benchmarks.table import Table

ROUNDS = 200
COLUMNS = ["kills", "damaged tails", "events acknowledged", "pushed again", "lost", "features that are wrong"]


@dataclass(frozen=True, slots=True)
class Measured:
    """`torn`: rounds after which the end of the log was damaged; `resent`: events that were durable before anybody was told,
    and were pushed again; `lost` of the acknowledged; `mistakes`: features of cards that were not as they must be."""

    rounds: int
    torn: int
    events: int
    resent: int
    lost: int
    mistakes: int
    wrong: list[str]


def run(setting: Setting) -> Part:
    """Measure and conclude."""
    rounds = 10 if setting.quick else ROUNDS
    say(f"crash: {rounds} rounds")
    setting.out.mkdir(parents=True, exist_ok=True)
    order = {"folder": str(setting.out), "rounds": rounds, "seed": setting.seed}
    found = Measured(**run_driver("crash", order, core=(SERVER_CORE, LOAD_CORE)))
    promise = (
        f"crash: after each of {rounds} kills the state is that of an unbroken run, and nothing acknowledged is lost"
    )
    said = f"{found.lost} lost, {found.mistakes} wrong, of {found.events:,} events"
    row = [found.rounds, found.torn, found.events, found.resent, found.lost, found.mistakes]
    about = "A log with fsync, a snapshot each second, event ids; every card's windows after every restart, beside their meaning."
    return Part(
        [kept(promise, not found.lost and not found.mistakes, said)],
        [Table("Crashes", about, COLUMNS, [list(row)])],
        notes=found.wrong,
        data=found,
    )
