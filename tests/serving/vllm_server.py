"""Servers of a real vLLM, for tests that `make test-vllm` asks for and every other run skips."""

from __future__ import annotations

import os
from typing import Final

import openai
import pytest

from benchmarks.workloads.generation.model import missing
from engine import Spec
from tests.serving.servers import ServerHere

PATIENCE_S: Final = 1800.0
"""A start takes some forty seconds on two cores that are not busy otherwise, and the tests' machines are."""

_ENVIRONMENT: Final = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "0-1",
    "VLLM_ENGINE_READY_TIMEOUT_S": f"{PATIENCE_S:.0f}",
    "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS": f"{PATIENCE_S:.0f}",
    "HF_HUB_OFFLINE": "1",
}


def skip_unless_wanted() -> None:
    """Skips the module that calls it where vLLM is merely installed: its tests take minutes."""
    if os.environ.get("VIREO_TEST_VLLM") != "1":
        pytest.skip(
            "wants a real vLLM and minutes: make test-vllm, which sets VIREO_TEST_VLLM=1", allow_module_level=True
        )
    assert not missing(), f"not installed: {', '.join(missing())}"


def url_of(server: ServerHere) -> str:
    """Where its OpenAI API is."""
    return f"http://127.0.0.1:{server.host.http_port}/v1"


def client_of(server: ServerHere) -> openai.OpenAI:
    """The vendor's client, to be closed, as patient as the server."""
    return openai.OpenAI(base_url=url_of(server), api_key="none", max_retries=0, timeout=PATIENCE_S)


def server_of(spec: Spec) -> ServerHere:
    """One whose models all answer."""
    os.environ.update({name: os.environ.get(name, value) for name, value in _ENVIRONMENT.items()})
    made = ServerHere(spec, patience_s=PATIENCE_S)
    problems = made.engine.problems()
    if problems:
        made.stop()
    assert not problems, problems
    return made
