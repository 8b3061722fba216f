"""terminal: text of unknown origin in a terminal — escaped, measured in its cells, cut and wrapped."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence


def pieces(text: str, names: Mapping[str, str] | None = None) -> list[str]:
    """Text of unknown origin, a printable piece a character: one with a name by that, a control character escaped."""
    named = names or {}
    return [named.get(c) or (c if c.isprintable() else ascii(c)[1:-1]) for c in text]


def running(text: str) -> list[str]:
    """Pieces of running text: a line's end is ⏎, a tab ⇥."""
    return pieces(text.replace("\r\n", "\n"), {"\n": "⏎", "\t": "⇥"})


def quoted(content: bytes, width: int) -> str:
    """A token or several in quotes, escaped, spaces seen, in at most `width` cells (but at least a few); bytes that are
    no character as \\xNN."""
    text = content.decode(errors="surrogateescape")
    lone = {c: f"\\x{ord(c) - 0xDC00:02x}" for c in text if "\udc80" <= c <= "\udcff"}
    inner = cut(pieces(text, {"\\": "\\\\", '"': '\\"', **lone}), max(6, width - 2))
    return f'"{inner}"'


def cells(text: str) -> int:
    """Columns that text takes in a terminal: wide characters two, combining ones none (UAX 11)."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def cut(text: Sequence[str], width: int, *, more: bool = False, last: bool = False) -> str:
    """The start of a text in `width` cells (`last`: its end), with an ellipsis where something is left out.

    `more`: something is, in any case. No piece of `text` is cut in two.
    """
    if width < 1:
        return ""
    kept, used = [], 0
    for piece in (text[::-1] if last else text)[: 4 * width]:  # marks that take no cells fill no screen either
        used += cells(piece)
        if used > width:
            break
        kept.append(piece)
    if more or len(kept) < len(text):
        while kept and cells("".join(kept)) >= width:
            kept.pop()
        kept.append("…")
    return "".join(kept[::-1] if last else kept)


def padded(text: str, width: int) -> str:
    """Text with spaces behind it, `width` cells in all."""
    return text + " " * (width - cells(text))


def wrapped(title: str, items: Iterable[str], width: int, *, gap: str = "  ") -> list[str]:
    """Items in lines of `width` cells, a gap apart, behind a title."""
    lines = [title]
    for item in items:
        between = "" if lines[-1] in (title, " " * cells(title)) else gap
        if between and cells(lines[-1] + between + item) > width:
            lines.append(" " * cells(title))
            between = ""
        lines[-1] += between + item
    return lines


def sentence(title: str, clauses: Sequence[str], width: int) -> list[str]:
    """Clauses with semicolons between them, in lines of `width` cells behind a title; none is cut in two."""
    return wrapped(title, [*(f"{clause};" for clause in clauses[:-1]), *clauses[-1:]], width, gap=" ")
