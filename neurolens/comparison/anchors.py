"""anchors: what the paper found of the published models, as data, held against a run of the same shape.

A claim is judged only by what can decide it: a run of fewer tokens than the paper's cannot say that a neuron is dead,
but it can say that one is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from neurolens.comparison.factors import magnitude
from neurolens.comparison.headlines import Headlines

AGREES, DISAGREES, CANNOT_SAY = "agrees", "disagrees", "cannot say"


@dataclass(frozen=True)
class AnchorRules:
    """When a run can be held against the paper, and what counts as the same (ours, but for the numbers of tokens).

    dead_tokens  tokens below which neurons found silent are not yet called dead (paper, §3: over 20M)
    tokens       tokens below which detectors and positional neurons are not judged (paper, §2: over 5M)
    none         share of neurons up to which there is *no* dead one
    near         relative difference from a published number that still agrees
    tiled        share of positions that neurons which *tile* them cover at least
    """

    dead_tokens: int = 20_000_000
    tokens: int = 5_000_000
    none: float = 0.01
    near: float = 0.25
    tiled: float = 0.95


@dataclass(frozen=True)
class Finding:
    """What a run says of a claim: whether it holds (None: cannot say), what was found, and why it cannot say."""

    holds: bool | None
    found: str
    why: str = ""

    @property
    def verdict(self) -> str:
        """In words."""
        return CANNOT_SAY if self.holds is None else AGREES if self.holds else DISAGREES


@dataclass(frozen=True)
class Claim:
    """What the paper found.

    name    what it is about
    text    what it says
    source  where in the paper
    sizes   of which published models; empty for all
    but     … except these
    judge   what a run says of it
    """

    name: str
    text: str
    source: str
    judge: Callable[[Headlines, AnchorRules], Finding]
    sizes: tuple[str, ...] = ()
    but: tuple[str, ...] = ()

    def concerns(self, size: str | None) -> bool:
        """Whether it is about a model of this size; one of no published size is held against what is said of all."""
        return (size in self.sizes if self.sizes else True) and size not in self.but


def _most_dead(run: Headlines, rules: AnchorRules, *, share: float = 0.7) -> Finding:
    most = float(run.dead_by_layer.max(initial=0))
    found = f"{most:.1%} of a layer"
    if most > share:
        return _if_enough(True, found, run.n_tokens, rules.dead_tokens)
    return Finding(False, found) if run.whole else Finding(None, found, "not all layers were collected")


def _dead_in_first_half(run: Headlines, rules: AnchorRules) -> Finding:
    first, second = run.dead_by_layer[run.first_half], run.dead_by_layer[~run.first_half]
    if not run.whole:
        return Finding(None, "", "not all layers were collected")
    found = f"first half {first.mean():.1%}, second half {second.mean() if len(second) else 0:.1%}"
    if not len(second) or float(second.mean()) <= rules.none:
        return Finding(True, found)
    return _if_enough(False, found, run.n_tokens, rules.dead_tokens)


def _none_dead(run: Headlines, rules: AnchorRules) -> Finding:
    found = f"{run.dead.value:.1%} dead"
    if run.dead.value > rules.none:
        return _if_enough(False, found, run.n_tokens, rules.dead_tokens)
    return Finding(True, found) if run.whole else Finding(None, found, "not all layers were collected")


def _detectors(run: Headlines, rules: AnchorRules, *, published: int = 5351) -> Finding:
    if run.detectors_by_layer is None:
        return Finding(None, "", "not analysed for n-grams")
    number = int(run.detectors_by_layer.sum())
    holds = abs(number - published) <= rules.near * published
    return _whole(run, _if_enough(holds, f"{number:,}", run.n_tokens, rules.tokens))


def _covered(run: Headlines, rules: AnchorRules, *, a_layer: int = 1500, overall: int = 10_000) -> Finding:
    if run.covered_by_layer is None or run.covered is None:
        return Finding(None, "", "not analysed for n-grams")
    most = int(run.covered_by_layer.max(initial=0))
    found = f"at most {most:,} a layer, {run.covered:,} in all"
    holds = most <= a_layer and run.covered > overall
    return _whole(run, _if_enough(holds, found, run.n_tokens, rules.tokens))


def _from_the_first_layer(run: Headlines, rules: AnchorRules) -> Finding:
    if run.detectors_by_layer is None:
        return Finding(None, "", "not analysed for n-grams")
    if 0 not in run.layers:
        return Finding(None, "", "the first layer was not collected")
    number = int(run.detectors_by_layer[list(run.layers).index(0)])
    return _if_enough(number > 0, f"{number:,} in layer 0", run.n_tokens, rules.tokens)


def _suppress(run: Headlines, rules: AnchorRules, *, share: float = 0.8) -> Finding:
    of = run.suppressing
    if not of.known:
        return Finding(None, "", "no token detector, or not analysed for updates")
    found = f"{of.value:.0%} ({of.low:.0%} to {of.high:.0%})"
    if of.low <= share < of.high:
        return Finding(None, found, f"{share:.0%} is within the interval")
    return _if_enough(of.value > share, found, run.n_tokens, rules.tokens)


def _tile(run: Headlines, rules: AnchorRules, *, layer: int = 1, number: int = 10, positions: int = 2048) -> Finding:
    if run.oscillatory is None or run.tiled is None:
        return Finding(None, "", "not analysed for positions")
    if layer not in run.layers:
        return Finding(None, "", f"layer {layer} was not collected")
    row = list(run.layers).index(layer)
    strong, tiled = int(run.oscillatory[row]), float(run.tiled[row])
    found = f"{strong} strong oscillatory, active on {tiled:.0%} of the positions"
    if run.positions != positions:
        return Finding(None, found, f"sequences of {run.positions} tokens, the paper's have {positions:,}")
    return _if_enough(strong >= number and tiled >= rules.tiled, found, run.n_tokens, rules.tokens)


def _mostly_oscillatory(run: Headlines, rules: AnchorRules) -> Finding:
    kind = run.most_frequent_type
    if kind is None or run.types is None:
        return Finding(None, "", "not analysed for positions")
    found = f"{kind.replace('_', ' ')} ({sum(run.types[kind].values()):,})" if kind else "no positional neuron"
    return _whole(run, _if_enough(kind == "oscillatory", found, run.n_tokens, rules.tokens))


def _none_oscillatory(run: Headlines, rules: AnchorRules) -> Finding:
    if run.types is None:
        return Finding(None, "", "not analysed for positions")
    number = sum(run.types["oscillatory"].values())
    return _whole(run, _if_enough(number == 0, f"{number:,} oscillatory", run.n_tokens, rules.tokens))


def _if_enough(holds: bool, found: str, tokens: int, needed: int) -> Finding:
    if tokens < needed:
        return Finding(None, found, f"{tokens:,} tokens; expected {needed:,} or more")
    return Finding(holds, found)


def _whole(run: Headlines, finding: Finding) -> Finding:
    return finding if run.whole else Finding(None, finding.found, "not all layers were collected")


LARGE = ("13b", "30b", "66b")
CLAIMS: tuple[Claim, ...] = (
    Claim("most dead", "more than 70% of some layers are dead", "§3, Fig. 1a", _most_dead, ("66b",)),
    Claim("dead where", "dead neurons in the first half only", "§3, Fig. 1a", _dead_in_first_half, but=("350m",)),
    Claim("none dead", "no dead neurons", "§6, Fig. 1a", _none_dead, ("350m",)),
    Claim("token detectors", "5,351 token detectors", "§4, Fig. 3a", _detectors, ("66b",)),
    Claim(
        "tokens covered", "at most 1,500 tokens a layer have a detector, more than 10,000 in all", "§4, Fig. 3b",
        _covered, ("66b",),
    ),
    Claim("first layer", "token detectors from the first layer on", "§4, Fig. 3a", _from_the_first_layer, LARGE),
    Claim("suppression", "more than 80% of the token detectors point away from their triggers", "§4.4", _suppress),
    Claim("tiling", "ten strong oscillatory neurons of the second layer tile all positions", "§5, Fig. 9", _tile,
          ("125m",)),
    Claim("types", "most positional neurons are oscillatory", "§5, Fig. 8", _mostly_oscillatory,
          ("125m", "350m", "1.3b", "2.7b")),
    Claim("types", "no oscillatory neurons", "§5, Fig. 8", _none_oscillatory, LARGE),
)  # fmt: skip
GROWS = "the share of dead neurons grows with size (but for 350m)"


def judge_run(run: Headlines, rules: AnchorRules | None = None) -> list[tuple[Claim, Finding]]:
    """Every claim about a model of the run's shape, with what the run says of it."""
    rules = rules or AnchorRules()
    return [(claim, claim.judge(run, rules)) for claim in CLAIMS if claim.concerns(run.published)]


def judge_growth(runs: Mapping[str, Headlines], rules: AnchorRules | None = None) -> Finding | None:
    """Whether larger published models have a larger share of dead neurons (§3): of runs by name, those of a published
    size but 350m. Each size is the mean of its runs. None if there are fewer than two sizes."""
    rules = rules or AnchorRules()
    sizes: dict[str, list[Headlines]] = {}
    for run in runs.values():
        if run.published not in (None, "350m"):
            sizes.setdefault(run.published, []).append(run)
    if len(sizes) < 2:
        return None
    order = sorted(sizes, key=lambda size: magnitude(size) or 0)
    shares = [float(np.mean([run.dead.value for run in sizes[size]])) for size in order]
    found = ", ".join(f"{size} {share:.1%}" for size, share in zip(order, shares, strict=True))
    chosen = [run for of in sizes.values() for run in of]
    if not all(run.whole for run in chosen):
        return Finding(None, found, "not all layers were collected")
    if len({run.n_tokens for run in chosen}) > 1:
        return Finding(None, found, "the runs differ in their number of tokens, on which the share depends")
    holds = all(first < second for first, second in pairwise(shares))
    return _if_enough(holds, found, chosen[0].n_tokens, rules.dead_tokens)
