"""Verdict: whether a neuron detects n-grams of one length, rule by rule with the numbers, and which ones trigger it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neurolens.tables import WORDS


@dataclass(frozen=True)
class Trigger:
    """An n-gram that the neuron is active on: token ids in reading order and their bytes; how often (`on` of `total`
    occurrences, `rate_lower` the one-sided 95% Wilson bound of that rate); whether it is a `member` of the covering
    set and `covered`. Of the last token, None where the value vector was not projected: the `projection`, raw and
    centred over the vocabulary, its `rank` from the most suppressed (0) on, and the cosine."""

    tokens: tuple[int, ...]
    content: bytes
    on: int
    total: int
    rate_lower: float
    member: bool
    covered: bool
    projection: float | None = None
    projection_centred: float | None = None
    rank: int | None = None
    cosine: float | None = None

    @property
    def text(self) -> str:
        """What it says; bytes that are no character are �."""
        return self.content.decode(errors="replace")

    @property
    def rate(self) -> float:
        """P(active | n-gram), in [0, 1]."""
        return self.on / max(1, self.total)


@dataclass(frozen=True)
class Check:
    """A rule, whether it holds, and the numbers that say so, as a sentence."""

    rule: str
    holds: bool
    why: str


@dataclass(frozen=True)
class Verdict:
    """N-grams of one length: the covering number and its `limit`, the neuron's activations that have such an n-gram
    (None: the bits are gone), whether it is a detector, by the paper's rules and with support, and the triggers:
    the covering set, if it is within the limit, and the most frequent n-grams in any case, falling by `on`."""

    n: int
    covering: int
    limit: int
    activations: int | None
    detector: bool
    supported: bool
    triggers: tuple[Trigger, ...]

    @property
    def word(self) -> str:
        """`token`, `bigram`, …"""
        return WORDS[self.n - 1]

    @property
    def below(self) -> str:
        """On how many covered n-grams, of how many, the value vector's projection is below 0: `2 of 3`."""
        covered = [trigger.projection or 0 for trigger in self.triggers if trigger.covered]
        return f"{sum(projection < 0 for projection in covered)} of {len(covered)}"

    def checks(self, rules: Mapping[str, int]) -> list[Check]:
        """The rules in order (paper, §4 and App. A; the last one ours), up to the first that fails."""
        if not self.covering:
            return [Check("covering", False, f"it is active on no {self.word}")]
        account = f"{count(self.covering, self.word)} {'account' if self.covering > 1 else 'accounts'}"
        of = "" if self.activations is None else f" {self.activations:,}"
        why = f"{account} for {rules['coverage']}% of its{of} activations (at most {self.limit})"
        found = [Check("covering", self.covering <= self.limit, why)]
        members = sum(trigger.member for trigger in self.triggers)
        covered = [trigger for trigger in self.triggers if trigger.covered]
        often = [trigger for trigger in covered if trigger.total >= rules["support_occurrences"]]
        if found[-1].holds:
            often_enough = f" and seen ≥ {rules['min_occurrences']} times" if rules["min_occurrences"] > 1 else ""
            how = f"active on ≥ {rules['min_rate']}% of occurrences{often_enough}"
            why = f"{len(covered)} of {members} covered ({how}): {self._share(covered, rules)}"
            found.append(Check("covered", self.detector, why))
        if found[-1].holds:
            of = "" if self.activations is None else f"{self.activations:,} "
            enough = f"{of}activations (at least {rules['support_activations']})"
            why = f"those seen ≥ {rules['support_occurrences']} times: {self._share(often, rules)}; {enough}"
            found.append(Check("support", self.supported, why))
        return found

    def _share(self, triggers: Sequence[Trigger], rules: Mapping[str, int]) -> str:
        on, least = sum(trigger.on for trigger in triggers), f"at least {rules['coverage']}%"
        if not self.activations:
            return f"{on:,} activations ({least} of all)"
        return f"{percent(on / self.activations)} of its activations ({least})"


def count(number: int, what: str) -> str:
    """`1 token`, `2,000 tokens`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def percent(share: float) -> str:
    """A share in [0, 1]; never 0% or 100% unless it is."""
    value = 100 * share
    if value < 0.995:
        return f"{value:.2g}%" if value else "0%"
    return f"{min(value, 99.9):.1f}%" if value < 100 else "100%"
