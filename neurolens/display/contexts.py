"""contexts: tokens in the text around them, a line each, that opens to the whole window; what else fires is marked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from neurolens.display.html import Html, join, tag, text
from neurolens.display.look import fold, head, view

SHOWN = 16  # contexts
MOST = 48  # cells of a token in a line
WHOLE = 400  # … in a window that is opened


def view_contexts(contexts: Any) -> str:
    """`Contexts`, the first ones: in the order they have."""
    shown = list(contexts[:SHOWN])
    more = len(contexts) - len(shown)
    labelled = len({context.label for context in shown}) > 1
    rest = tag("div", f"and {more:,} more; [i], slices and .to_pandas() give them", role="muted") if more else ""
    return view(
        repr(contexts), head("Contexts", f"of {contexts.title}: {contexts.headline()}"), lines_of(shown, labelled), rest
    )


def fold_contexts(contexts: Any, *, labelled: bool) -> Html:
    """The same as a section of a card."""
    return fold("Contexts", lines_of(list(contexts), labelled), note=contexts.headline(), open=True)


def lines_of(contexts: Sequence[Any], labelled: bool) -> Html:
    """A line each, and what the marks in them mean."""
    if not contexts:
        return tag("div", "none", role="muted")
    key = [tag("span", "the token", role="here"), " and ", tag("span", "others", role="on"), " that it is active on"]
    key.append("; a line opens to its window")
    if not all(context.known for context in contexts):
        key.append("; bits were dropped, so others that were not sampled are not known")
    return join(
        [
            tag("div", *(_line(context, labelled) for context in contexts), role="kwic"),
            tag("div", *key, role="muted"),
        ]
    )


def _line(context: Any, labelled: bool) -> Html:
    groups = _groups(context)
    here = next((i for i, (_, _, own) in enumerate(groups) if own), 0)
    before, after = groups[:here], groups[here + 1 :]
    own = groups[here] if groups else (context.token, True, True)
    line = tag(
        "span",
        tag("span", tag("span", "" if context.starts else "…", *map(_shown, before)), role="before"),
        _shown(own),
        tag("span", *map(_shown, after), "" if context.ends else "…", role="after"),
        role="line win",
    )
    label = tag("span", text(context.label, most=24), role="label") if labelled else ""
    place = f"sequence {context.sequence:,}, position {context.position:,}, token {context.index:,}"
    whole = tag(
        "div",
        tag("div", f"{place}, labelled ", text(context.label, most=60), role="muted"),
        "" if context.starts else "…",
        *(_shown(group, WHOLE) for group in groups),
        "" if context.ends else "…",
        role="whole win",
    )
    return tag("details", tag("summary", label, line), whole)


def _groups(context: Any) -> list[tuple[str, bool, bool]]:
    """(text, whether active, whether it is the token itself) of tokens, those together that share a character."""
    found: list[tuple[str, bool, bool]] = []
    for place, (said, active) in enumerate(zip(context.texts, context.active, strict=True)):
        own = place == context.at
        if said or not found:
            found.append((said, bool(active), own))
        else:
            before = found[-1]
            found[-1] = (before[0], before[1] or bool(active), before[2] or own)
    if not found:  # a context that only says its text
        found = [(context.before, False, False), (context.token, True, True), (context.after, False, False)]
    return found


def _shown(group: tuple[str, bool, bool], most: int = MOST) -> Html:
    said, active, own = group
    role = " ".join([*(["on"] if active else []), *(["here"] if own else [])])
    return tag("span", text(said, most=most), role=role) if role else text(said, most=most)
