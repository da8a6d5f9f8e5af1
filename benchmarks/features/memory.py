"""Part `memory`: bytes of resident memory that a hot and an idle entity take, in processes of their own."""

from dataclasses import dataclass

from benchmarks.features.part import Part, Setting, kept, run_driver, say
from benchmarks.features.views import judged_view
from benchmarks.harness import SERVER_CORE
from benchmarks.table import Table

HOT_BYTES_MAX, IDLE_BYTES_MAX = 2200.0, 300.0
IDLE_EVENTS = (1, 3, 4, 6, 12)
HANDFUL = 4
COLUMNS = ["entities", "events each", "resident bytes each", "bytes the state tells of"]


@dataclass(frozen=True, slots=True)
class Measured:
    """`events` of each of `entities`; `bytes_each`: growth of the process, an entity."""

    entities: int
    events: int
    bytes_each: float
    told_each: float
    hot: bool


def run(setting: Setting) -> Part:
    """Measure and conclude."""
    hot_entities, idle_entities = (20_000, 100_000) if setting.quick else (200_000, 1_000_000)
    say("memory of hot and of idle entities")
    found = [measure(setting, hot_entities, "hot"), *(measure(setting, idle_entities, each) for each in IDLE_EVENTS)]
    (hot,) = (each for each in found if each.hot)
    (idle,) = (each for each in found if not each.hot and each.events == HANDFUL)
    about = "Growth of resident memory of a process that does nothing else; the judged view of 21 features."
    return Part(
        judgements=[
            kept(
                f"memory: at most {HOT_BYTES_MAX:,.0f} B a hot entity, every tile filled",
                hot.bytes_each <= HOT_BYTES_MAX,
                f"{hot.bytes_each:,.0f} B",
            ),
            kept(
                f"memory: at most {IDLE_BYTES_MAX:g} B an idle entity of {HANDFUL} events",
                idle.bytes_each <= IDLE_BYTES_MAX,
                f"{idle.bytes_each:,.0f} B",
            ),
        ],
        tables=[
            Table("Memory", about, COLUMNS, [[e.entities, e.events, e.bytes_each, e.told_each] for e in found]),
        ],
        data=found,
    )


def measure(setting: Setting, entities: int, events: int | str) -> Measured:
    """One process."""
    view = judged_view(entities_max=entities)
    order = {"view": view, "entities": entities, "events": events, "seed": setting.seed}
    found = run_driver("memory", order, core=SERVER_CORE)
    return Measured(entities, found["events"], found["bytes_each"], found["told_each"], events == "hot")
