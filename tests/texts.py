"""Texts of random tokens with random bits, as runs, and joined a sequence at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from runs import make_run

from neurolens.corpus import EOS, Corpus

VOCABULARY = 9
NAMES = ("code", "math", "prose", "wiki")


@dataclass
class Drawn:
    """A text, and the bits of some layers over it: bool `(layer, neuron, token)`."""

    corpus: Corpus
    bits: np.ndarray
    layers: list[int]
    per_block: int

    def run(self, path: Path) -> Path:
        return make_run(
            path, self.corpus, self.bits, layers=self.layers, sequences_per_block=self.per_block, vocab_size=VOCABULARY
        )


def draw_text(rng: np.random.Generator, sequences: int, positions: int, neurons: int, layers: list[int]) -> Drawn:
    """Bits that partly follow the token, so that order matters; labels of some of the names; blocks of any size."""
    tokens = rng.integers(EOS, VOCABULARY, (sequences, positions))
    tokens[:, 0], tokens[:, 1] = EOS, EOS + 1
    names = rng.permutation(NAMES)[: rng.integers(1, len(NAMES) + 1)].tolist()
    label = rng.integers(len(names), size=sequences)
    notes = {name: {"documents": int(rng.integers(9)), "short_of_share": int(rng.integers(2))} for name in names}
    corpus = replace(Corpus.from_tokens(tokens, label=label, label_names=names), notes=notes)
    chance = rng.random((len(layers), neurons, VOCABULARY)) ** 3
    bits = rng.random((len(layers), neurons, tokens.size)) < chance[:, :, tokens.reshape(-1)]
    return Drawn(corpus, bits, layers, 64 // int(np.gcd(64, positions)) * int(rng.integers(1, 4)))


def draw_texts(seed: int, count: int | None = None) -> list[Drawn]:
    rng = np.random.default_rng(seed)
    positions, neurons = int(rng.choice([2, 3, 8, 16, 24, 64, 130])), int(rng.choice([1, 5, 24, 70]))
    layers = sorted(rng.choice(120, int(rng.integers(1, 3)), replace=False).tolist())
    most = 5 * 64 // int(np.gcd(64, positions))  # of sequences: few blocks
    sizes = rng.integers(1, most, count or int(rng.integers(2, 4)))
    return [draw_text(rng, int(size), positions, neurons, layers) for size in sizes]


def join_by_hand(texts: Sequence[Drawn]) -> Drawn:
    """The joined text, a sequence and a document at a time."""
    names: list[str] = []
    tokens, labels, starts, sources, notes = [], [], [], [], {}
    for number, text in enumerate(texts):
        own = text.corpus
        starts += [len(tokens) * own.shape[1] + start for start in own.document_start.tolist()]
        sources += [(number, record) for _, record in own.document_source.tolist()]
        names += [name for name in own.label_names if name not in names]
        for row, label in zip(own.tokens.tolist(), own.label.tolist(), strict=True):
            tokens.append(row)
            labels.append(names.index(own.label_names[label]))
        for name, note in own.notes.items():
            known = notes.setdefault(name, {"documents": 0, "short_of_share": 0})
            known["documents"] += note["documents"]
            known["short_of_share"] |= note["short_of_share"]
    corpus = Corpus(
        np.array(tokens, np.int32), np.array(labels, np.uint16), tuple(names), np.array(starts, np.int64),
        np.array(sources, np.int64).reshape(-1, 2), notes,
    )  # fmt: skip
    return Drawn(corpus, np.concatenate([text.bits for text in texts], axis=2), texts[0].layers, texts[0].per_block)
