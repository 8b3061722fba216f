"""Firing: on which tokens a neuron is active, from its bits or what was sampled of them, and what stands around these.

Bits are read once, a chunk a block, when something asks for them; text, a stretch of sequences at a time, when a
context is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from functools import cached_property, partial

import numpy as np

from neurolens import NeurolensError, UsageError, brief
from neurolens.bits import unpack
from neurolens.context import Asked, Context, Contexts
from neurolens.store import Store
from neurolens.tokens import token_priority
from neurolens.vocabulary import Vocabulary

WINDOW = (48, 24)  # tokens of a context before and after the one that the neuron is active on
STRETCH = 1 << 20  # bytes of tokens read together, as large as a chunk of them
LABELS = 8  # labels named where one is unknown


def read_active(store: Store, layer: int, neuron: int) -> np.ndarray:
    """On which tokens a neuron is active, in the corpus' order: bool `(token,)`.

    Raises NeurolensError if its bits were dropped or are damaged.
    """
    row = store.rows(layer, slice(neuron, neuron + 1)).view(np.uint8)[0]
    active = np.empty(store.n_tokens, bool)
    active[store.read("order")] = unpack(row, store.n_tokens)
    return active


class Firing:
    """Where a neuron of a run is active.

    sampled      int64 `(sample,)`: tokens that analysis has drawn, the least `token_priority` of `seed` first
    activations  on how many tokens it is active
    by_label     the same by label, int64 `(label,)`
    """

    def __init__(
        self,
        store: Store,
        vocabulary: Vocabulary,
        layer: int,
        neuron: int,
        *,
        title: str,
        samples: np.ndarray,
        seed: int,
        activations: int,
        by_label: Sequence[int],
    ) -> None:
        """`samples`: `sampled` as it is stored, −1 where there are no more."""
        self.store, self.vocabulary, self.layer, self.neuron, self.title = store, vocabulary, layer, neuron, title
        self.sampled, self.seed, self._usual = samples[samples >= 0], seed, len(samples)
        self.activations, self.by_label = activations, by_label
        self._stretch: tuple[int, np.ndarray] | None = None

    @property
    def kept(self) -> bool:
        """Whether all tokens that the neuron is active on can be told: its bits are there, or it has few."""
        return len(self.sampled) == self.activations or self._stored

    @cached_property
    def tokens(self) -> np.ndarray:
        """All tokens it is active on: int64 `(activation,)` ascending. Raises NeurolensError if they are not known."""
        if len(self.sampled) == self.activations:
            return np.sort(self.sampled)
        if not self.kept:
            name = f"neuron {self.layer}.{self.neuron}"
            raise NeurolensError(
                f"{self.store.path}: the bits of {name} were dropped once they were counted, and "
                f"of its {self.activations:,} activations {len(self.sampled)} are known, which contexts() shows; "
                "collect it again with --keep-bitmaps all to see more"
            )
        return np.flatnonzero(read_active(self.store, self.layer, self.neuron))

    def find(self, asked: Asked) -> Contexts:
        """See `Card.contexts`."""
        label, sample, all, seed = asked.label, asked.sample, asked.all, asked.seed
        if all and sample is not None:
            raise UsageError(f"sample={sample} and all=True: one asks for some, the other for every context; give one")
        if sample is not None and not (isinstance(sample, int | np.integer) and sample >= 1):
            raise UsageError(f"sample is {brief(sample)}; expected how many contexts, at least 1")
        if seed is not None and not (isinstance(seed, int | np.integer) and seed >= 0):
            raise UsageError(f"seed is {brief(seed)}; expected a whole number from 0 on")
        decode = partial(self._decode, window=_checked(asked.window))
        number = None if label is None else self._number(label)
        total = self.activations if number is None else int(self.by_label[number])
        if all:
            tokens = np.sort(self._of(self.sampled, number))
            tokens = tokens if len(tokens) == total else self._of(self.tokens, number)
        else:
            tokens = self._draw(number, total, sample, self.seed if seed is None else seed)
        return Contexts(tokens, decode, total=total, drawn=not all, title=self.title, label=label)

    def _draw(self, label: int | None, total: int, sample: int | None, seed: int) -> np.ndarray:
        """Of the tokens with a label those with the least hash; what was stored, if that holds them."""
        wanted = self._usual if sample is None else sample
        if seed == self.seed:
            stored = self._of(self.sampled, label)  # all others of the label come behind them
            if len(stored) >= min(wanted, total) or (sample is None and not self.kept):
                return stored[:wanted]
        tokens = self._of(self.tokens, label)
        return tokens[np.argsort(token_priority(tokens, seed=seed))[:wanted]]

    def _of(self, tokens: np.ndarray, label: int | None) -> np.ndarray:
        return tokens if label is None else tokens[self._labels[tokens // self.store.shape[1]] == label]

    def _number(self, label: str) -> int:
        names = self.store.attrs["label_names"]
        if label in names:
            return names.index(label)
        near = get_close_matches(str(label), names, 1)
        known = ", ".join(brief(name) for name in names[:LABELS]) + (", …" if len(names) > LABELS else "")
        hint = f"did you mean {brief(near[0])!r}?" if near else f"expected one of {known}"
        raise UsageError(f"{self.store.path} has no label {brief(label)!r}; {hint}")

    @cached_property
    def _labels(self) -> np.ndarray:
        return self.store.read("label")

    @cached_property
    def _stored(self) -> bool:
        """Whether its bits are there."""
        return bool(self.store.kept(self.layer)[self.neuron])

    @cached_property
    def _known(self) -> np.ndarray | None:
        """`tokens`, None if they cannot be read: of a context it is then not known what else is active."""
        try:
            return self.tokens if self.kept else None
        except NeurolensError:  # damaged: whoever needs the bits is told, text can be read without
            return None

    def _decode(self, indices: np.ndarray, *, window: tuple[int, int]) -> list[Context]:
        """Contexts of some tokens. They are read in the corpus' order, in which a stretch of text is met once."""
        found: dict[int, Context] = {}
        for index in np.unique(indices).tolist():
            found[index] = self._context(index, window)
        return [found[index] for index in indices.tolist()]

    def _context(self, index: int, window: tuple[int, int]) -> Context:
        sequence, position = divmod(index, self.store.shape[1])
        first, last = max(0, position - window[0]), min(self.store.shape[1], position + 1 + window[1])
        ids = tuple(self._row(sequence)[first:last].tolist())
        before, token, after = self.vocabulary.around(ids, position - first)
        return Context(
            index=index,
            sequence=sequence,
            position=position,
            label=self.store.attrs["label_names"][int(self._labels[sequence])],
            before=before,
            token=token,
            after=after,
            starts=first == 0,
            ends=last == self.store.shape[1],
            at=position - first,
            ids=ids,
            texts=tuple(self.vocabulary.apart(ids)),
            active=self._active(index - position + first, len(ids)),
        )

    def _active(self, first: int, count: int) -> tuple[bool | None, ...]:
        """Whether the neuron is active on the tokens from `first` on."""
        known = np.sort(self.sampled) if self._known is None else self._known
        inside = known[slice(*np.searchsorted(known, [first, first + count]))] - first
        found: list[bool | None] = [None if self._known is None else False] * count
        for place in inside.tolist():
            found[place] = True
        return tuple(found)

    def _row(self, sequence: int) -> np.ndarray:
        """Token ids of a sequence, int32 `(position,)`; of what is read the last stretch is remembered."""
        at_once = max(1, STRETCH // (4 * self.store.shape[1]))
        number, within = divmod(sequence, at_once)
        if self._stretch is None or self._stretch[0] != number:
            self._stretch = number, self.store.read("tokens", slice(number * at_once, (number + 1) * at_once))
        return self._stretch[1][within]


def _checked(window: tuple[int, int] | None) -> tuple[int, int]:
    if window is None:
        return WINDOW
    sound = isinstance(window, Sequence) and len(window) == 2
    if not sound or not all(isinstance(each, int | np.integer) and each >= 0 for each in window):
        raise UsageError(f"window is {brief(window)}; expected (before, after), tokens from 0 on, for example {WINDOW}")
    return int(window[0]), int(window[1])
