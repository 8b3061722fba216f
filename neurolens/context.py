"""Context: a token that a neuron is active on, in the text around it; many of them; and the lines that show them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, overload

import numpy as np

from neurolens.terminal import cells, cut, padded, pieces, running
from neurolens.verdict import count

if TYPE_CHECKING:
    import pandas

LABEL = 12  # cells of a label's name, at most
PAGE = 64  # contexts decoded together when they are looked at one after the other
SHOWN = 8  # contexts that a representation shows
WIDTH = 100  # cells of its lines


@dataclass(frozen=True)
class Context:
    """A token on which the neuron is active and the text around it: its `index` in the corpus, the `sequence` and
    `position` that this is (`sequence * T + position`), the `label` of the sequence.

    `before`, `token` and `after` join to the text of a window; where a character is split over tokens, `token` is
    the whole of it. `starts`, `ends`: the window reaches the sequence's start, its end.

    Token by token, `(token of the window,)` each, of which the one at place `at` is the one that it is about:
    `ids`; `texts`, of which the first token has a character that is split and the others have ""; `active`, whether the
    neuron is active on it, None where that is not known because the bits were dropped.
    """

    index: int
    sequence: int
    position: int
    label: str
    before: str
    token: str
    after: str
    starts: bool
    ends: bool
    at: int = 0
    ids: tuple[int, ...] = ()
    texts: tuple[str, ...] = ()
    active: tuple[bool | None, ...] = ()

    @property
    def known(self) -> bool:
        """Whether it is known of every token of the window if the neuron is active on it."""
        return None not in self.active


@dataclass(frozen=True)
class Asked:
    """Which contexts are asked for, see `Card.contexts`."""

    label: str | None = None
    sample: int | None = None
    all: bool = False
    window: tuple[int, int] | None = None
    seed: int | None = None


class Source(Protocol):
    """Where contexts of a neuron come from."""

    @property
    def kept(self) -> bool:
        """Whether all tokens that the neuron is active on can be told, from its bits or as there are so few."""
        ...

    def find(self, asked: Asked) -> Contexts:
        """As `Card.contexts`."""
        ...


class Contexts(Sequence[Context]):
    """Contexts of a neuron, each decoded when it is looked at: until then they cost their indices.

    tokens  int64 `(context,)`: index of the token, `sequence * T + position`
    total   how many tokens there are that they were chosen from: those that the neuron is active on, of `label` if
            one was asked for
    drawn   whether they were chosen at random and stand as they were drawn, else they are in the corpus' order
    title   whose they are, for people
    """

    def __init__(
        self,
        tokens: np.ndarray,
        decode: Callable[[np.ndarray], list[Context]],
        *,
        total: int,
        drawn: bool,
        title: str = "",
        label: str | None = None,
    ) -> None:
        """`decode`: indices int64 `(context,)` → their contexts, in that order."""
        self.tokens, self.total, self.drawn, self.title, self.label = tokens, total, drawn, title, label
        self._decode = decode

    def __len__(self) -> int:
        return len(self.tokens)

    @overload
    def __getitem__(self, at: int) -> Context: ...
    @overload
    def __getitem__(self, at: slice) -> Contexts: ...
    def __getitem__(self, at: int | slice) -> Context | Contexts:
        if not isinstance(at, slice):
            return self._decode(np.array([self.tokens[at]]))[0]
        kept = {"total": self.total, "drawn": self.drawn, "title": self.title, "label": self.label}
        return Contexts(self.tokens[at], self._decode, **kept)

    def __iter__(self) -> Iterator[Context]:
        for first in range(0, len(self), PAGE):
            yield from self._decode(self.tokens[first : first + PAGE])

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Contexts) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def headline(self) -> str:
        """`8 of 1,234 activations, at random`; the label, if one was asked for, behind it."""
        of = "" if self.label is None else f" in {cut(pieces(self.label), 2 * LABEL)}"
        if len(self) == self.total:
            return f"{'all ' if self.total > 1 else ''}{count(self.total, 'activation')}{of}"
        how = "at random" if self.drawn else "in the corpus' order"
        return f"{len(self):,} of {count(self.total, 'activation')}{of}, {how}"

    def to_pandas(self) -> pandas.DataFrame:
        """A row a context: `index`, `sequence`, `position`, `label`, the text `before`, the `token`, the text `after`,
        and `active`, on how many tokens of the window the neuron is known to be active, the token among them.

        All of them are decoded.
        """
        import pandas

        names = ("index", "sequence", "position", "label", "before", "token", "after")
        found: dict[str, list[Any]] = {name: [] for name in (*names, "active")}
        for context in self:
            for name in names:
                found[name].append(getattr(context, name))
            found["active"].append(sum(map(bool, context.active)))
        texts = {"label", "before", "token", "after"}
        return pandas.DataFrame(
            {name: pandas.Series(of, dtype=object if name in texts else "int64") for name, of in found.items()}
        )

    def _repr_html_(self) -> str:
        from neurolens.display.contexts import view_contexts

        return view_contexts(self)

    def __repr__(self) -> str:
        lines = [f"contexts of {''.join(pieces(self.title))}: {self.headline()}"]
        if shown := list(self[:SHOWN]):
            lines += context_lines(shown, WIDTH, mark=str, labelled=len({context.label for context in shown}) > 1)
        if more := len(self) - len(shown):
            lines.append(f"  and {count(more, 'context')} more")
        return "\n".join(lines)


def context_lines(contexts: Sequence[Context], width: int, *, mark: Callable[[str], str], labelled: bool) -> list[str]:
    """Contexts in the corpus' order, a line each: the token between «», below one another, `mark`ed; the label before
    it if they are `labelled`. Escaped, in `width` cells beside what `mark` adds."""
    shown = sorted(contexts, key=lambda context: context.index)
    label = min(LABEL, max(cells("".join(pieces(context.label))) for context in shown)) if labelled else 0
    across = width - 2 - (label + 2 if label else 0) - 2  # beside margin, label and the two marks
    left = min(across * 3 // 5, max(cells("".join(running(context.before))) for context in shown))
    room = across - left
    lines = []
    for context in shown:
        name = padded(cut(pieces(context.label), label), label + 2) if label else ""
        before = cut(running(context.before), left, more=not context.starts, last=True)
        token = cut(running(context.token), room - 8)
        after = cut(running(context.after), room - cells(token), more=not context.ends)
        space = " " * (left - cells(before))
        lines.append(f"  {name}{space}{before}«{mark(token)}»{after}".rstrip())
    return lines
