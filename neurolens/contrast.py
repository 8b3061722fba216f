"""Contrast: how a neuron's activation depends on the label of its text — a domain, before or after an edit,
in or out of a distribution. Ours; the machinery is that of positions (paper, §5).

Labels belong to sequences, whose tokens hang together: what a label seems to explain is compared with what sequences
of one label differ by (the *design effect*).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurolens import NeurolensError, UsageError
from neurolens.bootstrap import Groups
from neurolens.counts import sum_categories
from neurolens.information import LEAST_EXPECTED, measure_information, mutual_information

MOST_LABELS = 100  # counted by group and label together: 4,096 neurons × 20 groups × 100 labels take 16 MB a layer
ENTRIES = 1 << 22  # counts resampled at a time (8 bytes each): 64 MB


@dataclass(frozen=True)
class ContrastRules:
    """When a neuron's silence in a label says something.

    least_expected  activations expected in each silent label if it did not matter, tokens that hang together counted
                    as one (ours: none is then found by chance in 0.7%)
    """

    least_expected: float = LEAST_EXPECTED

    def __post_init__(self) -> None:
        if not self.least_expected >= 0:
            raise UsageError(f"least_expected is {self.least_expected}; expected at least 0")


def measure_design(by_sequence: np.ndarray, label: np.ndarray, positions: int) -> np.ndarray:
    """Design effect: variance of activations between sequences of a label, over that of independent tokens.

    `by_sequence` float64 `(neuron, sequence)`: activations; `label` int `(sequence,)`; `positions`: tokens of each.
    float64 `(neuron,)`, around 1 for independent tokens, up to `positions` where a sequence is active all or not at
    all; 1 for neurons never or always active, and if no label has two sequences (Kish 1965; Rao and Scott 1981).
    """
    sequences = np.bincount(label)
    sums = sum_categories(by_sequence, label, len(sequences))
    return design_of_sums((by_sequence**2).sum(1), sums, sequences, positions)


def design_of_sums(squares: np.ndarray, sums: np.ndarray, sequences: np.ndarray, positions: int) -> np.ndarray:
    """`measure_design` from what adds: `squares` float64 `(neuron,)`, of the activations of each sequence, summed;
    `sums` float64 `(neuron, label)`: activations; `sequences` int64 `(label,)`, the last one not 0."""
    independent, free, between = _parts_of_design(sums, sequences, positions)
    some = (independent > 0) & (free > 0)
    within = np.maximum(0, squares - between)
    return np.divide(within / max(1, free), independent, out=np.ones(len(sums)), where=some)


def squares_of_design(design: np.ndarray, sums: np.ndarray, sequences: np.ndarray, positions: int) -> np.ndarray:
    """The `squares` that `design_of_sums` was given, float64 `(neuron,)`, whole numbers.

    Rounding is off by less than 1e-15 of n · T for n tokens, so that they are found exactly. Raises NeurolensError for
    what is near no whole number, and so of other sums.
    """
    independent, free, between = _parts_of_design(sums, sequences, positions)
    found = np.where((independent > 0) & (free > 0), design * free * independent, 0) + between
    if not (np.abs(found - np.rint(found)) < 0.25).all():
        raise NeurolensError("design effects that are not those of the counts")
    return np.rint(found)


def _parts_of_design(sums: np.ndarray, sequences: np.ndarray, positions: int) -> tuple[np.ndarray, int, np.ndarray]:
    """(variance of independent tokens `(neuron,)`; degrees of freedom; squares of labels' means, summed)."""
    count = int(sequences.sum())
    frequency = sums.sum(1) / max(1, count * positions)
    between = (sums**2 / np.maximum(1, sequences)).sum(1)
    return positions * frequency * (1 - frequency), count - int(np.count_nonzero(sequences)), between


def contrast_labels(
    on: np.ndarray, design_effect: np.ndarray, groups: Groups, total: np.ndarray, rules: ContrastRules
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What labels say of the neurons of a layer.

    `on` unsigned `(neuron, group, label)` activations, `total` int64 `(group, label)` tokens, `design_effect` float64
    `(neuron,)`. Returns columns of `results/neurons`, `(neuron,)` each, and those of `results/contrast`, `(label,)`
    each (docs/store.md).
    """
    by_label, tokens = on.sum(1, dtype=np.int64), total.sum(0)
    information = measure_information(by_label, tokens, design_effect=np.maximum(1, design_effect))
    neurons, summary = _find_silences(by_label, tokens, design_effect, rules)
    low, high = np.full((2, len(on)), np.nan)
    sums = {name: np.zeros((len(groups.weights), len(tokens))) for name in ("frequency", "dead")}
    step = max(1, ENTRIES // max(1, total.size))
    for part in (slice(first, first + step) for first in range(0, len(on), step)):
        counts, active = on[part].astype(np.float64), (on[part] > 0).astype(np.float64)
        mi = np.zeros((len(groups.weights), len(counts)))
        for i, drawn in enumerate(groups.weights):
            resampled, of = np.tensordot(counts, drawn, (1, 0)), drawn @ total
            mi[i] = mutual_information(resampled, of)
            sums["frequency"][i] += resampled.sum(0)  # whole numbers: the same however neurons are cut in parts
            sums["dead"][i] += (np.tensordot(active, drawn > 0, (1, 0)) == 0).sum(0)
        low[part], high[part] = groups.interval(information.corrected[part], mi)
    sums["frequency"] /= np.maximum(1, groups.weights @ total)
    for name, whole in (("frequency", by_label.sum(0) / np.maximum(1, tokens)), ("dead", (by_label == 0).sum(0))):
        summary |= groups.columns(name, whole / max(1, len(on)), sums[name] / max(1, len(on)))
    neurons = {
        "label_mi": information.plug_in,
        "label_mi_corrected": information.corrected,
        "label_mi_low": low,
        "label_mi_high": high,
        "label_p": information.p,
        "label_rough": information.rough,
        **neurons,
    }
    return neurons, summary


def difference(
    on: np.ndarray, total: np.ndarray, groups: Groups, first: int, second: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Frequencies in two labels, their difference (first − second) and its interval: float64 `(neuron,)` each.

    `on` unsigned `(neuron, group, label)`, `total` int64 `(group, label)`. Frequencies are 0 in a label without tokens.
    """
    both = [first, second]
    tokens = np.maximum(1, total[:, both].sum(0))
    frequency = on[:, :, both].sum(1) / tokens
    counts = on[:, :, both].astype(np.float64)
    replicates = []
    for drawn in groups.weights:
        rate = np.tensordot(counts, drawn, (1, 0)) / np.maximum(1, drawn @ total[:, both])
        replicates.append(rate[:, 0] - rate[:, 1])
    apart = frequency[:, 0] - frequency[:, 1]
    return frequency[:, 0], frequency[:, 1], apart, *groups.interval(apart, np.array(replicates))


def _find_silences(
    by_label: np.ndarray, tokens: np.ndarray, design_effect: np.ndarray, rules: ContrastRules
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Neurons of one label, and those silent in one: by neuron, and how many there are of each label."""
    there = tokens > 0
    active = (by_label > 0) & there
    alive, silent = active.sum(1), (~active & there).sum(1)
    several = there.sum() > 1
    expected = (by_label.sum(1) / np.maximum(1, design_effect))[:, None] * tokens / max(1, tokens.sum())
    told = np.where(~active & there, expected, np.inf).min(1, initial=np.inf) >= rules.least_expected
    neurons, summary = {}, {}
    for name, found, which in (
        ("only", (alive == 1) & several, active),
        ("silent", (silent == 1) & (alive > 0) & several, ~active & there),
    ):
        label = np.where(found, which.argmax(1) if which.shape[1] else 0, -1)
        neurons |= {f"label_{name}": label.astype(np.int32), f"label_{name}_supported": found & told}
        for suffix, of in (("", found), ("_supported", found & told)):
            summary[f"{name}{suffix}"] = np.bincount(label[of], minlength=len(tokens))
    return neurons, summary
