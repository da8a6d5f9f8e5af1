"""What is served as a language model, as text for people."""

from __future__ import annotations

from collections.abc import Iterator

from engine import LanguageModels, LanguageModelSpec


def language_lines(models: LanguageModels, spec: LanguageModelSpec, name: str) -> Iterator[str]:
    """One language model of the spec."""
    problem = models.problems().get(name)
    cards = [each for each in models.cards() if name in (each.id, each.parent)]
    yield f"{name}: language model, {'READY' if cards else 'FAILED'}, {spec.source}" + (
        f"; {problem}" if problem else ""
    )
    if cards:
        yield f"  answers {', '.join(sorted(models.kinds(name)))} calls of {', '.join(each.id for each in cards)}"
        if cards[0].context_tokens is not None:
            yield f"  prompt and answer together: at most {cards[0].context_tokens} tokens"
    bound = (
        "no deadline unless the call brings one"
        if spec.timeout_ms is None
        else f"deadline after {spec.timeout_ms:g} ms"
    )
    yield f"  at most {spec.calls_max} calls under way, {bound}"
