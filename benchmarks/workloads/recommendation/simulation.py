"""Users whose true preferences are known, and two rankers of which one knows them better: whether an experiment finds the better
ranker can be tested, for the true lift is known.

Each user has a latent taste, each item a latent character; a shown item is clicked with the logistic chance of how well they
fit, and of how eager the user is. A ranker knows that fit blurred by noise of its own and shows the best by what it knows;
`blurred` knows it worse than `sharp`. Everything follows from the seed. The rankers may be served: as functions of a spec they
take `user` and give `items`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

SEED: Final = 20_260_101
USERS: Final = 4_000
ITEMS: Final = 60
SHOWN: Final = 5
TASTES: Final = 8
BLUR: Final = {"blurred": 1.6, "sharp": 1.0}
"""Standard deviation of what a ranker does not know of a fit, whose own is 1."""

CLICK_BIAS: Final = -2.5
"""One in thirteen shown items is clicked that fits neither well nor badly, by a user who is neither eager nor idle."""

EAGERNESS: Final = 0.8
"""Standard deviation of users' own biases."""


@dataclass(frozen=True, slots=True)
class Population:
    """`chances` [users, items]: of a click on an item that is shown. `slates` [users, SHOWN] by ranker: the items it shows."""

    chances: Floats
    slates: Mapping[str, Integers]

    def expected(self, ranker: str) -> Floats:
        """Clicks to expect of each user for one slate."""
        found: Floats = np.take_along_axis(self.chances, self.slates[ranker], 1).sum(1)
        return found

    def lift(self, ranker: str, over: str) -> float:
        """The truth that an experiment looks for, as a share of `over`'s expected clicks."""
        return float(self.expected(ranker).mean() / self.expected(over).mean() - 1)

    def clicks(self, users: Integers, items: Integers, random: np.random.Generator) -> npt.NDArray[np.bool_]:
        """Whether each of `users` [n] clicks each of `items` [n, shown] that it is shown, drawn from its true chances."""
        return random.random(items.shape) < self.chances[users[:, None], items]


@cache
def population(seed: int = SEED) -> Population:
    """The same for the same seed."""
    random = np.random.default_rng(seed)
    tastes, characters = random.normal(size=(USERS, TASTES)), random.normal(size=(ITEMS, TASTES))
    fits = tastes @ characters.T / np.sqrt(TASTES)
    slates = {
        ranker: np.argsort(-(fits + random.normal(0, blur, fits.shape)), 1, kind="stable")[:, :SHOWN]
        for ranker, blur in BLUR.items()
    }
    eagerness = random.normal(0, EAGERNESS, (USERS, 1))
    return Population(1 / (1 + np.exp(-(CLICK_BIAS + eagerness + fits))), slates)


def blurred(user: Integers) -> dict[str, Integers]:
    """The ranker that knows less: INT64 [rows] to `items` [rows, SHOWN]."""
    return {"items": population().slates["blurred"][user]}


def sharp(user: Integers) -> dict[str, Integers]:
    """The ranker that knows more, as `blurred`."""
    return {"items": population().slates["sharp"][user]}
