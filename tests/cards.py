"""Cards made by hand, in which every text of unknown origin is what a test says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from neurolens.card import Card, Update, Written
from neurolens.context import Context, Contexts
from neurolens.profile import Contrast, Dependence, Kind, Profile, Range, Rate
from neurolens.verdict import Trigger, Verdict

HOSTILE = [
    "\x1b[2J\x1b[1;1H",
    "\u202e gnp.exe",
    "</script>",
    "\0",
    "a\r\nb\tc\u2028d",
    "日本語" * 50,
    "é" * 400,
    "\\",
    '"',
]


class Made:
    """One context of 20, whatever is asked for."""

    kept = False

    def __init__(self, context: Context) -> None:
        self.context = context

    def find(self, asked: Any) -> Contexts:
        return Contexts(np.array([self.context.index]), lambda indices: [self.context], total=20, drawn=True)


def drawn(content: bytes, text: str) -> Card:
    """A card in which every text of unknown origin is one of these two."""
    trigger = Trigger((7,), content, 20, 21, 0.8, True, True, -0.5, -0.4, 0, -0.1)
    rules = {"coverage": 95, "min_rate": 95, "min_occurrences": 1, "support_occurrences": 5, "support_activations": 100}
    written = (Written(7, content, -1e-5, True),) * 10
    return Card(
        run=text, model=text, layer=3, neuron=1072, rate=Rate(20, 1000), activations_on_text=20,
        labels={text: Rate(20, 500), "other": Rate(0, 500)}, rules=rules,
        ngrams=(Verdict(1, 1, 5, 20, True, False, (trigger,)),),
        update=Update(written, written, 0.1, True, -0.5, -0.6, 1000, False, "run"),
        source=Made(Context(9, 0, 9, text, text, content.decode(errors="replace"), text, False, False)),
    )  # fmt: skip


KIND = Kind(
    "oscillatory", "strong", 64.21, 12.0, 0.974, 0.981, (Range(0, 32, True, 0.999, 99), Range(32, 64, False, 0.0, 99))
)
FOUND = Dependence(0.312, 0.3, 0.281, 0.3304, 1e-40, False)


def with_profiles(
    card: Card, *, text: str = "code", kind: Kind | None = KIND, curve: tuple[int, ...] = (5, 5, 0, 10)
) -> Card:
    """The card of a neuron whose positions and labels are analysed; `text` is the name of a label."""
    return replace(
        card,
        positions=Profile(curve, (10,) * len(curve), FOUND, kind, 0.05),
        contrast=Contrast(FOUND, text, True, None, False),
        design_effect=1.5,
    )
