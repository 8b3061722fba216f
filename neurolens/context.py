"""Context: a token that a neuron is active on, in the text around it, and the line that shows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from neurolens.terminal import cells, cut, padded, pieces, running

LABEL = 12  # cells of a label's name, at most


@dataclass(frozen=True)
class Context:
    """A token on which the neuron is active, its index in the corpus and its place, and the text around it.

    `before`, `token` and `after` join to the text of a window; where a character is split over tokens, `token` is
    the whole of it. `starts`, `ends`: the window reaches the sequence's start, its end.
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
