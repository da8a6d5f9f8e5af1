"""What is wrong with JSON is told by its place, and an unknown key with those that are known there."""

from __future__ import annotations

import pytest

from engine import InvalidArgument
from serving.json_body import decoded
from serving.vectors_json import BatchBody, SearchBody


def test_json_becomes_what_is_declared() -> None:
    found = decoded(b'{"vector": [1, 2], "legs": null, "fusion": {"ranks": {"k": 3}}}', SearchBody)
    assert (found.vector, found.k, found.fusion and found.fusion.ranks and found.fusion.ranks.k) == ([1, 2], 10, 3)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"vectr": [1]}', "body: unknown key 'vectr'; nearest: 'vector'"),
        ('{"limit": 3}', "body: unknown key 'limit'; known: 'candidates', 'diversity', 'effort', "),
        (
            '{"vector": {"indices": [], "values": [], "index": 1}}',
            "body: vector: unknown key 'index'; nearest: 'indices'",
        ),
        ('{"legs": [{}, {"dens": {}}]}', "body: legs[1]: unknown key 'dens'; nearest: 'dense'"),
        ('{"legs": [{"text": {"txt": "a"}}]}', "body: legs[0].text: unknown key 'txt'; nearest: 'text'"),
        ('{"fusion": {"ranks": {"weight": []}}}', "body: fusion.ranks: unknown key 'weight'; nearest: 'weights'"),
        ('{"k": "3"}', "body: Expected `int`, got `str` - at `$.k`"),
        ('{"k": ', "body: Input data was truncated"),
        ("[" * 100_000, "body: "),
        ('{"\\u0000`": 1}', "body: unknown key '\\x00`'; known: "),
        ('{"x` - at `$.nowhere[0].legs": 1}', "body: nowhere[0].legs: unknown key 'x'"),
    ],
)
def test_what_is_wrong_is_told_by_its_place(text: str, told: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        decoded(text.encode(), SearchBody, "body")
    assert caught.value.message.startswith(told), caught.value.message


def test_an_object_in_lists_of_objects_is_found() -> None:
    with pytest.raises(
        InvalidArgument, match=r"^request body: searches\[2\]\.legs\[0\]: unknown key 'txt'; nearest: 'text'"
    ):
        decoded(b'{"searches": [{}, {}, {"legs": [{"txt": 1}]}]}', BatchBody)
