"""Providers on real sockets, and engines whose spec names them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine import Engine, parse_spec
from tests.providers import Provider, serving

Make = Callable[[str], Engine]


@pytest.fixture(scope="session")
def running() -> Iterator[dict[str, Provider]]:
    """Two OpenAI servers, an Azure resource and Anthropic."""
    made = {
        "a": Provider("openai"), "b": Provider("openai"), "azure": Provider("azure"), "claude": Provider("anthropic"),
    }  # fmt: skip
    with serving(*made.values()):
        yield made


@pytest.fixture
def providers(running: dict[str, Provider], monkeypatch: pytest.MonkeyPatch) -> dict[str, Provider]:
    """They, as if nobody had asked them yet; the key they want is in the environment."""
    for each in running.values():
        each.asked.clear()
        each.faults.clear()
        each.connections.clear()
        each.left = 0
    monkeypatch.setenv("UP_KEY", "sk-secret-1")
    return running


@pytest.fixture
def make(providers: dict[str, Provider], tmp_path: Path) -> Iterator[Make]:
    """Starts an engine from what its `language_models` say, in YAML; {a} stands for the address of provider a."""
    made = []

    def build(models: str) -> Engine:
        for name, each in providers.items():
            models = models.replace("{" + name + "}", json.dumps(each.url))
        engine = Engine(parse_spec(f"language_models:\n{models}", folder=tmp_path))
        made.append(engine)
        engine.start()
        assert not engine.problems()
        return engine

    yield build
    for each in made:
        each.close(1.0)
