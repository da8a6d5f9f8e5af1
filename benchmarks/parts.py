"""A benchmark of several parts, each of which can be run alone with --only; one that breaks down does not end the others."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from benchmarks.command import SkippedError
from benchmarks.features.part import Part, Setting, kept
from benchmarks.options import Options
from benchmarks.report import Report


@dataclass(frozen=True, slots=True)
class Parts:
    """Part X of benchmark `name` is `run` of the module benchmarks.NAME.X. `cache`: below the folder of the fraud inputs' parent,
    for what is costly to make."""

    name: str
    about: str
    names: tuple[str, ...]
    cache: str = ""

    def run(self, options: Options) -> Report:
        """Measure and report. Raises SkippedError for parts that there are none of."""
        if unknown := set(options.only) - set(self.names):
            there = f"there are {', '.join(self.names)}"
            raise SkippedError(f"{self.name} has no part {', '.join(sorted(unknown))}; {there}")
        cache = options.inputs.parent / self.cache
        setting = Setting(options.out, cache, options.inputs, options.quick, options.seed)
        return self.report_of({name: self.run_part(name, setting) for name in options.only or self.names}, options.seed)

    def run_part(self, name: str, setting: Setting) -> Part:
        """One part; what broke down is told in its place."""
        try:
            part: Callable[[Setting], Part] = import_module(f"benchmarks.{self.name}.{name}").run
            return part(setting)
        except Exception as error:  # whatever it was, the other parts go on
            traceback.print_exc()
            return Part([kept(f"{name}: runs to its end", False, f"it broke down: {_last_line(error)}")])

    def report_of(self, found: dict[str, Part], seed: int) -> Report:
        """All parts in one. Pure but for the machine's description."""
        parts = found.values()
        return Report(
            name=self.name,
            about=self.about,
            seed=seed,
            judgements=[judgement for each in parts for judgement in each.judgements],
            tables=[table for each in parts for table in each.tables],
            figures=[figure for each in parts for figure in each.figures],
            data={name: each.data for name, each in found.items()},
            notes=[note for each in parts for note in each.notes],
        )


def _last_line(error: Exception) -> str:
    """Where Python says what it was."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
