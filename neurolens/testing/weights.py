"""Neurons and what they write → the parameters of an OPT that holds them, axis-aligned.

The residual stream is divided into subspaces: one-hot vectors of the token (`now`), the previous one (`before`), the
one before that (`before2`) and the position (`at`); `rest`, which is always 0; `out`, to which every FFN and every
attention after the copying writes and from which no planted neuron reads. Tokens have orthonormal vectors in `out`
besides, so that a value vector can have any projection on each of them that one likes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from neurolens.testing.rules import SPECIAL, PlantedNeuron

RESERVED = 16  # coordinates of `rest`: several, so that no single weight is large
SCORE_GAP = 170.0  # of the copying heads: the softmax is exactly 0 elsewhere (a gap of 11 leaks, 5 breaks)
VALUE_NORM = 0.15  # of a value vector, for a neuron that exceeds its threshold by half a point
SUPPRESSED, PROMOTED, APART = -1.0, 1.5, 0.1  # projections of the last of the tokens named, and steps between them
NEUTRAL = 0.05  # all others lie within
SHIFT = 0.3  # neurons that name no token: projections lie within 1 of some number up to this
FEW = 6  # triggers that are no coincidence: their mean projection is not near 0
PADDING_SIZE = 50.0  # of a coordinate of padded rows: ranked, they would be first and last

Weights = dict[str, np.ndarray]


class Stream:
    """Where the subspaces of the residual stream begin, and vectors in it."""

    def __init__(self, vocab: int, positions: int, rng: np.random.Generator) -> None:
        self.vocab, self.positions, self.rng = vocab, positions, rng
        self.head = -(-max(vocab, positions) // 8) * 8  # a head must hold a one-hot of either
        # `out` holds orthonormal vectors of all tokens that sum to 0: one dimension more than tokens
        self.heads = max(3, -(-(4 * vocab + positions + RESERVED + 1) // self.head))
        self.width = self.head * self.heads
        parts = [0, vocab, vocab, vocab, positions, RESERVED]
        self.now, self.before, self.before2, self.at, self.rest, self.out = np.cumsum(parts).tolist()

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Rows made to sum to 0, by weights on coordinates that are always 0."""
        rows[..., self.rest : self.out] -= rows.sum(-1, keepdims=True) / RESERVED
        return rows

    def vectors(self, count: int, norm: float) -> np.ndarray:
        """Random vectors in `out` that sum to 0, `(count, width)`."""
        made = np.zeros((count, self.width))
        made[:, self.out :] = self.rng.standard_normal((count, self.width - self.out))
        made[:, self.out :] -= made[:, self.out :].mean(1, keepdims=True)
        return made * (norm / np.linalg.norm(made, axis=1, keepdims=True))


def build_weights(
    layers: Sequence[Sequence[PlantedNeuron]], vocab: int, padding: int, positions: int, rng: np.random.Generator
) -> tuple[Weights, dict[str, Any], np.ndarray]:
    """Parameters by their name below `model.decoder.`, float64; the shape for `OPTConfig`; projections of the value
    vectors on the tokens, float64 `(layers, neurons, vocab)`."""
    stream, neurons = Stream(vocab, positions, rng), len(layers[0])
    width = stream.width
    # |embedding|² and its sum are the same for all tokens and positions: so is σ where the copying heads read
    embed, place = np.zeros((vocab + padding, width)), np.zeros((positions + 2, width))
    embed[:vocab] = np.linalg.qr(stream.vectors(vocab, 1.0).T)[0].T
    unembed = embed[:vocab].copy()
    embed[np.arange(vocab), stream.now + np.arange(vocab)] = 1.0
    place[2 + np.arange(positions), stream.at + np.arange(positions)] = 1.0
    # padded rows come in pairs of opposite sign
    embed[vocab:, stream.out :] = PADDING_SIZE * rng.standard_normal((padding, width - stream.out))
    embed[vocab + 1 :: 2] = -embed[vocab : vocab + padding - padding % 2 : 2]
    weights = {"embed_tokens.weight": embed, "embed_positions.weight": place}
    projections = []
    for layer, planted in enumerate(layers):
        name = f"layers.{layer}."
        values, projection = _values(planted, unembed, stream)
        projections.append(projection)
        weights |= {f"{name}self_attn.{part}": w for part, w in _attention(stream, copies=layer == 0).items()}
        weights |= {f"{name}fc1.weight": stream.read(_reads(planted, stream)), f"{name}fc1.bias": np.zeros(neurons)}
        weights |= {f"{name}fc2.weight": values.T, f"{name}fc2.bias": stream.vectors(1, 0.2)[0]}
        for norm in (f"{name}self_attn_layer_norm", f"{name}final_layer_norm"):
            weights |= {f"{norm}.weight": np.ones(width), f"{norm}.bias": np.zeros(width)}
    weights |= {"final_layer_norm.weight": np.ones(width), "final_layer_norm.bias": np.zeros(width)}
    shape = {
        "vocab_size": vocab + padding,
        "hidden_size": width,
        "ffn_dim": neurons,
        "num_hidden_layers": len(layers),
        "num_attention_heads": stream.heads,
        "max_position_embeddings": positions,
    }
    return weights, shape, np.array(projections)


def _reads(planted: Sequence[PlantedNeuron], stream: Stream) -> np.ndarray:
    """Rows of W_in, `(neurons, width)`: the points of the rules, and minus the threshold on all of `at`."""
    rows = np.zeros((len(planted), stream.width))
    for row, rule in zip(rows, (neuron.rule for neuron in planted), strict=True):
        row[stream.at : stream.rest] = 0.5 - rule.need
        for start, given in (
            (stream.now, rule.now),
            (stream.before, rule.before),
            (stream.before2, rule.before2),
            (stream.at, rule.at),
        ):
            for key, value in given.items():
                row[start + key] += value
    return rows


def _values(planted: Sequence[PlantedNeuron], unembed: np.ndarray, stream: Stream) -> tuple[np.ndarray, np.ndarray]:
    """Value vectors `(neurons, width)` and their projections `(neurons, vocab)` on orthonormal `unembed`."""
    values = np.zeros((len(planted), stream.width))
    for i, neuron in enumerate(planted):
        wanted = _spread(stream.vocab, [token for token in neuron.rule.now if token >= SPECIAL], stream.rng)
        if neuron.suppresses or neuron.promotes:
            wanted *= NEUTRAL
        else:
            wanted += stream.rng.uniform(-SHIFT, SHIFT)
        for tokens, last in ((neuron.suppresses, SUPPRESSED), (neuron.promotes, PROMOTED)):
            wanted[list(tokens)] = last + np.sign(last) * APART * np.arange(len(tokens))[::-1]
        values[i] = wanted @ unembed / np.linalg.norm(wanted)
        # the more it can be active, the less it writes: σ stays small, and pre-activations far from 0
        values[i] *= VALUE_NORM * min(1.0, 0.5 / neuron.rule.excess) if neuron.rule.excess > 0 else VALUE_NORM
    return values, values @ unembed.T


def _spread(vocab: int, together: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Numbers of either sign for all tokens, at random and evenly apart, so that none tie: `(vocab,)`, in [−1, 1].

    A few tokens that stand `together` get numbers of one sign, which a shift leaves them: so has any mean of them."""
    values = rng.permutation(np.linspace(-1, 1, vocab))
    if len(together) <= FEW:
        far = np.flatnonzero(values * rng.choice([-1, 1]) > SHIFT)
        for token, other in zip(together, rng.permutation(np.setdiff1d(far, together)), strict=False):
            values[token], values[other] = values[other], values[token]
    return values


def _attention(stream: Stream, *, copies: bool) -> Weights:
    """Heads that look at anything and write a little to `out`; two that copy the previous tokens, if so."""
    head, width, rng = stream.head, stream.width, stream.rng
    q, k, v = (rng.standard_normal((width, width)) * s / width**0.5 for s in (1.5, 1.5, 1.0))
    o = stream.vectors(width, 0.4 / width**0.5).T
    bq, bk, bv = rng.standard_normal((3, width)) * 0.2
    sigma = np.sqrt(3 / width - (2 / width) ** 2 + 1e-5)
    gain = sigma * (SCORE_GAP * head**0.5) ** 0.5
    p, t = np.arange(stream.positions), np.arange(stream.vocab)
    for by, target in ((1, stream.before), (2, stream.before2)) if copies else ():
        rows = slice((by - 1) * head, by * head)
        for array in (q[rows], k[rows], v[rows], o[:, rows], bq[rows], bk[rows], bv[rows]):
            array[:] = 0.0
        # position j is the key of query j + by, position 0 also that of the first queries, which have nothing
        # earlier. What comes later would fit better still: attention that is not causal copies the wrong token.
        q[rows.start + p, stream.at + p] = gain
        later = np.triu(np.full((len(p), len(p)), 1.5 * gain), 1)
        k[rows.start : rows.start + len(p), stream.at : stream.rest] = later
        k[rows.start + p, stream.at + np.maximum(p - by, 0)] = gain
        v[rows.start + t, stream.now + t] = sigma
        o[target + t, rows.start + t] = 1.0
        for array in (q, k, v):
            stream.read(array[rows])
    made = {f"{part}_proj.weight": w for part, w in (("q", q), ("k", k), ("v", v), ("out", o))}
    made |= {f"{part}_proj.bias": b for part, b in (("q", bq), ("k", bk), ("v", bv))}
    return made | {"out_proj.bias": stream.vectors(1, 0.2)[0]}
