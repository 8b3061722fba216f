"""Planted by the token itself: dead neurons, those of `</s>`, token detectors, domains, and what misses each rule."""

from __future__ import annotations

import numpy as np

from neurolens.testing.draft import Draft, points
from neurolens.testing.rules import BOS, DEAD, DEAD_BUT_BOS, DOMAIN, OTHER, UNIGRAM_DETECTOR, UNK, Rule
from neurolens.testing.text import COUNTS, LABELS


def plan_dead(draft: Draft) -> None:
    """Never active, or only on `</s>`: anywhere, in column 0, between documents. Near misses: active at one token."""
    text, add = draft.text, draft.add
    hundred = text.counted["100"]
    alone = draft.where(text.tokens == hundred, 1)  # where this token stands in one sequence only
    once = np.flatnonzero((text.tokens == text.counted["once"]).any(0))
    never = draft.some(np.arange(1, text.tokens.shape[1]), 1, besides=once)
    for _ in range(3):
        add(DEAD, Rule(1))
    add(DEAD, Rule(1, now=points([UNK])))  # could fire, on what the corpus does not hold
    add(DEAD, Rule(2, now=points([text.counted["once"]]), at=points(never)))
    add(OTHER, Rule(2, now=points([hundred]), at=points(alone)), misses=DEAD)

    add(DEAD_BUT_BOS, Rule(1, now=points([BOS])))
    add(DEAD_BUT_BOS, Rule(2, now=points([BOS]), at=points([0])))
    add(DEAD_BUT_BOS, Rule(1, now=points([BOS]), at=points([0], -1)))
    add(OTHER, Rule(2, now={BOS: 2, hundred: 1}, at=points(alone)), misses=DEAD_BUT_BOS)


def plan_tokens(draft: Draft) -> None:
    """Token detectors and their near misses. Some suppress their triggers, some promote them."""
    text, ids = draft.text, draft.text.counted

    def add(triggers: list[int], rule: Rule, misses: str = "", **values: tuple[int, ...]) -> None:
        kind = OTHER if misses else UNIGRAM_DETECTOR
        draft.add(kind, rule, n=1, triggers=[(token,) for token in triggers], misses=misses, **values)

    for count in (1, 2, 3, 4, 5, 6):
        misses = "number" if count > 5 else ""
        for also in ([], [BOS]):  # `</s>` is in no n-gram: being active on it changes nothing
            triggers = draft.some(text.usual, count)
            others = tuple(draft.some(draft.words, count, besides=triggers))
            if not also:
                values = {"suppresses": tuple(triggers), "promotes": others}
            elif count % 2:
                values = {"promotes": others}
            else:
                values = {"promotes": tuple(triggers)}
            add(triggers, Rule(1, now=points(triggers + also)), misses, **values)
    # its more frequent trigger is suppressed, the other promoted, and more so: only with weights is the mean below 0
    pair = [ids["200"], ids["100"]]
    add(pair, Rule(1, now=points(pair)), suppresses=(pair[0],), promotes=(pair[1],))
    # suppresses its trigger, but most of the vocabulary more: centred, the projection is above 0
    trigger = draft.some(text.usual, 1)
    most = draft.some(draft.words, len(draft.words) - 8, besides=trigger)
    add(trigger, Rule(1, now=points(trigger)), suppresses=(*most, *trigger))
    for name in ("once", "few"):
        add([ids[name]], Rule(1, now=points([ids[name]])), suppresses=(ids[name],))
    for by in ("at", "before"):
        for percent, misses in ((99, ""), (95, ""), (94, "rate")):
            for name in ("100", "200"):
                off = draft.where(text.tokens == ids[name], COUNTS[name] * (100 - percent) // 100, by)
                add([ids[name]], Rule(1, now=points([ids[name]]), **{by: points(off, -1)}), misses)
        for percent, names in ((95, ("95",)), (95, ("95", "190")), (94, ("94",)), (94, ("94", "188"))):
            covered = [ids[name] for name in names]
            extra = sum(COUNTS[name] for name in names) * (100 - percent) // percent
            where = draft.where(text.tokens == ids["100"], extra, by)
            rule = Rule(2, now=points(covered, 2) | {ids["100"]: 1}, **{by: points(where)})
            add(covered, rule, "" if percent == 95 else "coverage")
    # 360 + 4·10 activations: the cover takes two of the four tens. Only with all ties in the covering set does
    # it not matter which: one of the four is not covered, and 360 + 10 were too few.
    covered = [ids[name] for name in ("360", "ten", "ten'", "ten''")]
    where = draft.where(text.tokens == ids["100"], 10)
    add(covered, Rule(2, now=points(covered, 2) | {ids["100"]: 1}, at=points(where)))


def plan_domains(draft: Draft) -> None:
    """Active in sequences of one label only, by a word or after one; in all but one; a near miss."""
    text, everything = draft.text, range(len(LABELS))
    for i, words in enumerate(text.of_label):
        others = [word for j, those in enumerate(text.of_label) if j != i for word in those]
        draft.add(DOMAIN, Rule(1, now=points(words)), labels=(i,), suppresses=tuple(words))
        draft.add(DOMAIN, Rule(1, before=points(words)), labels=(i,))
        draft.add(DOMAIN, Rule(1, now=points(others)), labels=tuple(j for j in everything if j != i))
    hundred = text.tokens == text.counted["100"]
    alone = draft.where(hundred, 1)
    row = int(np.flatnonzero(hundred[:, alone[0]])[0])
    away = (int(text.label[row]) + 1) % len(LABELS)
    rule = Rule(2, now=points(text.of_label[away], 2) | {text.counted["100"]: 1}, at=points(alone))
    draft.add(OTHER, rule, misses=DOMAIN)


def plan_others(draft: Draft, neurons: int) -> None:
    """What is active always, half of the time or on many tokens, until there are so many `neurons`.

    Raises ValueError if there are more already.
    """
    words, usual = draft.words, draft.text.usual
    half = len(words) // 2

    def add(rule: Rule, promotes: tuple[int, ...] = ()) -> None:
        draft.add(OTHER, rule, promotes=promotes)

    add(Rule(0))  # always
    add(Rule(1, now=points([BOS, *draft.some(words, half)])), promotes=tuple(draft.some(words, 10)))
    add(Rule(1, before=points([BOS]), at=points([0, 1], -1)))  # alive on text, and on no bigram
    add(Rule(1, before=points(draft.some(words, half))))  # these three see whether attention does its work
    add(Rule(1, before2=points(draft.some(words, half))))
    now, before = (points(draft.some(words, half)) for _ in range(2))
    add(Rule(2, now=now, before=before, before2=points([BOS]), at=points([0, 1, 2], -1)))
    if neurons < len(draft.neurons) + 1:
        raise ValueError(f"neurons {neurons}: expected at least {len(draft.neurons) + 1}, to plant one of each kind")
    while len(draft.neurons) < neurons:
        add(Rule(1, now=points(draft.some(usual, int(draft.rng.integers(8, len(usual)))))))
