"""passages: contexts of neurons, which of their tokens they are active on, and the stretches of text that they need.

Every neuron's sample takes the tokens of least hash that it is active on, the same hash for all neurons, so that
samples share tokens, and the text of all of them together stays short.
"""

from __future__ import annotations

import numpy as np

CONTEXTS = 8  # of a neuron
WINDOW = (40, 23)  # tokens before and after the one it is active on: with it 64, the bits of a mask
TOKENS = 1_500_000  # of text in a page, at most: some 3 MB


def choose_contexts(
    samples: np.ndarray,
    shape: tuple[int, int],
    *,
    count: int = CONTEXTS,
    window: tuple[int, int] = WINDOW,
    tokens: int = TOKENS,
) -> tuple[np.ndarray, np.ndarray]:
    """The contexts to show, and the text that they need.

    `samples` int64 `(row, sample)`: indices of tokens, −1 for none; `shape` (sequences, positions) of the text. Returns
    contexts int64 `(row, ≤ count)`, in the order of the samples, −1 for none, and which tokens of the text are in any
    window, bool `(token,)`: at most `tokens` of them. Where more would be needed, later contexts are left out first.
    """
    covered = np.zeros(shape[0] * shape[1], bool)
    chosen = np.full((len(samples), min(count, samples.shape[1])), -1, np.int64)
    for rank in range(chosen.shape[1]):
        wanted = np.unique(samples[:, rank])
        wanted = wanted[wanted >= 0]
        inside = _windows(wanted, shape[1], window)
        new = wanted[(~covered[np.maximum(inside, 0)] & (inside >= 0)).any(1)]
        room = max(0, tokens - int(covered.sum())) // (sum(window) + 1) if tokens < covered.size else len(new)
        kept = np.setdiff1d(wanted, new[room:], assume_unique=True)
        places = _windows(kept, shape[1], window)
        covered[places[places >= 0]] = True
        chosen[:, rank] = np.where(np.isin(samples[:, rank], kept), samples[:, rank], -1)
    return chosen, covered


def _windows(index: np.ndarray, positions: int, window: tuple[int, int]) -> np.ndarray:
    """The tokens around each, in its sequence: int64 `(token, before + 1 + after)`, −1 beyond the sequence."""
    around = index[:, None] + np.arange(-window[0], window[1] + 1)
    return np.where(around // positions == index[:, None] // positions, around, -1)


def mask_windows(
    rows: np.ndarray, row: np.ndarray, index: np.ndarray, rank: np.ndarray, first: int, positions: int
) -> np.ndarray:
    """Which tokens of its window a neuron is active on: uint64 `(context,)`, bit i is that of token `index − 40 + i`.

    `rows` uint8 `(neuron, bytes)`: bits of a block in context order; `row` int64 `(context,)`: of which; `index` int64
    `(context,)`: the token; `rank` int64 `(token of the block,)`: where each is in a row; `first`: the block's first
    token. Beyond the sequence bits are 0.
    """
    places = _windows(index, positions, WINDOW)
    at = rank[np.maximum(places - first, 0)]
    on = (rows[row[:, None], at >> 3] >> (at & 7).astype(np.uint8)) & 1
    on = np.where(places >= 0, on, 0).astype(np.uint64)
    return (on << np.arange(64, dtype=np.uint64)).sum(1, dtype=np.uint64)


def mask_samples(samples: np.ndarray, contexts: np.ndarray, positions: int) -> np.ndarray:
    """The same of neurons whose bits are gone, from the tokens they are known to be active on.

    `samples` int64 `(row, sample)`, `contexts` int64 `(row, context)`, −1 for none: uint64 `(row, context)`.
    """
    place = samples[:, None, :] - contexts[:, :, None] + WINDOW[0]
    same = (samples[:, None, :] // positions == contexts[:, :, None] // positions) & (samples[:, None, :] >= 0)
    known = same & (place >= 0) & (place < 64) & (contexts[:, :, None] >= 0)
    bit = np.where(known, np.uint64(1) << np.clip(place, 0, 63).astype(np.uint64), np.uint64(0))
    return np.bitwise_or.reduce(bit, axis=2)


def cut_passages(covered: np.ndarray, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Stretches of the text: `passage_first` uint32 `(passage,)`, the index of the first token of each, ascending;
    `passage_at` uint32 `(passage + 1,)`, where its tokens begin in `passage_token`, int32 or uint16.

    `covered` bool `(token,)`: those to take; `tokens` int32 `(token,)`.
    """
    edges = np.flatnonzero(np.diff(covered.astype(np.int8), prepend=0, append=0))
    starts, stops = edges[::2], edges[1::2]
    text = tokens[covered]
    small = np.uint16 if text.max(initial=0) < 1 << 16 else np.int32
    at = np.concatenate([[0], np.cumsum(stops - starts)])
    return {
        "passage_first": starts.astype(np.uint32),
        "passage_at": at.astype(np.uint32),
        "passage_token": text.astype(small),
    }
