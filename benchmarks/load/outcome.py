"""What an engine hands back: the samples of a run, and what the generator itself used in the measured part."""

from dataclasses import dataclass

from benchmarks.load.samples import Samples

NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Usage:
    """What the generator itself has used up to an instant, in ns; `spun_ns` is the part of `cpu_ns` that was awake and idle."""

    at_ns: int
    cpu_ns: int
    spun_ns: int


@dataclass(frozen=True, slots=True)
class Window:
    """The measured part of a run, by the generator's usage at both ends."""

    begin: Usage
    end: Usage

    @property
    def duration_s(self) -> float:
        return (self.end.at_ns - self.begin.at_ns) / NS_PER_S

    @property
    def cpu_s(self) -> float:
        """CPU time spent on the load, spinning left out."""
        used = self.end.cpu_ns - self.begin.cpu_ns
        spun = self.end.spun_ns - self.begin.spun_ns
        return (used - spun) / NS_PER_S


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run: all its samples, warm-up included, and how its connections fared."""

    samples: Samples
    window: Window
    reconnects: int
    faults: list[str]
