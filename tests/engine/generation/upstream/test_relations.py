"""What a spec may not say of models elsewhere: each mistake is named with its line and key, and no secret."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from engine import Engine, SpecError, parse_spec

LOCAL = "base_url: 'http://127.0.0.1:1/v1'"


def _parse(target: str = LOCAL, rest: str = "") -> None:
    parse_spec(
        f"language_models:\n  chat:\n    upstream:\n      targets:\n        t: {{{target}}}\n{rest}", folder=Path()
    )


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("provider: mistral", r"spec:5: .*targets.t.provider: expected one of 'openai', 'azure', 'anthropic', got 'mistral'"),
        ("providr: openai", r"spec:5: .*targets.t: unknown key 'providr'; nearest: 'provider'"),
        ("provider: openai", r"targets.t: openai wants a credential; give one of api_key_env, api_key_file, "),
        ("provider: anthropic", r"anthropic wants a credential"),
        ("provider: azure", "base_url: an Azure resource has an address of its own"),
        (f"provider: azure, {LOCAL}", "deployment: Azure OpenAI names its models by deployment"),
        (f"{LOCAL}, deployment: d", "deployment: is Azure's; the provider here is 'openai'"),
        (f"{LOCAL}, api_version: 2024-10-21", "api_version: is Azure's"),
        (f"{LOCAL}, entra: {{}}", "entra: is Azure's"),
        ("base_url: 'ftp://x'", "base_url: expected an http:// or https:// URL, got 'ftp://x'"),
        ("base_url: 'http://x:99999'", "base_url: expected an http:// or https:// URL"),
        ("base_url: 'https://u:p@x'", "base_url: must have no user, query or fragment"),
        ("base_url: 'http://example.com', api_key_env: K", "base_url: a credential would be sent unencrypted"),
        (f"{LOCAL}, api_key_env: K, token_file: f", "token_file: one credential is enough, 'api_key_env' is given too"),
        (f"{LOCAL}, headers: {{Authorization: x}}", "headers.Authorization: is set by what says"),
        (f"{LOCAL}, headers: {{'a b': x}}", "headers.a b: is no HTTP header"),
        (f"{LOCAL}, price: {{input: 1.0, output: 2.0}}", "targets.t.price: missing key 'currency'"),
        (f"{LOCAL}, price: {{currency: USD, input: 1.0, output: 2.0}}", "targets.t.price: missing key 'per_tokens'"),
        (f"{LOCAL}, price: {{currency: $, per_tokens: 1, input: 1.0, output: 2.0}}", "expected a code of ISO 4217 such as USD"),
        (f"{LOCAL}, price: {{currency: USD, per_tokens: 0, input: 1.0, output: 2.0}}", "price.per_tokens: must be from 1"),
        (f"{LOCAL}, price: {{currency: USD, per_tokens: 1, input: -1.0, output: 2.0}}", "price.input: must be 0 or more"),
        (f"{LOCAL}, weight: -1", "weight: must be 0 or more, got -1"),
        (f"{LOCAL}, weight: .nan", "weight: must be 0 or more, got nan"),
        (f"{LOCAL}, connect_s_max: 0", "connect_s_max: must be from 0.001"),
    ],
)  # fmt: skip
def test_a_target_that_cannot_work_is_refused_at_its_line(target: str, told: str) -> None:
    with pytest.raises(SpecError, match=told):
        _parse(target)


@pytest.mark.parametrize(
    ("rest", "told"),
    [
        (
            "      fallback: [locl]\n  local: {call: 'a:b'}",
            "fallback.*no language model is called 'locl'; nearest: 'local'",
        ),
        ("      fallback: [chat]", "fallback.*'chat' asks 'chat' in turn"),
        (
            f"      fallback: [other]\n  other: {{upstream: {{targets: {{t: {{{LOCAL}}}}}, fallback: [chat]}}}}",
            "fallback.*'other' asks 'chat' in turn",
        ),
        ("      retry: {attempts_max: 0}", "retry.attempts_max: must be from 1 to 20, got 0"),
        ("      retry: {backoff_s_min: 9}", "retry.backoff_s_min: must be from 0 to 4, got 9"),
        ("      ejection: {eject_s: 0}", "ejection.eject_s: must be from 0.001"),
        ("      quotas: {default: {tokens_per_minute: 0}}", "quotas.default.tokens_per_minute: must be from 1"),
        ("      quotas: {tenants: {a: {requests_per_minute: 0}}}", "quotas.tenants.a.requests_per_minute: must be"),
        ("    call: 'a:b'", "exactly one of .*upstream.* says what it is"),
    ],
)
def test_a_model_that_cannot_work_is_refused_at_its_line(rest: str, told: str) -> None:
    with pytest.raises(SpecError, match=told):
        _parse(rest=rest)


def test_what_stands_in_the_spec_may_work() -> None:
    _parse("api_key_env: K, headers: {OpenAI-Organization: org-1}")
    _parse("base_url: 'http://example.com', api_key_env: K, allow_plain_http: true")
    _parse("base_url: 'http://localhost:11434/v1', api_key_env: K")
    _parse("base_url: 'http://[::1]:8000/v1', token_command: [echo, x]")


@pytest.mark.parametrize(
    ("credential", "told"),
    [
        ("api_key_env: UNSET_KEY", "targets.t.api_key_env: the environment variable 'UNSET_KEY' is not set"),
        ("api_key_env: BAD_KEY", "what the environment variable 'BAD_KEY' holds is not one word of ASCII"),
        ("api_key_file: nowhere", r"targets.t.api_key_file: .*nowhere cannot be read: No such file"),
        ("token_file: empty", r"targets.t.token_file: what .*empty holds is empty"),
        ("token_file: large", r"large has more than 16384 bytes"),
    ],
)
def test_a_credential_that_is_not_there_is_told_of_and_never_shown(
    credential: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAD_KEY", "sk-secret with\na line")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "large").write_text("x" * 20_000)
    spec = f"language_models: {{chat: {{upstream: {{targets: {{t: {{{LOCAL}, {credential}}}}}}}}}}}"
    engine = Engine(parse_spec(spec, folder=tmp_path))
    engine.start()
    problem = engine.problems()["chat"]
    engine.close(1.0)
    assert "secret" not in problem
    assert re.search(told, problem)
