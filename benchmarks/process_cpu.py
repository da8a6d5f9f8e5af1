"""CPU time of a process and all its living descendants, and of the whole machine, from /proc (Linux)."""

import os
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """What we read of /proc/PID/stat. The CPU time holds that of children already waited for."""

    pid: int
    parent: int
    cpu_s: float


def parse_stat(text: str) -> ProcessStat:
    """Read one stat line; the command name in it may hold spaces and brackets (proc(5))."""
    pid, rest = text.split(" ", 1)
    fields = rest[rest.rindex(")") + 2 :].split()
    ticks = sum(int(field) for field in fields[11:15])
    return ProcessStat(int(pid), int(fields[1]), ticks / TICKS_PER_S)


def family(stats: list[ProcessStat], root: int) -> list[ProcessStat]:
    """The process `root` and its descendants."""
    members = {root}
    grown = True
    while grown:
        more = {stat.pid for stat in stats if stat.parent in members} - members
        members |= more
        grown = bool(more)
    return [stat for stat in stats if stat.pid in members]


def cpu_seconds(root: int) -> float:
    """CPU seconds that `root` and its descendants have used so far, user and system; resolution one tick, 10 ms."""
    return sum(stat.cpu_s for stat in family(read_stats(), root))


def own_cpu_seconds(pid: int) -> float:
    """CPU seconds of the process `pid` without its living children, user and system; resolution one tick, 10 ms."""
    return parse_stat((PROC / str(pid) / "stat").read_text()).cpu_s


def busy_seconds(line: str) -> float:
    """CPU seconds in the first line of /proc/stat that were not idle: what the hypervisor gave to others is among them."""
    user, nice, system, _, _, irq, softirq, steal, *_ = map(int, line.split()[1:])  # guests are in user (proc(5))
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_S


def machine_cpu_seconds() -> float:
    """CPU seconds of all cores so far; resolution one tick, 10 ms."""
    with (PROC / "stat").open() as file:
        return busy_seconds(file.readline())


def read_stats() -> list[ProcessStat]:
    """Every process that can be read now."""
    found = []
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                found.append(parse_stat((entry / "stat").read_text()))
            except OSError:  # it has just ended
                continue
    return found
