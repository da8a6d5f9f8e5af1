"""The table of states."""

from __future__ import annotations

from itertools import product

import pytest

from engine.control.lifecycle import MOVES, IllegalMove, State, move

LEGAL = [(state, to) for state, to in product(State, State) if to in MOVES[state]]
ILLEGAL = [pair for pair in product(State, State) if pair not in LEGAL]


@pytest.mark.parametrize(("state", "to"), LEGAL)
def test_every_legal_move_gives_the_new_state(state: State, to: State) -> None:
    assert move(state, to) is to


@pytest.mark.parametrize(("state", "to"), ILLEGAL)
def test_every_illegal_move_raises(state: State, to: State) -> None:
    with pytest.raises(IllegalMove, match=f"{state.value} cannot become {to.value}"):
        move(state, to)


def test_every_state_is_in_the_table_and_reaches_the_end() -> None:
    assert MOVES.keys() == set(State)
    reaching = {State.UNLOADED}
    for _ in State:
        reaching |= {state for state, tos in MOVES.items() if tos & reaching}
    assert reaching == set(State)


def test_nothing_becomes_ready_without_having_been_warmed() -> None:
    assert [state for state, tos in MOVES.items() if State.READY in tos] == [State.WARMING]
