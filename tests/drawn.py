"""Runs of neurons that depend on the position, the label, the sequence, or on nothing, as hypothesis draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import Phase, settings
from literal import Asked, Bits, groups_of
from runs import make_run

from neurolens.analyze import analyze_run
from neurolens.corpus import EOS, Corpus
from neurolens.curves import PositionRules
from neurolens.run import Run, open_run

# a failure is not made smaller: a seed is none the easier to read for it, and each try takes a run
FEW = settings(deadline=None, derandomize=True, max_examples=10, phases=(Phase.explicit, Phase.generate))
VOCABULARY = 9


@dataclass
class Drawn:
    """A corpus and the bits of some layers over it, bool `(layer, neuron, sequence, position)`."""

    corpus: Corpus
    active: np.ndarray
    layers: list[int]
    sequences_per_block: int

    @property
    def labels(self) -> list[int]:
        return self.corpus.label.tolist()

    @property
    def group(self) -> list[int]:
        return groups_of(self.labels)

    @property
    def there(self) -> int:
        """Groups that have sequences."""
        return len(set(self.group))

    def bits(self, row: int, neuron: int) -> Bits:
        return self.active[row, neuron].astype(int).tolist()

    def run(self, path: Path, **options: Any) -> Run:
        """Store it, analyse it, open it."""
        make_run(
            path, self.corpus, self.active.reshape(*self.active.shape[:2], -1), layers=self.layers,
            vocab_size=VOCABULARY, sequences_per_block=self.sequences_per_block,
        )  # fmt: skip
        analyze_run(path, **options)
        return open_run(path)

    def permuted(self, order: np.ndarray) -> Drawn:
        """The same sequences in another order."""
        corpus = Corpus.from_tokens(
            self.corpus.tokens[order], label=self.corpus.label[order], label_names=self.corpus.label_names
        )
        return Drawn(corpus, self.active[:, :, order], self.layers, self.sequences_per_block)


def rules_of(asked: Asked) -> PositionRules:
    usual = vars(PositionRules())
    return PositionRules(**{name: type(usual[name])(value) for name, value in vars(asked).items()})


def draw_corpus(rng: np.random.Generator, sequences: int, positions: int, labels: list[int], names: int) -> Corpus:
    tokens = rng.integers(EOS, VOCABULARY, (sequences, positions))
    tokens[:, 0], tokens[:, 1] = EOS, EOS + 1
    return Corpus.from_tokens(tokens, label=np.array(labels), label_names=[f"label {i}" for i in range(names)])


def some(rng: np.random.Generator, shape: tuple[int, int], share: float) -> np.ndarray:
    """A share of the tokens: each at random, or so many of them, or so many of each position."""
    way = rng.choice(["random", "whole", "position"], p=[0.2, 0.5, 0.3])
    if way == "random":
        return rng.random(shape) < share
    if way == "position":
        return rng.permuted(np.arange(shape[0])[:, None] < np.full(shape, round(share * shape[0])), axis=0)
    return rng.permutation(shape[0] * shape[1]).reshape(shape) < round(share * shape[0] * shape[1])


def draw_curve(rng: np.random.Generator, sequences: int, positions: int) -> np.ndarray:
    """Stretches of positions, each with a rate of its own: at the extremes, just there, not quite, half-way."""
    window = max(3, round(positions / 64))
    bits, at = np.zeros((sequences, positions), bool), 0
    rates = rng.choice([0, 0, 1, 1, 0.5, 0.05, 0.95, 0.005, 0.995, 0.02, 0.98, 0.07, 0.3], rng.integers(1, 5))
    if rng.random() < 0.3:
        rates = rng.permutation([0, 1, 0, 1, 0.5]) if rng.random() < 0.5 else np.array([0.02, 0.98])
    lengths = [1, window - 1, window, 2 * window - 2, 2 * window - 1, 3 * window, max(window, positions // 5)]
    usual, turn = int(rng.choice(lengths)), int(rng.integers(len(rates)))
    while at < positions:
        part = bits[:, at : at + (usual if rng.random() < 0.7 else int(rng.choice(lengths)))]
        part[:] = some(rng, part.shape, float(rates[turn % len(rates)]))
        at, turn = at + part.shape[1], turn + 1
    return bits


def draw_neuron(rng: np.random.Generator, labels: list[int], positions: int, kind: str) -> np.ndarray:
    """Bool `(sequence, position)`."""
    shape = len(labels), positions
    bits, of = np.zeros(shape, bool), np.array(labels)
    if kind == "one":  # token
        bits.reshape(-1)[rng.integers(bits.size)] = True
    elif kind == "constant":
        bits[:] = rng.random() < 0.5
    elif kind == "random":
        bits = rng.random(shape) < rng.choice([0.002, 0.02, 0.3, 0.9, 0.998])
    elif kind == "bos":
        bits[:, 0] = rng.random(len(labels)) < 0.9
    elif kind == "curve":
        bits = draw_curve(rng, *shape)
        if rng.random() < 0.2:  # of one label another, so that they do not agree
            bits[of == of[0]] = draw_curve(rng, int((of == of[0]).sum()), positions)
    elif kind == "label":  # in some labels, perhaps in few of their sequences; perhaps once in another
        mine = np.isin(of, rng.permutation(np.unique(of))[: rng.integers(1, 3)])
        mine &= rng.random(len(labels)) < rng.choice([0.1, 0.3, 1, 1])
        bits = mine[:, None] & (rng.random(shape) < rng.choice([0.01, 0.1, 0.6, 1]))
        bits.reshape(-1)[rng.integers(bits.size)] |= rng.random() < 0.4
    else:  # in some sequences; perhaps in all others, too, but less
        bits = (rng.random(len(labels)) < rng.choice([0.05, 0.3, 0.7]))[:, None] & (rng.random(shape) < 0.8)
        bits |= rng.random(shape) < rng.choice([0, 0.1])
    return ~bits if rng.random() < 0.2 else bits


KINDS = ("one", "constant", "random", "bos", "curve", "label", "burst")


def draw(seed: int, kinds: Sequence[str] = KINDS, *, neurons: int = 24, tokens: int = 1500) -> Drawn:
    """Small enough to be read bit by bit: 1 to 3 labels of any sizes, from 2 positions and one sequence on."""
    rng = np.random.default_rng(seed)
    positions = int(rng.choice([2, 3, 5, 8, 16, 24, 33, 64, 64, 130, 256]))
    most = max(1, tokens // positions)
    sequences = int(rng.choice([1, 2, min(20, most), min(20, most), min(40, most), most]))
    names = int(rng.integers(1, 4))
    labels = rng.choice(names, sequences, p=rng.dirichlet(np.full(names, 2.0))).tolist()
    corpus = draw_corpus(rng, sequences, positions, labels, names)
    layers = sorted(rng.choice(7, int(rng.choice([1, 1, 2])), replace=False).tolist())
    drawn = [draw_neuron(rng, labels, positions, str(rng.choice(kinds))) for _ in range(len(layers) * neurons)]
    active = np.stack(drawn).reshape(len(layers), neurons, sequences, positions)
    return Drawn(corpus, active, layers, 64 // int(np.gcd(64, positions)) * int(rng.integers(1, 4)))
