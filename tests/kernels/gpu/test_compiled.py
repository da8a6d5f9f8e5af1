"""Without a GPU: kernels compile for those that they are for, and a multiprocessor has room for them: `make test-gpu`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

STACK_BYTES_MAX = 600
"""What finds no register is put by before a tile and where keys are kept, not between products."""
FEW_REGISTERS_MAX = 168
"""Three programs of 128 threads share 65,536 registers."""


@pytest.mark.skipif(not (find_spec("torch") and find_spec("triton")), reason="wants torch and triton: make test-gpu")
@pytest.mark.parametrize(
    ("capability", "kinds"), [(90, ["float16", "bfloat16", "int8", "binary"]), (89, ["binary"]), (100, ["float16"])]
)
def test_every_kernel_that_a_search_launches_compiles_and_has_room(
    capability: int, kinds: list[str], tmp_path: Path
) -> None:
    """Not with the interpreter, which is chosen for a whole process."""
    command = [sys.executable, "-m", "tests.kernels.gpu.compiled", str(capability), *kinds]
    compiled = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(command, env=compiled, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3_000:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    scans = [each for each in found if each["kernel"] == "scan"]
    # of each kind three sizes of a block of queries, rows that are all, listed or in a bitset, and the first round
    assert len(scans) >= 18 * len(kinds)
    assert len(found) - len(scans) in range(6, 12)
    for each in found:
        assert each["shared_bytes"] <= each["shared_bytes_max"], each
        assert each["stack_bytes"] <= STACK_BYTES_MAX, each
    for each in scans:
        assert each["warp_groups"] == (capability == 90), each
        if each["KIND"] == 0 and each["QUERIES"] == 16:
            assert each["registers"] <= FEW_REGISTERS_MAX or capability != 90, each
