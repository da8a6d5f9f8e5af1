"""Addresses and headers by provider."""

from __future__ import annotations

import pytest

from engine.errors import Unimplemented
from engine.generation.upstream.declaration import TargetSpec
from engine.generation.upstream.endpoint import Credential, headers_of, model_name, url_of

AZURE = TargetSpec("azure", "https://res.openai.azure.com/", deployment="gpt 4o", api_version="2024-10-21")


@pytest.mark.parametrize(
    ("target", "surface", "url"),
    [
        (TargetSpec(), "chat/completions", "https://api.openai.com/v1/chat/completions"),
        (TargetSpec(base_url="http://127.0.0.1:11434/v1/"), "embeddings", "http://127.0.0.1:11434/v1/embeddings"),
        (TargetSpec("anthropic"), "chat/completions", "https://api.anthropic.com/v1/messages"),
        (
            AZURE,
            "chat/completions",
            "https://res.openai.azure.com/openai/deployments/gpt%204o/chat/completions?api-version=2024-10-21",
        ),
        (AZURE, "responses", "https://res.openai.azure.com/openai/responses?api-version=2024-10-21"),
        (
            TargetSpec("azure", "https://res.openai.azure.com", deployment="d"),
            "embeddings",
            "https://res.openai.azure.com/openai/v1/embeddings",
        ),
    ],
)
def test_each_provider_has_its_address(target: TargetSpec, surface: str, url: str) -> None:
    assert url_of(target, surface) == url


def test_anthropic_answers_chats_alone() -> None:
    with pytest.raises(Unimplemented, match="not 'embeddings'"):
        url_of(TargetSpec("anthropic"), "embeddings")


@pytest.mark.parametrize(
    ("target", "credential", "header"),
    [
        (TargetSpec(), Credential("key", "s"), ("authorization", "Bearer s")),
        (AZURE, Credential("key", "s"), ("api-key", "s")),
        (AZURE, Credential("token", "s"), ("authorization", "Bearer s")),
        (TargetSpec("anthropic"), Credential("key", "s"), ("x-api-key", "s")),
        (TargetSpec("anthropic"), Credential("token", "s"), ("authorization", "Bearer s")),
    ],
)
def test_each_provider_takes_its_credential(
    target: TargetSpec, credential: Credential, header: tuple[str, str]
) -> None:
    headers = headers_of(target, credential, stream=False)
    assert header in headers.items()
    assert sum("s" in value.split() for value in headers.values()) == 1
    assert not {"authorization", "api-key", "x-api-key"} & headers_of(target, None, stream=False).keys()


def test_a_credential_shows_itself_to_nobody() -> None:
    assert "secret" not in repr(Credential("key", "secret")) + str(Credential("token", "secret"))


def test_the_model_is_what_the_server_calls_it() -> None:
    assert model_name(TargetSpec(model="gpt"), "chat") == "gpt"
    assert model_name(AZURE, "chat") == "gpt 4o"
    assert model_name(TargetSpec(), "chat") == "chat"
