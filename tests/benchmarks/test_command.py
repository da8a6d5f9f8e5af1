"""A benchmark that is told to end leaves nothing running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.manifests import ROOT

HELD = """
import sys, time
from benchmarks import __main__ as named
from benchmarks.harness import ServerProcess

def run(options):
    with ServerProcess([sys.executable, "-c", "import time; time.sleep(600)"], log=options.out / "log", core=None) as server:
        print(server.pid, flush=True)
        time.sleep(600)

named.APART["ray"] = run
sys.exit(named.main(["ray", *sys.argv[1:]]))
"""


def test_sigterm_ends_the_servers_that_a_benchmark_has_started(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HELD, "--out", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        server = int(process.stdout.readline())
        os.kill(server, 0)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):  # waited for by the benchmark
        os.kill(server, 0)
