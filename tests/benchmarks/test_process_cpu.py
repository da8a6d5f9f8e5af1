"""CPU time of a process counts its children and theirs, living ones and those that have ended."""

import subprocess
import sys
from itertools import pairwise

from benchmarks.process_cpu import TICKS_PER_S, ProcessStat, busy_seconds, cpu_seconds, family, parse_stat

BURN = "import time\nwhile time.process_time() < 0.3: pass\n"
GRANDPARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
child.stdout.readline()
print("burnt", flush=True)
sys.stdin.read()
child.kill()
child.wait()
"""
CHILD = """
import subprocess, sys, time
subprocess.run([sys.executable, "-c", BURN])
exec(BURN)
print("burnt", flush=True)
time.sleep(60)
"""


def test_stat_line_is_read_past_a_command_with_brackets() -> None:
    fields = " ".join(["7", *(["0"] * 9), "150", "25", "20", "5", *(["0"] * 20)])
    assert parse_stat(f"42 (python (a) b) S {fields}") == ProcessStat(42, 7, 2.0)


def test_a_machine_is_busy_where_it_neither_idles_nor_waits_and_where_others_have_its_cores() -> None:
    user, nice, system, idle, waiting, irq, softirq, steal, guest = 100, 20, 30, 5000, 600, 7, 8, 9, 50
    line = f"cpu  {user} {nice} {system} {idle} {waiting} {irq} {softirq} {steal} {guest} 0\n"
    assert busy_seconds(line) == 174 / TICKS_PER_S


def test_family_is_the_root_and_all_below_it_in_any_order() -> None:
    parents = {5: 4, 4: 1, 2: 1, 3: 2, 9: 8, 1: 0}
    stats = [ProcessStat(pid, parent, 1.0) for pid, parent in parents.items()]
    assert {stat.pid for stat in family(stats, 1)} == {1, 2, 3, 4, 5}
    assert {stat.pid for stat in family(stats, 4)} == {4, 5}
    assert family(stats, 77) == []


def test_a_living_child_and_its_ended_child_count() -> None:
    child = CHILD.replace("BURN", repr(BURN))
    command = [sys.executable, "-c", GRANDPARENT, child]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as root:
        assert root.stdout is not None
        assert root.stdout.readline() == b"burnt\n"
        first, second = cpu_seconds(root.pid), cpu_seconds(root.pid)
        root.communicate()
    assert 0.55 <= first < 2.0
    assert second - first < 0.1  # nothing burns any more: neither counts twice


def test_time_never_goes_back() -> None:
    readings = [cpu_seconds(1) for _ in range(3)]
    assert all(later >= earlier for earlier, later in pairwise(readings))
