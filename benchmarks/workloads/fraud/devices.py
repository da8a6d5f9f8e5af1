"""The device that each transaction comes from. synccfd simulates none, so one is given by hashes, blind to fraud.

A customer owns one to three devices, and one household in four shares its devices. Which of them a transaction uses depends on
its number alone. So a device tells a model nothing that card and amount do not: it is here for the work of a third entity,
and because a decision without one would be unlike any real one. Pure.
"""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

DEVICES_MAX = 3
HOUSEHOLD = 2
SHARING_ONE_IN = 4

_OWNED, _SHARED, _CHOSEN = 1, 2, 3
"""What is asked of a hash; one seed each."""


def devices_of(customer: Ints, transaction: Ints) -> Ints:
    """A device for each transaction, int64, not negative, by its customer and its own number (both not negative)."""
    household = customer // HOUSEHOLD
    shares = _hashed(household, _SHARED) % SHARING_ONE_IN == 0
    owner = np.where(shares, household * HOUSEHOLD, customer)
    owned = 1 + _hashed(owner, _OWNED) % DEVICES_MAX
    devices: Ints = owner * DEVICES_MAX + _hashed(transaction, _CHOSEN) % owned
    return devices


def _hashed(values: Ints, seed: int) -> Ints:
    """Not negative; SplitMix64's finaliser (Steele, Lea and Flood 2014)."""
    words = values.astype(np.uint64) + np.array(seed, np.uint64) * np.array(0x9E3779B97F4A7C15, np.uint64)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((words ^ (words >> np.uint64(31))) >> np.uint64(2)).astype(np.int64)
