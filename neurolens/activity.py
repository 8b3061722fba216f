"""Activity: how often a neuron is active, whether it ever is, and how sure that is (paper, §3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurolens.bootstrap import Groups

CONFIDENCE = 0.95  # of the bound on a dead neuron's frequency


@dataclass(frozen=True)
class Activity:
    """How often the neurons of a layer are active.

    activations   int64 `(neuron,)`: tokens on which a neuron is active, all positions counted
    on_text       int64 `(neuron,)`: those that are not on `</s>` (BOS or separator)
    first_active  int64 `(neuron,)`: index of the first token a neuron is active on, −1 for none
    n_tokens      tokens of the corpus
    """

    activations: np.ndarray
    on_text: np.ndarray
    first_active: np.ndarray
    n_tokens: int

    @property
    def frequency(self) -> np.ndarray:
        """P(active): float64 `(neuron,)` in [0, 1]; 0 for an empty corpus."""
        return self.activations / max(1, self.n_tokens)

    @property
    def dead(self) -> np.ndarray:
        """Bool `(neuron,)`: active on no token at all (paper, §3)."""
        return self.activations == 0

    @property
    def dead_but_bos(self) -> np.ndarray:
        """Bool `(neuron,)`: active somewhere, but only on `</s>` (ours; the paper keeps BOS apart in footnote 8)."""
        return (self.activations > 0) & (self.on_text == 0)

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """By the names that they have in `results/neurons`."""
        return {
            "frequency": self.frequency,
            "activations": self.activations,
            "activations_on_text": self.on_text,
            "first_active": self.first_active,
            "dead": self.dead,
            "dead_but_bos": self.dead_but_bos,
        }


def measure_spread(
    on: np.ndarray, frequency: np.ndarray, groups: Groups
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """How much activity depends on which sequences were read: `on` unsigned `(neuron, group)`, of one layer.

    Returns columns of `results/neurons`, `frequency`, as given, and its interval float64 `(neuron,)`, and those of
    `results/activity`, float64 `()`: `dead`, the share of neurons, and `frequency`, the mean of those alive (NaN
    without any), each with its interval (NaN with fewer than two groups).
    """
    counts, neurons = on.astype(np.float64), max(1, len(on))
    rates, dead, alive = [], [], []
    for drawn in groups.weights:
        rate = counts @ drawn / max(1, int(drawn @ groups.total))
        rates.append(rate)
        dead.append(np.count_nonzero(rate == 0) / neurons)
        alive.append(rate.sum() / max(1, np.count_nonzero(rate)))
    columns = groups.columns("frequency", frequency, np.array(rates))
    silent = on.sum(1) == 0
    mean = mean_frequency_of_alive(frequency[None], silent[None])[0]
    layer = {
        **groups.columns("dead", np.array(silent.sum() / neurons), np.array(dead)),
        **groups.columns("frequency", np.array(mean), np.array(alive)),
    }
    return columns, layer


def dead_upper_bound(n_tokens: int, *, confidence: float = CONFIDENCE) -> float:
    """Upper bound on the frequency of a neuron that was silent on `n_tokens` tokens: 1 − (1 − confidence)^(1/n).

    Exact for independent tokens (Clopper–Pearson with 0 successes); about 3/n at 95% (rule of three, Hanley and
    Lippman-Hand 1983). In [0, 1]; 1 for an empty corpus.

    >>> round(dead_upper_bound(3000), 6)
    0.000998
    """
    return 1.0 if n_tokens <= 0 else float(-np.expm1(np.log1p(-confidence) / n_tokens))


def saturation(first_active: np.ndarray, n_tokens: int, *, points: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Neurons that have been active at least once, against tokens seen: is the corpus large enough?

    `first_active` int64 `(…, neuron)`, −1 for none. Returns `tokens` int64 `(point,)`, up to `points` values evenly
    spaced on a log scale from 1 to `n_tokens`, and `alive` int64 `(…, point)`. Empty for an empty corpus.
    """
    if n_tokens <= 0:
        return np.zeros(0, np.int64), np.zeros((*first_active.shape[:-1], 0), np.int64)
    tokens = np.unique(np.geomspace(1, n_tokens, points).round().astype(np.int64))
    seen = np.where(first_active < 0, n_tokens, first_active)
    alive = (seen[..., None, :] < tokens[:, None]).sum(-1)
    return tokens, alive


def mean_frequency_of_alive(frequency: np.ndarray, dead: np.ndarray) -> np.ndarray:
    """Mean frequency among the neurons that are not dead (paper, Fig. 1b): `(layer,)`; NaN if a layer has none."""
    alive = ~dead
    count = alive.sum(-1)
    return np.divide((frequency * alive).sum(-1), count, out=np.full(count.shape, np.nan), where=count > 0)
