"""How many of a date's bookings will be cancelled: a distribution, not a number."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(15)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
_BLOCK = 512
_CORRELATIONS = (0.0, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3)


def count_distribution(probabilities: npt.NDArray[Any], correlation: float = 0.0) -> FloatArray:
    """Return the probabilities of 0, 1, …, n cancellations among n bookings, (n + 1,).

    Without a correlation the bookings are independent and the count is Poisson-binomial. With one, they have a common
    cause, such as a concert that is called off: P(cancelled | z) = Φ((Φ⁻¹(p) + √ρ z) / √(1 - ρ)) for a z that is
    standard normal, whose mean is p whatever the correlation ρ (Vasicek, "The distribution of loan portfolio value",
    Risk, 2002). The mean of z is taken by Gauss-Hermite quadrature.
    """
    p = np.clip(np.asarray(probabilities, dtype=np.float64), 1e-9, 1 - 1e-9)[:, None]
    if correlation <= 0:
        return _poisson_binomial(p)[:, 0]
    from scipy.special import ndtr, ndtri

    given = ndtr((ndtri(p) + np.sqrt(correlation) * _NODES) / np.sqrt(1 - correlation))
    mixed: FloatArray = _poisson_binomial(given) @ _WEIGHTS
    return mixed


def _poisson_binomial(p: FloatArray) -> FloatArray:
    """Return the distribution of a sum of independent Bernoulli variables for each column of `p` (n, m): (n + 1, m).

    Exact, one variable after the other (Barlow & Heidtmann, IEEE Transactions on Reliability 33, 1984); of many, the
    halves are convolved. `scipy.stats.poisson_binom` is too new for two of the runtimes.
    """
    if len(p) > _BLOCK:
        from scipy.signal import fftconvolve

        half = len(p) // 2
        both = fftconvolve(_poisson_binomial(p[:half]), _poisson_binomial(p[half:]), axes=0)
        return np.asarray(np.clip(both, 0.0, None))
    found = np.zeros((len(p) + 1, p.shape[1]))
    found[0] = 1.0
    for n, q in enumerate(p, start=1):
        found[1 : n + 1] = found[1 : n + 1] * (1 - q) + found[:n] * q
        found[0] *= 1 - q
    return found


def central_interval(distribution: FloatArray, coverage: float) -> tuple[int, int]:
    """Return the smallest and largest count of the central interval: at least `coverage` of the probability."""
    below = np.cumsum(distribution)
    tail = (1 - coverage) / 2
    low, high = (int(np.searchsorted(below, share - 1e-12)) for share in (tail, 1 - tail))
    return low, min(high, len(distribution) - 1)


def fitted_correlation(dates: Iterable[tuple[npt.NDArray[Any], int]]) -> float:
    """Return the correlation under which the counts that came are most likely, 0 for independent bookings.

    `dates` has for each date the probabilities of its bookings and how many of them were cancelled.
    """
    known = list(dates)

    def log_likelihood(correlation: float) -> float:
        return float(sum(np.log(count_distribution(p, correlation)[count] + 1e-300) for p, count in known))

    return max(_CORRELATIONS, key=log_likelihood) if known else 0.0
