"""The states of one model version and the moves between them, as a table. Pure."""

from __future__ import annotations

from enum import Enum
from typing import Final


class State(Enum):
    """Where a model version is in its life."""

    WANTED = "WANTED"
    LOADING = "LOADING"
    WARMING = "WARMING"
    READY = "READY"
    DRAINING = "DRAINING"
    UNLOADED = "UNLOADED"
    FAILED = "FAILED"


MOVES: Final[dict[State, frozenset[State]]] = {
    State.WANTED: frozenset({State.LOADING}),
    State.LOADING: frozenset({State.WARMING, State.FAILED}),
    State.WARMING: frozenset({State.READY, State.FAILED}),
    State.READY: frozenset({State.DRAINING}),
    State.DRAINING: frozenset({State.UNLOADED}),
    State.UNLOADED: frozenset(),
    State.FAILED: frozenset({State.UNLOADED}),
}


class IllegalMove(AssertionError):
    """The reconciler asked for a move the table does not have: our mistake, never the user's."""


def move(state: State, to: State) -> State:
    """`to`, where the table allows it from `state`; else IllegalMove."""
    if to not in MOVES[state]:
        raise IllegalMove(f"{state.value} cannot become {to.value}")
    return to
