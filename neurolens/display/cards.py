"""cards: all about one neuron, sections that open and close: rules, triggers, positions, contexts, what it writes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from neurolens.display.contexts import SHOWN, fold_contexts
from neurolens.display.html import Html, join, tag, text
from neurolens.display.look import facts, fold, grid, head, items, lines, mark, meter, spark, token, view
from neurolens.display.triggers import triggers_of
from neurolens.profile import interval
from neurolens.sparkline import find_top, pool
from neurolens.verdict import count, percent

TRIGGERS = 12  # n-grams of a length shown
COLUMNS = 180  # bars of a curve, at most
LABELS = 24  # labels shown


def view_card(card: Any) -> str:
    """`Card`."""
    title = f"of {card.run}: {card.model} on {count(card.n_tokens, 'token')}"
    return view(repr(card), head(f"neuron {card.layer}.{card.neuron}", title), _facts(card), *_sections(card))


def _facts(card: Any) -> Html:
    classes = card.classes or ["no detector" if card.ngrams else "", "not dead"]
    chips = join(tag("span", text(each, most=80), role="chip") for each in classes if each)
    return facts([("class", chips), ("frequency", _frequency(card)), ("</s>", _separators(card))])


def _frequency(card: Any) -> str:
    if card.dead:
        return f"0: active on none of {count(card.n_tokens, 'token')}"
    bounds = interval(card.rate.low, card.rate.high, card.confidence)
    return f"{percent(card.frequency)}{bounds}, active on {count(card.activations, 'token')}"


def _separators(card: Any) -> str:
    apart = card.activations - card.activations_on_text
    return f"active on {apart:,}, which are in no n-gram" if apart else ""


def _sections(card: Any) -> Iterator[Html]:
    if len(card.labels) > 1:
        yield _labels(card)
    if not card.ngrams:
        yield fold("N-grams", "not analysed; 'neurolens analyze' does that")
    for verdict in card.ngrams if card.activations_on_text else ():
        checks = verdict.checks(card.rules)
        rules = (tag("div", tag("b", mark(check.holds)), check.why, role="rule") for check in checks)
        found = "detector" + (", well supported" if verdict.supported else "") if verdict.detector else "no detector"
        shown = triggers_of(verdict.triggers, TRIGGERS) if verdict.triggers else ""
        yield fold(f"{verdict.word.capitalize()}s", *rules, shown, note=found, open=verdict.detector or verdict.n == 1)
    if card.positions is not None and not card.dead:
        yield _positions(card.positions)
    if card.source is not None and not card.dead:
        yield fold_contexts(card.contexts()[:SHOWN], labelled=len(card.labels) > 1)
    yield _writes(card)


def _labels(card: Any) -> Html:
    most = max((rate.frequency for rate in card.labels.values()), default=0) or 1
    rows = [
        [text(name, most=40), tag("span", meter(rate.frequency / most), str(rate)), f"{rate.on:,}", f"{rate.total:,}"]
        for name, rate in list(card.labels.items())[:LABELS]
    ]
    said = []
    if card.contrast is not None:
        told = card.contrast.tell("active in {} only", "never in {}, though in every other label")
        said = [*card.contrast.dependence.clauses()]
        said += [f"{of.format(name)} ({'' if enough else 'not '}well supported)" for of, name, enough in told]
    more = len(card.labels) - LABELS
    note = count(len(card.labels), "label")
    table = grid(["label", "frequency", "active", "of tokens"], rows, left=[0, 1])
    return fold("Labels", table, f"and {more:,} more" if more > 0 else "", join(said, "; "), note=note, open=more <= 0)


def _positions(profile: Any) -> Html:
    step, shares = pool(profile.activations, profile.tokens, COLUMNS)
    top = find_top(shares)
    axis = f"P(active) from 0 to {percent(top)} at positions 0 to {len(profile.activations) - 1}"
    axis += f", {step} a bar" if step > 1 else ""
    ranges = facts((name, ", ".join(each)) for name, each in profile.ranges().items())
    curve = spark(shares, top=top, role="curve")
    note = profile.kind.words if profile.kind else "not positional" if profile.dependence else "not analysed"
    clauses = profile.clauses()
    rule = tag("div", tag("b", mark(profile.kind is not None)), join(clauses, "; "), role="rule") if clauses else ""
    return fold("Positions", curve, tag("div", axis, role="muted"), rule, ranges, note=note, open=True)


def _writes(card: Any) -> Html:
    update = card.update
    if update is None:
        return fold("Writes", card.missing or "not known")
    said: list[object] = []
    for verdict in (each for each in card.ngrams if each.detector):
        if verdict.n > 1:
            said.append(f"suppresses the last token of {verdict.below} covered {verdict.word}s")
            continue
        does = "suppresses its triggers" if update.suppresses else "does not suppress its triggers"
        mean = f": mean projection {_signed(update.projection)}, {_signed(update.projection_centred)} centred"
        said.append(join([mark(bool(update.suppresses)), f" {does}{mean}; below 0 for {verdict.below}"]))
    framed = any(each.trigger for each in (*update.promoted, *update.suppressed))
    key = tag("div", "in a frame: a covered trigger's last token", role="muted") if framed else ""
    ends = [
        join([tag("div", name, role="muted"), items(_written(each) for each in tokens)])
        for name, tokens in (("promotes", update.promoted), ("suppresses", update.suppressed))
    ]
    return fold("Writes", lines(said), *ends, key, note=update.words, open=True)


def _written(one: Any) -> Html:
    return join([token(one.content, trigger=one.trigger), tag("small", _signed(one.projection))])


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3g}"
