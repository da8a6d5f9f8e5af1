"""What a spec may say of language models."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import SpecError, parse_spec


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ("a: {}", "app.yaml:2: language_models.a: exactly one of"),
        ("a: {call: nowhere}", "app.yaml:2: language_models.a.call: expected 'package.module:name', got 'nowhere'"),
        ("a: {call: 'm:f', calls_max: 0}", "language_models.a.calls_max: must be from 1"),
        ("a: {call: 'm:f', timeout_ms: -1}", "language_models.a.timeout_ms: must be from 0.001"),
        ("a: {call: 'm:f', load_s_max: 0}", "language_models.a.load_s_max: must be over 0 and at most 86400, got 0"),
        ("a: {cal: 'm:f'}", "unknown key 'cal'; nearest: 'call'"),
        ("f: {call: 'm:f'}", "language_models.f: something else has that name already"),
        ("'': {call: 'm:f'}", "a name has from 1 to"),
        (
            "a: {call: 'm:f', vllm: {model: m}}",
            "says what it is, got vllm and call",
        ),
        ("a: {vllm: {model: m, args: {port: 1}}}", "language_models.a.vllm.args.port: is not for vLLM"),
        ("a: {vllm: {model: m, args: {'--seed': 1}}}", "as on vLLM's command line, without the dashes before it"),
        ("a: {vllm: {model: m, adapters: {f: x}}}", "language_models.a.vllm.adapters.f: something else has that name"),
    ],
)
def test_a_wrong_declaration_is_refused_with_its_place(section: str, told: str) -> None:
    functions = "functions: {f: {call: 'm:f', inputs: {}, outputs: {}}}"
    with pytest.raises(SpecError) as raised:
        parse_spec(f"language_models:\n  {section}\n{functions}", folder=Path(), source="app.yaml")
    assert told in raised.value.message


def test_defaults_are_told_by_the_declaration() -> None:
    spec = parse_spec("language_models: {a: {call: 'm:f'}}", folder=Path())
    model = spec.language_models["a"]
    assert (model.call, model.timeout_ms, model.calls_max, model.load_s_max) == ("m:f", None, 1024, 1800.0)
