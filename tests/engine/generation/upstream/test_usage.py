"""Tokens and what they cost."""

from __future__ import annotations

import pytest

from engine.generation.upstream.declaration import PriceSpec
from engine.generation.upstream.usage import Usage, cost, estimate, openai_usage, prompt_bytes, reserve


def test_cost_counts_cached_tokens_at_their_own_price() -> None:
    price = PriceSpec("USD", 1_000_000, input=2.5, output=10.0, cached_input=1.25)
    assert cost(Usage(input=1_000, output=100, cached_input=400), price) == pytest.approx(
        (600 * 2.5 + 400 * 1.25 + 100 * 10) / 1e6
    )
    assert cost(Usage(1_000, 0, 400), PriceSpec("EUR", 1_000, 1.0, 2.0)) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("counted", "usage"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}, Usage(9, 3)),
        ({"prompt_tokens": 9, "total_tokens": 9}, Usage(9)),
        ({"input_tokens": 9, "output_tokens": 3, "input_tokens_details": {"cached_tokens": 4}}, Usage(9, 3, 4)),
        ({"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 40}}, Usage(9, 3, 9)),
        ({"prompt_tokens": 9, "completion_tokens": None, "prompt_tokens_details": None}, Usage(9)),
        ({"prompt_tokens": "9"}, None),
        ({"prompt_tokens": -1}, None),
        ({"prompt_tokens": True}, None),
        (None, None),
        ([], None),
    ],
)
def test_usage_is_read_from_every_surface_and_never_believed_blindly(counted: object, usage: Usage | None) -> None:
    assert openai_usage(counted) == usage


def test_a_call_reserves_its_prompt_and_the_most_it_lets_be_answered() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "x" * 400}], "max_tokens": 50, "n": 3}
    assert reserve(prompt_bytes(body), body) == estimate(405, 0).input + 150
    assert reserve(0, {"max_completion_tokens": 7, "max_tokens": 9, "n": None}) == 7
    assert reserve(0, {"max_tokens": "many"}) == 0


def test_images_in_a_prompt_are_not_taken_for_text() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10_000}}
    assert prompt_bytes({"messages": [{"role": "user", "content": [image, {"type": "text", "text": "what?"}]}]}) < 40
