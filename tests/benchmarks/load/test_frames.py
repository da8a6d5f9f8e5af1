"""The frames file: what is joined can be split, what is damaged is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.load.frames import FramesError, join_frames, message_of, split_frames


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=20))
def test_split_gives_back_what_was_joined(messages: list[bytes]) -> None:
    assert [message_of(frame) for frame in split_frames(join_frames(messages))] == messages


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"\x00\x00\x00", "prefix"),
        (b"\x00\x00\x00\x00\x05abc", "says 5 bytes, 3 are left"),
        (b"\x01\x00\x00\x00\x00", "compressed"),
    ],
)
def test_damaged_file_is_refused_with_the_reason(content: bytes, said: str) -> None:
    with pytest.raises(FramesError, match=said):
        split_frames(content)
