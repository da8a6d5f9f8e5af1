"""The distributions that tests need, from SciPy: the one file that imports it, when it is first asked. Pure."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.errors import FailedPrecondition


@cache
def _special() -> Any:  # noqa: ANN401  a module
    """SciPy's special functions: what its distributions call, at a thousandth of their overhead."""
    try:
        from scipy import special
    except ImportError as error:
        raise FailedPrecondition("reports of experiments need SciPy: install vireo[experiments]") from error
    return special


def normal_quantile(probability: float) -> float:
    """Of the standard normal distribution."""
    return float(_special().ndtri(probability))


def t_quantile(probability: float, degrees: float) -> float:
    """Of Student's t; `degrees` of freedom need not be whole."""
    return float(_special().stdtrit(degrees, probability))


def t_two_sided(statistic: float, degrees: float) -> float:
    """The chance that Student's t is as far from 0 as `statistic`, or farther."""
    return 2 * float(_special().stdtr(degrees, -abs(statistic)))


def chi_square_p(observed: npt.NDArray[np.int64], expected: npt.NDArray[np.float64]) -> float:
    """Pearson's goodness of fit: the chance of counts as far from `expected` (above 0 each, the same sum), or farther."""
    statistic = float((((observed - expected) ** 2) / expected).sum())
    return float(_special().chdtrc(len(observed) - 1, statistic))
