"""Sparkline: a curve as rows of block characters, read without colour."""

from __future__ import annotations

from collections.abc import Sequence

BLOCKS = " ▁▂▃▄▅▆▇█"
HALF = 0.5  # a curve that gets beyond it is drawn up to 1, any other up to its own maximum


def pool(on: Sequence[int], total: Sequence[int], columns: int) -> tuple[int, list[float]]:
    """(places a column, `on / total` of each column) of counts at places 0, 1, …, in at most `columns` columns (≥ 2).

    The first place, where a sequence starts, always has a column for itself; the others share one as equally as the
    last of them allows. 0 where `total` is; none without places.
    """
    step = max(1, -(-(len(on) - 1) // max(1, columns - 1)))
    parts = [slice(0, 1), *(slice(first, first + step) for first in range(1, len(on), step))]
    return step, [sum(on[part]) / max(1, sum(total[part])) for part in parts if on[part]]


def find_top(shares: Sequence[float]) -> float:
    """What the scale of a curve of shares ends at: its maximum, or 1 if that is beyond `HALF`; 1 if all are 0.

    The first share does not count if another one is there: at the start of a sequence a neuron is like nowhere else.
    """
    top = max(shares[1:], default=0) or max(shares, default=0)
    return top if 0 < top <= HALF else 1.0


def draw_bars(shares: Sequence[float], top: float, rows: int) -> list[str]:
    """`rows` lines, the highest first, a character a share: eighths of a line, `top` all of them.

    Rounded, but blank only for 0, and whole only from `top` on.
    """
    most = 8 * rows
    heights = [
        most if share >= top else min(max(round(most * share / top), 1 if share > 0 else 0), most - 1)
        for share in shares
    ]
    return ["".join(BLOCKS[min(8, max(0, height - 8 * row))] for height in heights) for row in reversed(range(rows))]
