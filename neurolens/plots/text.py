"""Text of unknown origin in figures: names of runs and tokens, escaped, shortened, wrapped; widths in inches."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from matplotlib import font_manager
from matplotlib.textpath import TextToPath

FONT = "DejaVu Sans"  # comes with matplotlib
SPACE = "␣"  # what a space in a token is shown as


def printable(text: object) -> str:
    """Text of unknown origin as one line: what is not printable, or not in the font of the figures, escaped."""
    return "".join(c if c.isprintable() and ord(c) in glyphs() else ascii(c)[1:-1] for c in str(text))


def token_text(text: str, *, most: float = 1.0, size: float = 9) -> str:
    """A token for a figure: spaces visible, one line, never empty, at most about `most` inches wide at `size` points.

    A token that has the sign for a space itself is shown with that sign escaped.
    """
    pieces = [SPACE if c == " " else ascii(c)[1:-1] if c == SPACE else printable(c) for c in text]
    return _shortened(pieces, most, size) or '""'


def run_names(runs: Sequence[Any], *, most: float = 2) -> list[str]:
    """Names of runs for legends, see `distinct`; runs of one family differ at the end (-step300k) more than within."""
    return distinct([run.name for run in runs], most=most)


def distinct(texts: Sequence[object], *, most: float = 2) -> list[str]:
    """Names for legends: printable, never empty, at most about `most` inches wide, a number where two are the same.

    Long ones lose their middle.
    """
    names: list[str] = []
    for each in texts:
        text = str(each).strip() or "(no name)"
        name = unique = _shortened([printable(c) for c in text], most)  # by character: no escape is cut in two
        number = 1
        while unique in names:
            number += 1
            unique = f"{name} ({number})"
        names.append(unique)
    return names


def wrapped(text: str, most: float, size: float) -> list[str]:
    """Lines of at most `most` inches in the figures' font (a single longer word stays whole); newlines are kept."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        lines.append("")
        taken = 0.0
        for word in paragraph.split():
            taken += width(f" {word}", size)  # word by word: they recur
            if lines[-1] and taken <= most:
                lines[-1] += f" {word}"
                continue
            if lines[-1]:
                lines.append("")
            lines[-1], taken = word, width(f" {word}", size)
    return lines


@lru_cache(4096)
def width(text: str, size: float = 9) -> float:
    """Inches that a text takes in the figures' font."""
    font = font_manager.FontProperties(family=FONT, size=size)
    return TextToPath().get_text_width_height_descent(text, font, False)[0] / 72


@lru_cache
def glyphs() -> frozenset[int]:
    """Code points the figures' font has; any other would be drawn as a box."""
    return frozenset(font_manager.get_font(font_manager.findfont(FONT)).get_charmap())


def _shortened(pieces: list[str], most: float, size: float = 9, *, most_pieces: int = 128) -> str:
    """The pieces as one text of at most `most` inches: as many from both ends as fit, with … for what is between."""
    if len(pieces) <= most_pieces and width(whole := "".join(pieces), size) <= most:
        return whole

    def shown(count: int) -> str:
        return f"{''.join(pieces[: (count + 1) // 2])}…{''.join(pieces[len(pieces) - count // 2 :])}"

    counts = range(1, min(len(pieces), most_pieces))
    return shown(bisect_right(counts, most, key=lambda count: width(shown(count), size)))
