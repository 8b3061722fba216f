"""Planted by the token and those before it: bigram and trigram detectors, and what misses each rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from neurolens.testing.draft import Draft, points
from neurolens.testing.rules import BOS, DETECTORS, OTHER, Ngram, Rule
from neurolens.testing.text import NGRAM_COUNTS

# Words taken from each place of a grid. A neuron adds up points: it detects all combinations, {a, c} × {b, d}.
PRODUCTS = {2: ((1, 2), (2, 2), (3, 3), (5, 5)), 3: ((1, 1, 2), (2, 2, 1), (2, 2, 2), (3, 3, 2))}


def plan_ngrams(draft: Draft, n: int) -> None:
    """Detectors of bigrams (n = 2) or trigrams (3): rates and coverages of exactly 95%, ties, up to 50 n-grams."""
    text, named = draft.text, draft.text.ngrams[n]
    hundred = named["100"]
    shared, on = hundred[:-1], text.ends(hundred)

    def add(triggers: Sequence[Ngram], rule: Rule, misses: str = "", **values: tuple[int, ...]) -> None:
        draft.add(OTHER if misses else DETECTORS[n], rule, n=n, triggers=triggers, misses=misses, **values)

    def once(ngram: Ngram) -> list[dict[int, int]]:
        return [points([token]) for token in ngram]

    add([hundred], _rule(n, once(hundred)), suppresses=hundred[-1:])
    # what follows `</s>` has no n-gram of this length: being active there changes nothing. Not in the first columns,
    # where it always would be: that were a positional neuron
    apart = [points([token]) | {BOS: n} for token in shared]
    add([hundred], _rule(n, [*apart, points(hundred[-1:])], at=points(range(n), -2 * n)), promotes=hundred[-1:])
    for by in ("at", "before2")[: 4 - n]:
        for percent, misses in ((99, ""), (95, ""), (94, "rate")):
            off = draft.where(on, NGRAM_COUNTS["100"] * (100 - percent) // 100, by)
            add([hundred], _rule(n, once(hundred), **{by: points(off, -1)}), misses)

    def partly(names: Sequence[str], extra: int, misses: str = "") -> None:
        """Always active on these n-grams, and on `extra` occurrences of the frequent one.

        Points that can reach what is needed only together: 3 for each shared token, then 2, or 1 and 1.
        """
        last = [*(points([token], 3) for token in shared), {named[name][-1]: 2 for name in names} | {hundred[-1]: 1}]
        at = points(draft.where(on, extra))
        add([named[name] for name in names], _rule(3 * len(shared) + 2, last, at=at), misses)

    partly(["19"], 1)  # 95%
    partly(["47"], 3, "coverage")  # 94%
    # 36 + 4·1 activations: as for tokens, all ties must be in the covering set, for one of them is not covered
    partly(["36", "one", "one'", "one''"], 1)

    grid = text.grids[n]
    for sizes in PRODUCTS[n]:
        chosen = [draft.some(words, size) for words, size in zip(grid, sizes, strict=True)]
        others = tuple(draft.some(draft.words, 3, besides=chosen[-1]))
        rule = _rule(n, [points(words) for words in chosen])
        add(list(product(*chosen)), rule, suppresses=tuple(chosen[-1]), promotes=others)
    # 52 and 53 of the 54 equally frequent n-grams: covering numbers 50 and 51
    for left_out, misses in ((2, ""), (1, "number")):
        low = [draft.some(words, 1) for words in grid[:-1]] + [draft.some(grid[-1], left_out)]
        chosen = [points(words, 3) | points(those, 2) for words, those in zip(grid, low, strict=True)]
        add(sorted(set(product(*grid)) - set(product(*low))), _rule(2 * n + 1, chosen), misses)


def _rule(need: int, places: Sequence[Mapping[int, int]], **more: Any) -> Rule:
    """A rule from the points in each place of an n-gram, in reading order."""
    return Rule(need, **dict(zip(("before2", "before", "now")[-len(places) :], places, strict=True)), **more)
