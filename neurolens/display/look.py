"""look: the style of all views, light and dark, and the pieces they are made of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from neurolens.display.html import SIGNS, Html, join, tag, text
from neurolens.terminal import pieces

TOKEN = 32  # cells of a token in a box, at most
FALLBACK = 20_000  # characters of the plain text beside a view, at most
SPACE = "␣"  # what a space in a token's box is shown as, as in figures
BAR = 4  # units that a bar of a spark is wide, its gap included
HEIGHT = 36  # … and the spark is high

# Rules for dl, dt, dd, tables and svg name two classes or more: JupyterLab has rules for all of these in outputs.
# JupyterLab's colours where they are, else what the system asks for; pages that say which they are (JupyterLab's, VS
# Code's, sphinx') go before the system
_LIGHT = """--nl-fg:var(--jp-content-font-color1,#1c2128);--nl-muted:var(--jp-content-font-color2,#636c76);
--nl-line:var(--jp-border-color2,#d8dee4);--nl-soft:var(--jp-layout-color2,#f3f5f7);--nl-bar:#0072b2;
--nl-on:#ffe08a;--nl-on-fg:#3d2f00;--nl-here:#e69f00;--nl-yes:#1a7f37;--nl-no:#b3261e;--nl-odd:#a40e63;"""
_DARK = """--nl-fg:var(--jp-content-font-color1,#e6edf3);--nl-muted:var(--jp-content-font-color2,#9198a1);
--nl-line:var(--jp-border-color2,#3d444d);--nl-soft:var(--jp-layout-color2,#212830);--nl-bar:#56b4e9;
--nl-on:#5c4a12;--nl-on-fg:#ffeab0;--nl-here:#e69f00;--nl-yes:#3fb950;--nl-no:#f47067;--nl-odd:#ff8fc7;"""
_SAYS_LIGHT = "[data-jp-theme-light=true],body[data-theme=light],html[theme=light],body.vscode-light"
_SAYS_DARK = "[data-jp-theme-light=false],body[data-theme=dark],html[theme=dark],body.vscode-dark"


def _under(pages: str) -> str:
    return ",".join(f"{page} .nl-view" for page in pages.split(","))


STYLE = (
    f".nl-view{{{_LIGHT}}}@media(prefers-color-scheme:dark){{.nl-view{{{_DARK}}}}}"
    f"{_under(_SAYS_LIGHT)}{{{_LIGHT}}}{_under(_SAYS_DARK)}{{{_DARK}}}"
    """
.nl-view{display:block!important;color:var(--nl-fg);font:13px/1.5 var(--jp-ui-font-family,system-ui,sans-serif);
max-width:1000px}
.nl-text{display:none}
.nl-view *{box-sizing:border-box}
.nl-head{font-size:15px;padding-bottom:5px;border-bottom:1px solid var(--nl-line);margin-bottom:7px}
.nl-head b{font-weight:650;margin-right:.5em}
.nl-muted,.nl-head span{color:var(--nl-muted)}
.nl-view dl.nl-facts{display:grid;grid-template-columns:max-content 1fr;gap:1px 14px;margin:0 0 6px}
.nl-view .nl-facts dt,.nl-view .nl-facts dd{display:block;float:none;margin:0;padding:0;width:auto}
.nl-view .nl-facts dt{color:var(--nl-muted);font-weight:400}.nl-facts dd{overflow-wrap:anywhere}
.nl-chip{display:inline-block;padding:0 8px;margin:0 5px 2px 0;border-radius:9px;border:1px solid var(--nl-line);
background:var(--nl-soft)}
.nl-view details{margin:2px 0}.nl-view summary{cursor:pointer}
.nl-fold>summary{padding:3px 0;font-weight:600}.nl-fold>summary span{font-weight:400;color:var(--nl-muted);
margin-left:.6em}.nl-fold>div{padding:2px 0 8px 16px}
.nl-scroll{overflow-x:auto}
.nl-view tr{background:none!important}
.nl-view table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:12px;margin:2px 0;border:0;
table-layout:auto}
.nl-view th,.nl-view td{padding:2px 9px;text-align:right!important;white-space:nowrap;border:0;
vertical-align:middle;background:none;color:var(--nl-fg);line-height:1.5}
.nl-view thead th{border-bottom:1px solid var(--nl-line);font-weight:600;vertical-align:bottom}
.nl-view th i{display:block;font-weight:400;font-style:normal;color:var(--nl-muted);font-size:11px}
.nl-view tbody th{font-weight:400;color:var(--nl-muted)}.nl-view .nl-l{text-align:left!important}
.nl-tok,.nl-win{font-family:var(--jp-code-font-family,ui-monospace,Menlo,Consolas,monospace);font-size:12px}
.nl-tok{display:inline-block;white-space:pre;padding:0 5px;border-radius:5px;border:1px solid var(--nl-line);
background:var(--nl-soft);line-height:1.5;max-width:100%;overflow:hidden;vertical-align:bottom}
.nl-tok.nl-trigger{border-color:var(--nl-here);box-shadow:0 0 0 1px var(--nl-here)}
.nl-items{display:flex;flex-wrap:wrap;gap:5px 12px;margin:3px 0}.nl-items small{color:var(--nl-muted);
margin-left:4px;font-variant-numeric:tabular-nums}
.nl-sign,.nl-space{color:var(--nl-muted)}.nl-odd{color:var(--nl-odd)}
.nl-yes{color:var(--nl-yes)}.nl-no{color:var(--nl-no)}
.nl-rule{margin:1px 0}.nl-rule b{display:inline-block;width:1.3em}
.nl-kwic summary{display:flex;gap:8px;align-items:baseline;list-style:none}
.nl-kwic summary::-webkit-details-marker{display:none}
.nl-kwic details{border-top:1px solid var(--nl-line);margin:0;padding:1px 0}
.nl-label{flex:0 0 7em;overflow:hidden;white-space:nowrap;text-overflow:ellipsis;color:var(--nl-muted);font-size:12px}
.nl-line{display:flex;flex:1;min-width:0;white-space:pre;overflow:hidden}
.nl-before{flex:3 1 0;min-width:0;overflow:hidden;display:flex;justify-content:flex-end}
.nl-before>span{flex:none}
.nl-after{flex:2 1 0;min-width:0;overflow:hidden}
.nl-whole{padding:4px 0 6px 16px;white-space:pre-wrap;overflow-wrap:anywhere}
.nl-on{background:var(--nl-on);color:var(--nl-on-fg);border-radius:3px}
.nl-on .nl-sign{color:inherit}
.nl-here{outline:1.5px solid var(--nl-here);outline-offset:-1px;font-weight:650}
.nl-sparks{display:flex;flex-wrap:wrap;gap:10px 26px;margin:5px 0}
.nl-sparks figure{margin:0}.nl-sparks figcaption{font-size:12px}
.nl-view .nl-spark{display:block;height:37px;max-width:none;fill:var(--nl-bar)}
.nl-spark line{stroke:var(--nl-line);stroke-width:1}
.nl-view .nl-curve{width:100%;max-width:720px}
.nl-meter{display:inline-block;width:60px;height:7px;border-radius:4px;background:var(--nl-line);margin-right:6px;
overflow:hidden;vertical-align:middle}.nl-meter i{display:block;height:100%;background:var(--nl-bar)}
"""
).replace("\n", "")


def view(fallback: str, *parts: object) -> str:
    """A whole view with its style. Where styles are not taken, as in pages that trust no notebook, `fallback`, plain
    text, is seen instead."""
    plain = f'<pre class="nl-text">{escape("".join(pieces(fallback[:FALLBACK], {chr(10): chr(10)})))}</pre>'
    style = Html(f"<style>{STYLE}</style>{plain}")
    return str(tag("div", style, tag("div", *parts, role="view", style="display:none")))


def head(title: object, about: object = "") -> Html:
    """The first line of a view."""
    return tag("div", tag("b", title), tag("span", about), role="head")


def facts(rows: Iterable[tuple[str, object]]) -> Html:
    """Names and what they are, a line each; nothing for those that are empty."""
    return tag("dl", *(join([tag("dt", name), tag("dd", value)]) for name, value in rows if value), role="facts")


def fold(title: str, *body: object, note: object = "", open: bool = False) -> Html:
    """A section that opens and closes."""
    return tag("details", tag("summary", title, tag("span", note)), tag("div", *body), role="fold", open=open)


def grid(columns: Sequence[object], rows: Iterable[Sequence[object]], *, left: Sequence[int] = ()) -> Html:
    """A table, flush right but for the columns at places `left`."""
    side = ["l" if place in left else "" for place in range(len(columns))]
    top = tag("tr", *(tag("th", each, role=role) for each, role in zip(columns, side, strict=True)))
    lines = (tag("tr", *(tag("td", each, role=role) for each, role in zip(row, side, strict=True))) for row in rows)
    return tag("div", tag("table", tag("thead", top), tag("tbody", *lines)), role="scroll")


def token(content: bytes | str, *, trigger: bool = False, most: int = TOKEN) -> Html:
    """A token in a box, spaces seen; of bytes those that are no character as \\xNN. `trigger` gives it a frame."""
    shown = content.decode(errors="surrogateescape") if isinstance(content, bytes) else content
    lone = {c: f"\\x{ord(c) - 0xDC00:02x}" for c in shown if "\udc80" <= c <= "\udcff"}
    return tag("span", text(shown, most=most, signs={**SIGNS, " ": SPACE, **lone}), role=f"tok{' trigger' * trigger}")


def items(parts: Iterable[object]) -> Html:
    """Small things in a row that wraps."""
    return tag("div", *(tag("span", part) for part in parts), role="items")


def mark(holds: bool) -> Html:
    """✓ or ✗."""
    return tag("span", "✓" if holds else "✗", role="yes" if holds else "no")


def meter(share: float) -> Html:
    """A share in [0, 1] as a bar."""
    return tag("span", tag("i", style=f"width:{100 * min(1, max(0, share)):.1f}%"), role="meter")


def spark(values: Sequence[float], *, top: float | None = None, width: int | None = None, role: str = "") -> Html:
    """Values ≥ 0, a bar each, up to `top` (their greatest); what is not finite has none. `width` in pixels, else as
    many as they need; none stretches it."""
    finite = [value for value in values if math.isfinite(value)]
    most = top or max(finite, default=0) or 1
    bars = []
    for place, value in enumerate(values):
        if math.isfinite(value) and value > 0:
            high = max(1, round(min(1, value / most) * HEIGHT, 1))
            bars.append(f'<rect x="{BAR * place}" y="{HEIGHT - high:g}" width="{BAR - 1}" height="{high:g}"></rect>')
    across = BAR * max(1, len(values))
    return tag(
        "svg",
        Html("".join(bars)),
        Html(f'<line x1="0" y1="{HEIGHT + 0.5}" x2="{across}" y2="{HEIGHT + 0.5}"></line>'),
        role=f"spark {role}".strip(),
        viewBox=f"0 0 {across} {HEIGHT + 1}",
        width=None if role else width or max(60, min(260, across * 3)),
        height=HEIGHT + 1,
        preserveAspectRatio="none",
        role_="img",
        aria_label=f"{len(values)} values from 0 to {most:.3g}",
    )


def sparks(charts: Iterable[tuple[str, str, Sequence[float]]]) -> Html:
    """Charts by layer beside one another: (what, in words how much, values)."""
    return tag(
        "div",
        *(tag("figure", tag("figcaption", tag("span", name), " ", tag("span", said, role="muted")), spark(values))
          for name, said, values in charts),
        role="sparks",
    )  # fmt: skip


def lines(parts: Iterable[object]) -> Html:
    """Each on a line of its own."""
    return join(tag("div", part) for part in parts)
