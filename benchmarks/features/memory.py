"""Part `memory`: bytes of resident memory that a hot and an idle entity take, in processes of their own."""

from dataclasses import dataclass

from benchmarks.features.part import Part, Setting, kept, run_driver, say
from benchmarks.features.views import judged_view
from benchmarks.harness import SERVER_CORE
from benchmarks.table import Table

HOT_BYTES_MAX, IDLE_BYTES_MAX = 2200.0, 300.0
IDLE_EVENTS = (1, 3, 5, 8, 12)
HANDFUL = 5
HOT, IDLE = "hot", "idle"
AT_ONCE = "hot, all at the same moment"
COLUMNS = ["what", "entities", "events each", "resident bytes each", "bytes the state tells of"]


@dataclass(frozen=True, slots=True)
class Measured:
    """`events` of each of `entities`; `bytes_each`: growth of the process, an entity."""

    what: str
    entities: int
    events: int
    bytes_each: float
    told_each: float


def run(setting: Setting) -> Part:
    """Measure and conclude."""
    hot, idle = (50_000, 100_000) if setting.quick else (200_000, 1_000_000)
    say("memory of hot and of idle entities")
    found = [
        measure(setting, HOT, hot, "hot", before=hot),
        measure(setting, AT_ONCE, hot, "hot"),
        *(measure(setting, IDLE, idle, events) for events in IDLE_EVENTS),
    ]
    hot_bytes, idle_bytes = found[0].bytes_each, found[2 + IDLE_EVENTS.index(HANDFUL)].bytes_each
    about = (
        "Growth of resident memory of a process that does nothing else; the judged view of 21 features. 'hot' is what "
        "each of as many more entities costs; where all turn hot at the same moment, their room as idle ones is still held."
    )
    return Part(
        judgements=[
            kept(
                f"memory: at most {HOT_BYTES_MAX:,.0f} B a hot entity, every tile filled",
                hot_bytes <= HOT_BYTES_MAX,
                f"{hot_bytes:,.0f} B",
            ),
            kept(
                f"memory: at most {IDLE_BYTES_MAX:g} B an idle entity of {HANDFUL} events",
                idle_bytes <= IDLE_BYTES_MAX,
                f"{idle_bytes:,.0f} B",
            ),
        ],
        tables=[
            Table("Memory", about, COLUMNS, [[e.what, e.entities, e.events, e.bytes_each, e.told_each] for e in found]),
        ],
        data=found,
    )


def measure(setting: Setting, what: str, entities: int, events: int | str, before: int = 0) -> Measured:
    """One process."""
    view = judged_view(entities_max=2 * (entities + before))
    order = {"view": view, "entities": entities, "events": events, "before": before, "seed": setting.seed}
    found = run_driver("memory", order, core=SERVER_CORE)
    return Measured(what, entities, found["events"], found["bytes_each"], found["told_each"])
