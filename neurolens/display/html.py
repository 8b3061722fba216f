"""html: elements, in which whatever is not HTML already is text: escaped, control characters visible.

    tag("td", token, role="n")   <td class="nl-n">…</td>

Names of elements and attributes are ours; what comes from data is only ever text between them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

from neurolens.terminal import cells, pieces

LONG = 600  # cells of a text, at most, unless asked
SIGNS = {"\n": "⏎", "\t": "⇥", "\r": "\\r"}


class Html(str):
    """A text that is markup; any other str is not, and is escaped where it is put into one."""


def text(value: object, *, most: int = LONG, signs: Mapping[str, str] | None = None) -> Html:
    """Text of unknown origin in at most `most` cells: what is not printable is escaped and looks it, a line's end and
    a tab are the `signs` of these. Isolated, so that writing from right to left turns nothing around it."""
    known, found, used, plain = SIGNS if signs is None else signs, [], 0, ""
    given = str(value)
    for at, character in enumerate(given):
        (piece,) = pieces(character, known)
        used += cells(piece)
        if used > most or at >= 4 * most:  # marks that take no cells fill no screen either
            plain += "…"
            break
        if piece == character:
            plain += piece
            continue
        role = "sign" if len(piece) == 1 else "odd"
        found += [escape(plain), f'<span class="nl-{role}">{escape(piece)}</span>']
        plain = ""
    return Html(f"<bdi>{''.join(found)}{escape(plain)}</bdi>" if not given.isascii() or found else escape(plain))


def tag(name: str, *children: object, role: str = "", **attributes: object) -> Html:
    """An element of classes `nl-role`, for each word of `role`. Children that are no Html are `text`; attributes that
    are None are left out, True stands by its name alone, and _ in a name is -."""
    found = [f'class="{" ".join(f"nl-{word}" for word in role.split())}"'] if role else []
    for key, value in attributes.items():
        if value is not None and value is not False:
            shown = key.rstrip("_").replace("_", "-")
            found.append(shown if value is True else f'{shown}="{escape(str(value))}"')
    inner = join(children)
    return Html(f"<{' '.join([name, *found])}>{inner}</{name}>")


def join(parts: Iterable[object], between: str = "") -> Html:
    """Parts one after the other; those that are no Html as `text`."""
    return Html(escape(between).join(part if isinstance(part, Html) else text(part) for part in parts))
