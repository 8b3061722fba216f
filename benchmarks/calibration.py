"""calibration: what is found where there is nothing — neurons whose bits depend on no position and on no label.

Positions: T = 2048 columns of S sequences, every bit drawn by itself, at four frequencies. Corrected information has to
be 0 on average and p below 5% in 5% of neurons. Beside it stands what else could have been done: the plug-in alone (how
many would be positional, above 0.05 nats), less (T − 1) / (2ST) (Miller and Madow), χ² and G with T − 1 degrees of
freedom, and the z of the exact mean with a variance that takes columns as independent.

Given exactly so many activations, in columns of 10 and in unequal labels: no bound. A statistic of few values cannot
be right at every number of activations (a mid-p of 5% means at most 10%); what is bounded is the average over those
that occur.

Labels: unequal ones, of 60 sequences or more. Sequences differ in their frequency by a beta distribution that makes two
tokens of one correlate by `within`, 0 for independent tokens. The bound on p holds where the smallest label expects
5 activations or more, tokens that hang together counted as one: with fewer, the few sequences that are active by chance
say too much of the variance, and the test finds too little. Beside it stand the test and the mean that take tokens as
independent. Corrected information has a bound there as well: on average at most a tenth of the plug-in.

`--quick`: 4,000 neurons a cell instead of 20,000; the bounds are the same. 5% of 4,000 is known to 0.35%.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from _common import at_least, at_most, below, finish, quick_asked
from scipy.special import chdtrc, gammaln, ndtr, xlogy

from neurolens.contrast import measure_design
from neurolens.information import Information, measure_information

POSITIONS, POSITIONAL = 2048, 0.05  # nats
FREQUENCIES, SEQUENCES = (0.5, 0.1, 0.01, 0.001), (10, 50, 200)
ACTIVE, ACTIVE_SEQUENCES, ACTIVE_OF_LABELS = (21, 40, 69, 100, 400), 10, (1, 2, 3, 5, 20)
LABELS, TOKENS, WITHIN = ((60, 90, 150), (60, 80, 100, 160)), 256, (0.0, 0.01, 0.1)
LEVELS = {"5%": 0.05, "1%": 0.01, "0.1%": 0.001}
LEAST, MOST, LEAST_EXPECTED, MEAN, LEFT = 0.03, 0.07, 5, 1e-3, 0.1
BLOCK = 1000  # neurons at once
Figure = dict[str, Any]


def measure_positions(sequences: int, frequency: float, neurons: int) -> Figure:
    """Figures of neurons that are active with `frequency` at every position."""
    rng, total = np.random.default_rng([sequences, round(1 / frequency)]), np.full(POSITIONS, sequences)
    found = []
    for _ in range(neurons // BLOCK):
        on = rng.binomial(sequences, frequency, (BLOCK, POSITIONS)).astype(np.uint32)
        information, active = as_columns(measure_information(on, total)), on.sum(1)
        share = active[:, None] / total.sum()
        squares = ((on - sequences * share) ** 2).sum(1) / np.maximum(1e-9, sequences * share * (1 - share))[:, 0]
        found.append({**information, "active": active, "squares": squares})
    of = join(found)
    free, tokens = POSITIONS - 1, POSITIONS * sequences
    others = {
        "chi2": chdtrc(free, of["squares"]),
        "G": chdtrc(free, 2 * tokens * of["plug_in"]),
        "z": p_of_z(of, tokens),
    }
    return {
        "plug_in": of["plug_in"].mean(),
        "corrected": of["corrected"].mean(),
        **rejected(of["p"]),
        "positional": (of["corrected"] > POSITIONAL).mean(),
        "positional_by_plug_in": (of["plug_in"] > POSITIONAL).mean(),
        "less_miller_madow": of["plug_in"].mean() - free / (2 * tokens),
        **{f"{name}_rejected_5%": (p <= LEVELS["5%"]).mean() for name, p in others.items()},
    }


def p_of_z(of: Mapping[str, np.ndarray], tokens: int) -> np.ndarray:
    """p of the exact mean with the variance of independent columns, normal: float64 `(neuron,)`.

    Stops if that mean, from binomial coefficients, is not the one that was found.
    """
    active, place = np.unique(of["active"], return_inverse=True)
    sequences, active = tokens // POSITIONS, active[:, None]
    k = np.arange(sequences + 1)
    chance = np.exp(ways(active, k) + ways(tokens - active, sequences - k) - ways(tokens, sequences))
    told = divergence(k / sequences, active / tokens)
    mean = (chance * told).sum(1)
    variance = (chance * (told - mean[:, None]) ** 2).sum(1) / POSITIONS
    if not np.allclose(mean[place], of["expected"], rtol=1e-6, atol=0):
        raise SystemExit("the mean under the null is not that of the hypergeometric distribution")
    return ndtr((mean[place] - of["plug_in"]) / np.sqrt(variance[place]))


def ways(whole: np.ndarray | int, some: np.ndarray | int) -> np.ndarray:
    """Logarithm of the binomial coefficient; −inf where `some` is more than the whole."""
    rest = np.subtract(whole, some)
    log = gammaln(np.add(whole, 1)) - gammaln(np.add(some, 1)) - gammaln(np.maximum(0, rest) + 1)
    return np.where(rest < 0, -np.inf, log)


def divergence(rate: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    """KL(rate ‖ frequency) of a bit, nats; frequency in (0, 1)."""
    return xlogy(rate, rate / frequency) + xlogy(1 - rate, (1 - rate) / (1 - frequency))


def measure_given(total: np.ndarray, active: int, neurons: int) -> Figure:
    """Figures of neurons with exactly so many activations, on any tokens of categories with `total`."""
    rng, ends, found = np.random.default_rng([len(total), active]), np.cumsum(total), []
    for _ in range(neurons // BLOCK):
        on = np.zeros((BLOCK, len(total)), np.uint32)
        for row in on:
            np.add.at(row, np.searchsorted(ends, rng.choice(ends[-1], active, replace=False), side="right"), 1)
        found.append(as_columns(measure_information(on, total)))
    of = join(found)
    return {"corrected": of["corrected"].mean(), **rejected(of["p"])}


def measure_labels(labels: tuple[int, ...], frequency: float, within: float, neurons: int) -> Figure:
    """Figures of neurons whose frequency differs by sequence, not by label."""
    rng = np.random.default_rng([len(labels), round(1 / frequency), round(1000 * within)])
    label, total = np.repeat(np.arange(len(labels)), labels), TOKENS * np.array(labels)
    starts, found = np.cumsum((0, *labels[:-1])), []
    for _ in range(neurons // BLOCK):
        rate, shape = np.full((BLOCK, len(label)), frequency), (BLOCK, len(label))
        if within:
            alike = 1 / within - 1
            rate = rng.beta(frequency * alike, (1 - frequency) * alike, shape)
        by_sequence = rng.binomial(TOKENS, rate)
        on = np.add.reduceat(by_sequence, starts, axis=1).astype(np.uint32)
        design = measure_design(by_sequence.astype(np.float64), label, TOKENS)
        clustered = measure_information(on, total, design_effect=np.maximum(1, design))
        independent = measure_information(on, total)
        found.append(
            {**as_columns(clustered), "design": design, "p_alone": independent.p, "left": independent.corrected}
        )
    of = join(found)
    expected = frequency * min(labels) * TOKENS / (1 + (TOKENS - 1) * within)
    return {
        "design_effect": of["design"].mean(),
        "least_expected": expected,
        "bound": bool(expected >= LEAST_EXPECTED),
        **rejected(of["p"]),
        "independent_rejected_5%": (of["p_alone"] <= LEVELS["5%"]).mean(),
        "plug_in": of["plug_in"].mean(),
        "corrected": of["corrected"].mean(),
        "corrected_independent": of["left"].mean(),
    }


def as_columns(information: Information) -> dict[str, np.ndarray]:
    """What is read of `information`, by name."""
    return {name: getattr(information, name) for name in ("plug_in", "expected", "corrected", "p")}


def join(blocks: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Blocks of neurons as one."""
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def rejected(p: np.ndarray) -> Figure:
    """Share of neurons at each level."""
    return {f"rejected_{name}": (p <= level).mean() for name, level in LEVELS.items()}


def plain(figure: Figure) -> Figure:
    """Four digits each."""
    return {name: value if isinstance(value, bool) else float(f"{value:.4g}") for name, value in figure.items()}


def show_positions(name: str, of: Figure) -> None:
    """A line of the table."""
    levels = " ".join(f"{of[f'rejected_{level}']:7.2%}" for level in LEVELS)
    others = " ".join(f"{of[f'{test}_rejected_5%']:7.1%}" for test in ("chi2", "G", "z"))
    shares = f"{of['positional']:7.1%} {of['positional_by_plug_in']:8.1%}"
    told = f"{of['plug_in']:9.5f} {of['corrected']:10.1e} {of['less_miller_madow']:10.1e}"
    print(f"{name:<14}{told} | {levels} | {others} | {shares}", flush=True)


def show_labels(name: str, of: Figure) -> None:
    """A line of the table."""
    levels = " ".join(f"{of[f'rejected_{level}']:7.2%}" for level in LEVELS)
    told = f"{of['plug_in']:9.1e} {of['corrected']:9.1e} {of['corrected_independent']:9.1e}"
    design = f"{of['design_effect']:6.1f} {of['least_expected']:8.1f} {'yes' if of['bound'] else 'no':>5}"
    print(f"{name:<31}{design} | {levels} {of['independent_rejected_5%']:7.1%} | {told}", flush=True)


def main() -> int:
    """Measure; 0 if all bounds hold."""
    neurons = 4000 if quick_asked(__doc__, "4,000 neurons a cell instead of 20,000, under a minute") else 20000
    figures: Figure = {"neurons": neurons, "positions": POSITIONS, "tokens_of_a_sequence_with_labels": TOKENS}
    print(f"{neurons:,} neurons a cell; nats. Positions: rejected by p, and by χ², G and z at 5%; called positional")
    print("  S  frequency   plug-in  corrected  less M.-M. |      5%      1%    0.1%", end="")
    print(" |      χ²       G       z |    ours  plug-in")
    positions, labels = [], []
    for sequences in SEQUENCES:
        for frequency in FREQUENCIES:
            positions.append(plain(measure_positions(sequences, frequency, neurons)))
            figures[f"positions_S={sequences}_frequency={frequency}"] = positions[-1]
            show_positions(f"{sequences:>3}  {frequency:>7}", positions[-1])
    print("\nGiven exactly so many activations: rejected at 5%, 1%, 0.1%")
    given = [(f"S={ACTIVE_SEQUENCES}", np.full(POSITIONS, ACTIVE_SEQUENCES), ACTIVE)]
    given += [("+".join(map(str, sizes)), TOKENS * np.array(sizes), ACTIVE_OF_LABELS) for sizes in LABELS]
    for name, total, several in given:
        for active in several:
            figure = plain(measure_given(total, active, neurons))
            figures[f"given_{name}_active={active}"] = figure
            print(f"{name:<14}{active:>4}  " + " ".join(f"{figure[f'rejected_{level}']:7.2%}" for level in LEVELS))
    print("\nLabels: sequences of each; rejected, the last as if tokens were independent; likewise corrected")
    print("sequences      frequency within design expected bound |      5%      1%    0.1%  indep.", end="")
    print(" |   plug-in corrected    indep.")
    for sizes in LABELS:
        for frequency in FREQUENCIES:
            for within in WITHIN:
                figure = plain(measure_labels(sizes, frequency, within, neurons))
                name = f"{'+'.join(map(str, sizes))}"
                figures[f"labels_{name}_frequency={frequency}_within={within}"] = figure
                show_labels(f"{name:<14} {frequency:>9} {within:>5}", figure)
                if figure["bound"]:
                    labels.append((figure["rejected_5%"], abs(figure["corrected"]) / figure["plug_in"]))
    rates = [figure["rejected_5%"] for figure in positions]
    bounds = {
        "corrected_information_of_positions_farthest_from_0_nats": below(
            max(abs(figure["corrected"]) for figure in positions), MEAN
        ),
        "positions_least_rejected_at_5%": at_least(min(rates), LEAST),
        "positions_most_rejected_at_5%": at_most(max(rates), MOST),
        "labels_least_rejected_at_5%": at_least(min(rate for rate, _ in labels), LEAST),
        "labels_most_rejected_at_5%": at_most(max(rate for rate, _ in labels), MOST),
        "corrected_information_of_labels_over_plug_in": at_most(max(left for _, left in labels), LEFT),
    }
    return finish("calibration", figures, bounds)


if __name__ == "__main__":
    sys.exit(main())
