"""What is served as a language model, as text for people."""

from __future__ import annotations

from collections.abc import Iterator

from engine import LanguageModels, LanguageModelSpec, TargetSpec, UpstreamSpec


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
    if spec.upstream is not None:
        yield from upstream_lines(spec.upstream)
    yield f"  at most {spec.calls_max} calls under way, {bound}"


def upstream_lines(spec: UpstreamSpec) -> Iterator[str]:
    """The targets of one, what each is asked, and what happens when none answers. No secret is told, only where it is."""
    weights = {name: each.weight for name, each in spec.targets.items()}
    total = sum(weights.values())
    for name, each in spec.targets.items():
        share = f"{weights[name] / total:.0%} of calls" if weights[name] and total else "when all others fail"
        price = each.price
        costs = (
            "no price"
            if price is None
            else f"{price.currency} {price.input:g} in, {price.output:g} out a {price.per_tokens} tokens"
        )
        yield f"  target {name}: {each.provider} at {each.address}, {share}; {_credential(each)}; {costs}"
    retry = spec.retry
    yield f"  tried at most {retry.attempts_max} time(s) inside the deadline; tries again are at most {retry.share:.0%} of calls"
    if spec.fallback:
        yield f"  then {', then '.join(spec.fallback)}"


def _credential(target: TargetSpec) -> str:
    if target.api_key_env is not None:
        return f"key from the environment variable {target.api_key_env}"
    if target.api_key_file is not None or target.token_file is not None:
        return f"{'key' if target.token_file is None else 'token'} from {target.api_key_file or target.token_file}"
    if target.token_command:
        return f"token from the command {target.token_command[0]}"
    return "no credential" if target.entra is None else "token of Entra ID"
