"""estimates: a number with its interval, and the mean of several runs' with what lies between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

CONFIDENCE = 0.95  # of an interval between runs


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; NaN for what is not known. `of`: how many runs it is the mean of."""

    value: float = np.nan
    low: float = np.nan
    high: float = np.nan
    of: int = 1

    @property
    def known(self) -> bool:
        """Whether there is a number."""
        return bool(np.isfinite(self.value))


def average(estimates: Sequence[Estimate], *, confidence: float = CONFIDENCE) -> Estimate:
    """A point of a line. One run: its own number and interval. Several: their mean, with what lies between runs: the
    range of two, the t interval (Student 1908) of m ≥ 3: mean ∓ t · s / √m, s² = Σ (x − mean)² / (m − 1), t the
    (1 + `confidence`) / 2 quantile with m − 1 degrees of freedom. Runs without the number are left out; NaN, `of` 0,
    without any.

    >>> found = average([Estimate(1.0), Estimate(2.0), Estimate(3.0)])
    >>> found.of, found.value, round(found.low, 4), round(found.high, 4)
    (3, 2.0, -0.4841, 4.4841)
    """
    known = [each for each in estimates if each.known]
    if len(known) < 2:
        return known[0] if known else Estimate(of=0)
    values = np.array([each.value for each in known])
    mean = float(values.mean())
    if len(values) == 2:
        return Estimate(mean, float(values.min()), float(values.max()), 2)
    freedom = len(values) - 1
    reach = float(stdtrit(freedom, (1 + confidence) / 2) * values.std(ddof=1) / np.sqrt(len(values)))
    return Estimate(mean, mean - reach, mean + reach, len(values))
