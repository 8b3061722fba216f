"""A run whose tokens and labels are what nobody would want to print, of several blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from drawn import Drawn
from runs import make_run

from neurolens.corpus import Corpus
from neurolens.store import Store
from neurolens.vocabulary import Vocabulary

POSITIONS, SEQUENCES, LAYER = 24, 40, 3
TOKENS = POSITIONS * SEQUENCES
LABELS = ("wiki", "code", "\x1b[2J<b>\u202e")
# a character in two tokens, one in three, lines, spaces, what is no character, what turns lines round, nothing (id 11)
VOCABULARY = [
    b"<pad>", b"?", b"</s>", "é".encode()[:1], "é".encode()[1:], b" \n", b"\x1b[31m", "🦖".encode()[:1],
    "🦖".encode()[1:3], "🦖".encode()[3:], "\u202e<img src=x>".encode(), b"", b"\xff\xfe", b"x" * 300, b"word", b" y",
]  # fmt: skip
COUNTS = (0, 1, 2, 15, 16, 17, 40, 300, TOKENS)  # activations of a neuron each


def draw_hostile() -> Drawn:
    """One layer, a neuron for each of `COUNTS`."""
    rng = np.random.default_rng(8)
    tokens = rng.integers(3, len(VOCABULARY), (SEQUENCES, POSITIONS))
    tokens[:, 0] = 2
    label = rng.choice(len(LABELS), SEQUENCES, p=[0.6, 0.3, 0.1])
    active = np.zeros((len(COUNTS), TOKENS), bool)
    for bits, count in zip(active, COUNTS, strict=True):
        bits[rng.permutation(TOKENS)[:count]] = True
    corpus = Corpus.from_tokens(tokens, label=label, label_names=LABELS)
    return Drawn(corpus, active.reshape(1, len(COUNTS), SEQUENCES, POSITIONS), [LAYER], 8)


def make_hostile(drawn: Drawn, path: Path) -> Path:
    """Store it, with a vocabulary."""
    active = drawn.active.reshape(1, len(COUNTS), -1)
    make_run(path, drawn.corpus, active, layers=[LAYER], sequences_per_block=8, vocab_size=len(VOCABULARY))
    store, vocabulary = Store.open(path, write=True), Vocabulary.from_bytes(VOCABULARY)
    store.write("vocabulary/bytes", np.frombuffer(b"".join(VOCABULARY), np.uint8), ("byte",))
    store.write("vocabulary/start", vocabulary.start, ("boundary",))
    return path
