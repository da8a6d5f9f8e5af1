"""The stand-ins for providers speak what the providers' own, unmodified libraries understand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from tests.providers import Breaks, Provider, Refuses, serving

MESSAGES: Any = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def providers() -> Iterator[dict[str, Provider]]:
    """One of each kind."""
    made = {"openai": Provider("openai"), "azure": Provider("azure"), "anthropic": Provider("anthropic")}
    with serving(*made.values()):
        yield made


def test_openai_and_azure_clients_read_answers_streams_and_errors(providers: dict[str, Provider]) -> None:
    azure = openai.AzureOpenAI(
        azure_endpoint=providers["azure"].url, api_key="k", api_version="2024-10-21", azure_deployment="d", max_retries=0
    )  # fmt: skip
    for client, provider in (
        (openai.OpenAI(base_url=providers["openai"].url, api_key="k", max_retries=0), providers["openai"]),
        (azure, providers["azure"]),
    ):
        answer = client.chat.completions.create(model="m", messages=MESSAGES)
        assert answer.choices[0].message.content == "you said: hi"
        stream = client.chat.completions.create(
            model="m", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
        assert "".join(each.choices[0].delta.content or "" for each in chunks if each.choices) == "you said: hi"
        assert chunks[-1].usage is not None
        provider.faults.append(Refuses(429, (("retry-after", "1"),), "slow"))
        with pytest.raises(openai.RateLimitError, match="slow"):
            client.chat.completions.create(model="m", messages=MESSAGES)
    assert providers["azure"].asked[0].path == "/openai/deployments/d/chat/completions"


def test_anthropics_client_reads_answers_streams_and_errors(providers: dict[str, Provider]) -> None:
    provider = providers["anthropic"]
    client = anthropic.Anthropic(base_url=provider.url.removesuffix("/v1"), api_key="k", max_retries=0)
    tool: Any = {"name": "weather", "input_schema": {"type": "object"}}
    answer = client.messages.create(model="m", max_tokens=9, messages=MESSAGES)
    assert answer.content[0].model_dump()["text"] == "you said: hi"
    with client.messages.stream(model="m", max_tokens=9, messages=MESSAGES, tools=[tool]) as stream:
        (block,) = stream.get_final_message().content
    assert block.model_dump()["input"] == {"city": "Oslo"}
    provider.faults += [Refuses(529, message="busy", type="overloaded_error"), Breaks("error")]
    with pytest.raises(anthropic.APIStatusError, match="busy"):
        client.messages.create(model="m", max_tokens=9, messages=MESSAGES)
    with pytest.raises(anthropic.APIStatusError, match="too busy"):
        list(client.messages.create(model="m", max_tokens=9, messages=MESSAGES, stream=True))
