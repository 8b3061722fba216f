"""Shares: how many detectors suppress their triggers, beside the nulls, with an interval (paper, §4.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

INTERVAL_Z = 1.959963984540054  # two-sided 95%
SHARES = ("suppressing", "null_neurons", "null_tokens")
COLUMNS = tuple(f"{name}{end}" for name in SHARES for end in ("", "_low", "_high"))


@dataclass(frozen=True)
class Observations:
    """The detectors of one n in one layer, a row each.

    supported     bool `(detector,)`
    cluster       int64 `(detector,)`: the token it is most active on, of its covered ones, by group of variants
    suppressing   float64 `(detector,)`: 1 if the weighted mean projection at its covered tokens is < 0, else 0
    null_neurons  float64 `(detector,)`: share of the sampled neurons for which that is < 0; NaN without any
    null_tokens   float64 `(detector,)`: share of its sets of control tokens for which it is; NaN without any
    """

    supported: np.ndarray
    cluster: np.ndarray
    suppressing: np.ndarray
    null_neurons: np.ndarray
    null_tokens: np.ndarray


def summarize(
    layers: Sequence[Mapping[int, Observations]], *, z: float = INTERVAL_Z
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Shares of detectors that suppress their triggers, beside the nulls: by layer, and over all layers together.

    `layers`: the observations by n of each. Returns columns `suppressing`, `null_neurons`, `null_tokens`, each with
    `_low` and `_high` (`share_interval`): float64 `(support, n, layer)` and `(support, n)`, n ascending; support 0 =
    all detectors, 1 = the well supported ones. NaN where there is no detector, or none that has such a null.
    """
    ns = sorted(set().union(*layers))
    by_layer = {name: np.full((2, len(ns), len(layers)), np.nan) for name in COLUMNS}
    overall = {name: np.full((2, len(ns)), np.nan) for name in COLUMNS}
    for support, i in np.ndindex(2, len(ns)):
        found = [layer[ns[i]] for layer in layers]
        kept = [of.supported | (support == 0) for of in found]
        clusters = [of.cluster[keep] for of, keep in zip(found, kept, strict=True)]
        for name in SHARES:
            values = [getattr(of, name)[keep] for of, keep in zip(found, kept, strict=True)]
            together = share_interval(np.concatenate(values), np.concatenate(clusters), z=z)
            each = np.array([share_interval(*both, z=z) for both in zip(values, clusters, strict=True)])
            for j, end in enumerate(("", "_low", "_high")):
                by_layer[name + end][support, i] = each[:, j]
                overall[name + end][support, i] = together[j]
    return by_layer, overall


def share_interval(values: np.ndarray, cluster: np.ndarray, *, z: float = INTERVAL_Z) -> tuple[float, float, float]:
    """Mean of observations in [0, 1] with its interval, clustered: (share, low, high); NaN without any observation.

    `values` float `(observation,)`, NaN where there is none; `cluster` integer `(observation,)`. The interval is
    Wilson's (1927), two-sided 95%, with (Σm)² / Σm² in place of n, for clusters of m observations: as many as there
    are where each is a cluster of its own, 1 where all are in one (Kish 1965: observations in one cluster are taken
    as one; ours). Observations between 0 and 1, as of the nulls, scatter less than it allows for.

    >>> [round(x, 4) for x in share_interval(np.array([1, 1, 1, 0]), np.array([7, 7, 8, 9]))]
    [0.75, 0.2385, 0.9664]
    """
    there = ~np.isnan(values)
    if not there.any():
        return np.nan, np.nan, np.nan
    sizes = np.unique(cluster[there], return_counts=True)[1]
    n, share = float(sizes.sum() ** 2 / (sizes**2).sum()), float(values[there].mean())
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return share, max(0.0, centre - reach), min(1.0, centre + reach)
