"""The correction of a model's probabilities, learned on bookings that were open on days that are past."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_CLIP = 0.005
_FARTHEST = 5.0


@dataclass(frozen=True)
class Correction:
    """A number that is added to the log-odds of every probability; 0 changes nothing.

    One number, because it does best on days it was not learned from: docs/outlook.md has what was tried.
    """

    shift: float = 0.0

    def apply(self, probabilities: npt.ArrayLike) -> FloatArray:
        """Return the corrected probabilities, (n,); their order stays."""
        from scipy.special import expit

        p = np.asarray(probabilities, dtype=np.float64)
        return np.asarray(expit(_log_odds(p) + self.shift)) if self.shift else p


def fit_correction(probabilities: npt.ArrayLike, cancelled: npt.ArrayLike, bookings: npt.ArrayLike = 1) -> Correction:
    """Return the correction with which as many cancellations are expected as there were; none without bookings.

    Each row stands for one booking, or for as many as `bookings` says, of which so many were `cancelled`.
    """
    from scipy.optimize import brentq
    from scipy.special import expit

    odds, weights = _log_odds(np.asarray(probabilities, dtype=np.float64)), np.asarray(bookings, dtype=np.float64)
    if len(odds) == 0:
        return Correction()
    came = float(np.sum(cancelled))

    def missing(shift: float) -> float:
        return float((expit(odds + shift) * weights).sum()) - came

    # When all ended the same way, no shift is far enough.
    if missing(_FARTHEST) <= 0 or missing(-_FARTHEST) >= 0:
        return Correction(_FARTHEST if missing(_FARTHEST) <= 0 else -_FARTHEST)
    return Correction(float(brentq(missing, -_FARTHEST, _FARTHEST)))


def _log_odds(p: FloatArray) -> FloatArray:
    from scipy.special import logit

    return np.asarray(logit(np.clip(p, _CLIP, 1 - _CLIP)))
