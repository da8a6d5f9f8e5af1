"""An engine of a real vLLM that is not there in time is given up, and its processes with it."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import httpx

from benchmarks.workloads.generation.model import write_model
from tests.serving.servers import ServerHere, spec_for
from tests.serving.vllm_server import PATIENCE_S, skip_unless_wanted
from tests.test_docs import ROOT

skip_unless_wanted()

SPEC = """
server: {grpc_port: 0, http_port: 0}
language_models:
  smol: {load_s_max: 8, vllm: {model: smol, args: {enforce-eager: true, max-model-len: 512}}}
"""
"""Its weights alone are not there within that, nor PyTorch in the process of the core."""


def cores() -> list[str]:
    """The processes that vLLM has here, by name."""
    return [each.name for each in multiprocessing.active_children() if each.name.startswith("EngineCore")]


def test_an_engine_that_takes_too_long_is_told_and_its_processes_end(tmp_path: Path) -> None:
    import vllm.v1.engine.async_llm  # noqa: F401  so that the core's process is begun within the bound

    write_model(ROOT / ".cache" / "generation" / "smol")
    (tmp_path / "smol").symlink_to(ROOT / ".cache" / "generation" / "smol")
    server = ServerHere(spec_for(SPEC, tmp_path, "native"), patience_s=PATIENCE_S)
    try:
        told = "it hangs: it was not loaded within 8 s (load_s_max)"
        assert server.engine.problems() == {"smol": told}
        url = f"http://127.0.0.1:{server.host.http_port}"
        ready = httpx.get(f"{url}/readyz", timeout=PATIENCE_S)
        assert ready.status_code == 503
        asked = httpx.post(f"{url}/v1/completions", json={"model": "smol", "prompt": "a"}, timeout=PATIENCE_S)
        assert (asked.status_code, told in asked.text) == (503, True)
        end = time.monotonic() + PATIENCE_S
        while cores():
            assert time.monotonic() < end
            time.sleep(0.05)
    finally:
        server.stop()
