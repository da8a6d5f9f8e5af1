"""The unmodified `openai` client, this server, and providers on real sockets behind it; no real provider is called."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from serving.cli import main
from tests.providers import Breaks, Provider, Refuses, serving
from tests.serving.servers import ServerHere, eventually, spec_for

PROVIDERS = {"a": Provider("openai"), "azure": Provider("azure"), "claude": Provider("anthropic")}
SPEC = """
server: {grpc_port: 0, http_port: 0}
language_models:
  chat:
    upstream:
      targets:
        a:
          base_url: {a}
          model: gpt
          api_key_env: UP_KEY
          price: {currency: USD, per_tokens: 1000000, input: 2.5, output: 10.0}
        azure: {provider: azure, base_url: {azure}, deployment: gpt-4o, api_version: 2024-10-21, api_key_env: UP_KEY, weight: 0}
      fallback: [local]
      quotas: {tenants: {acme: {tokens_per_minute: 50}}}
  claude: {upstream: {targets: {claude: {provider: anthropic, base_url: {claude}, model: sonnet, api_key_env: UP_KEY}}}}
  chained: {upstream: {targets: {inner: {base_url: {inner}, model: parrot}}}}
  local: {call: 'tests.language:Bigrams'}
"""
MESSAGES: Any = [{"role": "user", "content": "hi"}]
TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


@pytest.fixture(scope="module")
def running(transport: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerHere]:
    """A server in front of every provider, and of another server of its own kind."""
    folder = tmp_path_factory.mktemp("upstream")
    inner_spec = "server: {grpc_port: 0, http_port: 0}\nlanguage_models: {parrot: {call: 'tests.language:Bigrams'}}"
    with serving(*PROVIDERS.values()), pytest.MonkeyPatch.context() as patched:
        patched.setenv("UP_KEY", "sk-secret-1")
        inner = ServerHere(spec_for(inner_spec, folder, transport))
        text = SPEC.replace("{inner}", json.dumps(f"http://127.0.0.1:{inner.host.http_port}/v1"))
        for name, each in PROVIDERS.items():
            text = text.replace("{" + name + "}", json.dumps(each.url))
        made = ServerHere(spec_for(text, folder, transport))
        yield made
        made.stop()
        inner.stop()


@pytest.fixture
def client(running: ServerHere) -> Iterator[openai.OpenAI]:
    """The library as its users have it, but that it does not try again by itself."""
    url = f"http://127.0.0.1:{running.host.http_port}/v1"
    for each in PROVIDERS.values():
        each.faults.clear()
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as made:
        yield made


@pytest.mark.parametrize("model", ["chat", "claude"])
def test_chats_streams_and_tools_are_the_same_whoever_answers(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.with_raw_response.create(model=model, messages=MESSAGES)
    assert answer.headers["vireo-target"] in ("a", "claude")
    read = answer.parse()
    assert read.choices[0].message.content == "you said: hi"
    assert read.usage is not None
    assert (read.usage.prompt_tokens, read.usage.completion_tokens) == (12, 5)
    told = [
        each.choices[0].delta.content or ""
        for each in client.chat.completions.create(model=model, messages=MESSAGES, stream=True)
    ]
    assert "".join(told) == "you said: hi"
    with client.chat.completions.stream(model=model, messages=MESSAGES, tools=TOOLS) as stream:
        (called,) = stream.get_final_completion().choices[0].message.tool_calls or []
    assert called.function.name == "weather"
    assert json.loads(called.function.arguments) == {"city": "Oslo"}
    repeated = called.model_dump(exclude={"index": True, "function": {"parsed_arguments"}})
    result: Any = [*MESSAGES, {"role": "assistant", "tool_calls": [repeated]}]
    result.append({"role": "tool", "tool_call_id": called.id, "content": "rain"})
    after = client.chat.completions.create(model=model, messages=result)
    assert after.choices[0].message.content


def test_a_server_of_our_own_is_an_upstream_like_any_other(client: openai.OpenAI) -> None:
    words: Any = [{"role": "user", "content": "the cat sat on"}]
    answer = client.chat.completions.create(model="chained", messages=words, max_tokens=6)
    assert answer.choices[0].message.content == "the cat sat on the cat"
    stream = client.chat.completions.create(model="chained", messages=words, max_tokens=2, stream=True)
    assert [each.choices[0].delta.content for each in stream] == ["the", "cat"]
    with pytest.raises(openai.BadRequestError, match="it has no words"):
        client.chat.completions.create(model="chained", messages=[{"role": "user", "content": " "}])


def test_faults_are_answered_by_another_target_then_by_the_local_model(client: openai.OpenAI) -> None:
    PROVIDERS["a"].faults.append(Refuses(500))
    raw = client.chat.completions.with_raw_response
    assert raw.create(model="chat", messages=MESSAGES).headers["vireo-target"] == "azure"
    for name in ("a", "azure"):
        PROVIDERS[name].faults += [Refuses(500)] * 2
    local = raw.create(model="chat", messages=MESSAGES, max_tokens=1)
    assert local.headers["vireo-target"] == "local"
    assert local.parse().choices[0].message.content == "hi"


def test_errors_have_openais_shape_whoever_made_them(client: openai.OpenAI) -> None:
    PROVIDERS["claude"].faults.append(Refuses(400, message="prompt is too long", type="invalid_request_error"))
    with pytest.raises(openai.BadRequestError, match="prompt is too long") as told:
        client.chat.completions.create(model="claude", messages=MESSAGES)
    assert told.value.type == "invalid_request_error"
    with pytest.raises(openai.BadRequestError, match="logprobs: Anthropic's API has no counterpart"):
        client.chat.completions.create(model="claude", messages=MESSAGES, logprobs=True)
    PROVIDERS["claude"].faults += [Refuses(429, (("retry-after", "31"),))]
    with pytest.raises(openai.RateLimitError) as limited:
        client.with_options(timeout=20).chat.completions.create(model="claude", messages=MESSAGES)
    assert float(limited.value.response.headers["retry-after"]) >= 30
    assert "sk-secret" not in str(limited.value)


def test_a_stream_that_breaks_off_raises_in_the_client(client: openai.OpenAI) -> None:
    PROVIDERS["a"].faults.append(Breaks("middle"))
    with pytest.raises(openai.APIError, match="RemoteProtocolError"):
        list(client.chat.completions.create(model="chat", messages=MESSAGES, stream=True))


def test_a_client_who_leaves_is_seen_by_the_provider(client: openai.OpenAI) -> None:
    provider = PROVIDERS["a"]
    provider.left = 0
    provider.faults += [Breaks("middle", waits=True), Breaks("start", waits=True)]
    stream = client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
    next(iter(stream))
    stream.close()
    eventually(lambda: provider.left == 1, "the provider sees that the stream was left")
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.3).chat.completions.create(model="chat", messages=MESSAGES)
    eventually(lambda: provider.left == 2, "the provider sees that the call was left")


def test_a_tenants_quota_is_told_as_a_rate_limit(client: openai.OpenAI) -> None:
    acme = client.with_options(default_headers={"vireo-tenant": "acme"})
    acme.chat.completions.create(model="chat", messages=MESSAGES, max_tokens=40)
    with pytest.raises(openai.RateLimitError, match="the quota of tenant 'acme' of 50 tokens a minute") as refused:
        acme.chat.completions.create(model="chat", messages=MESSAGES, max_tokens=40)
    assert refused.value.code == "rate_limit_exceeded"
    assert int(refused.value.response.headers["retry-after"]) >= 1


def test_metrics_tell_of_tries_tokens_cost_and_quotas(client: openai.OpenAI, running: ServerHere) -> None:
    client.chat.completions.create(model="chat", messages=MESSAGES)
    url = f"http://127.0.0.1:{running.host.http_port}/metrics"
    lines = dict(each.rsplit(" ", 1) for each in httpx.get(url).text.splitlines() if not each.startswith("#"))
    told = {name: float(value) for name, value in lines.items()}
    assert told['vireo_upstream_tries_total{ending="answered",model="chat",target="a"}'] >= 1
    assert told['vireo_upstream_available{model="chat",target="a"}'] == 1
    tokens = told['vireo_upstream_tokens_total{kind="input",model="chat",target="a"}']
    output = told['vireo_upstream_tokens_total{kind="output",model="chat",target="a"}']
    cost = told['vireo_upstream_cost_total{currency="USD",model="chat",target="a"}']
    assert cost == pytest.approx((tokens * 2.5 + output * 10) / 1e6)
    assert told['vireo_upstream_first_seconds_count{model="chat",target="a"}'] >= 1
    assert told['vireo_quota_tokens_total{model="chat",tenant="acme"}'] == 17


def test_the_tutorials_program_runs(running: ServerHere, capsys: pytest.CaptureFixture[str]) -> None:
    page = Path(__file__).parents[2] / "docs" / "tutorials" / "upstream-providers.md"
    (program,) = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    program = program.replace("127.0.0.1:8000", f"127.0.0.1:{running.host.http_port}").replace("assistant", "chat")
    exec(compile(program, page.name, "exec"), {"__name__": page.stem})
    assert capsys.readouterr().out == "you said: Hello"


def test_check_and_explain_say_where_a_model_is_and_never_its_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = tmp_path / "app.yaml"
    app.write_text(
        "language_models:\n  chat:\n    upstream:\n      targets:\n"
        "        a: {api_key_env: UP_KEY, price: {currency: USD, per_tokens: 1000000, input: 2.5, output: 10.0}}\n"
        "        b: {provider: anthropic, api_key_env: UP_KEY, weight: 0}\n"
        "      fallback: [local]\n  local: {call: 'tests.language:Bigrams'}\n"
    )
    monkeypatch.delenv("UP_KEY", raising=False)
    assert main(["check", str(app)]) == 1
    told = capsys.readouterr()
    assert "targets.a.api_key_env: the environment variable 'UP_KEY' is not set" in told.err
    monkeypatch.setenv("UP_KEY", "sk-secret-1")
    assert main(["check", str(app)]) == 0
    capsys.readouterr()
    assert main(["explain", str(app)]) == 0
    told = capsys.readouterr()
    assert (
        "target a: openai at https://api.openai.com/v1, 100% of calls; key from the environment variable UP_KEY; "
        "USD 2.5 in, 10 out a 1000000 tokens"
    ) in told.out
    assert "target b: anthropic at https://api.anthropic.com/v1, when all others fail" in told.out
    assert "then local" in told.out
    assert "sk-secret" not in told.out + told.err
