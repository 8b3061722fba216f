"""Card: what is known of one neuron, as values, as lines for a terminal and as one JSON object.

Pure: neuron.py reads a run into it. Lines hold text of unknown origin — tokens, labels, names — escaped, with its
spaces seen; values hold it as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from neurolens.activity import dead_upper_bound
from neurolens.terminal import cells, cut, padded, pieces, quoted, running, wrapped
from neurolens.verdict import Trigger, Verdict, count, percent

WIDTH = 100  # cells of a line, unless asked
ROWS = 8  # triggers shown of each length, unless asked
Paint = Callable[[str, str], str]  # (role: head, mark, yes or no; text) → text, coloured


@dataclass(frozen=True)
class Context:
    """A token on which the neuron is active, its index in the corpus and its place, and the text around it.

    `before`, `token` and `after` join to the text of a window; where a character is split over tokens, `token` is
    the whole of it. `starts`, `ends`: the window reaches the sequence's start, its end.
    """

    index: int
    sequence: int
    position: int
    label: str
    before: str
    token: str
    after: str
    starts: bool
    ends: bool


@dataclass(frozen=True)
class Written:
    """A token that the value vector promotes or suppresses, and its projection; whether it is a covered trigger's
    last token."""

    id: int
    content: bytes
    projection: float
    trigger: bool

    @property
    def text(self) -> str:
        """What it says; bytes that are no character are �."""
        return self.content.decode(errors="replace")


@dataclass(frozen=True)
class Update:
    """What the neuron writes when it is active: its value vector, projected on the vocabulary.

    promoted    tokens with the greatest projection, falling; suppressed with the least, rising
    mean        projection averaged over the vocabulary
    suppresses  whether the activation-weighted mean `projection` over a token detector's covered tokens is < 0;
                None, as are the projections, for any other neuron. `projection_centred` without the mean
    vocabulary  how many tokens it was projected on
    fold_norm   whether the final LayerNorm's gain is folded in
    source      `run`, or `checkpoint` if it was computed for this card
    """

    promoted: tuple[Written, ...]
    suppressed: tuple[Written, ...]
    mean: float
    suppresses: bool | None
    projection: float | None
    projection_centred: float | None
    vocabulary: int
    fold_norm: bool
    source: str


@dataclass(frozen=True, repr=False)
class Card:
    """All that a run says about a neuron; prints itself.

    labels    activations and tokens by label, in the corpus' order; empty if they were not counted
    ngrams    by length; empty if they are not analysed
    contexts  a uniform sample of its activations, in the order they were drawn
    update    None if the value vector is not at hand; `missing` says why
    """

    run: str
    model: str
    layer: int
    neuron: int
    n_tokens: int
    activations: int
    activations_on_text: int
    labels: Mapping[str, tuple[int, int]]
    rules: Mapping[str, int]
    ngrams: tuple[Verdict, ...]
    contexts: tuple[Context, ...]
    update: Update | None
    missing: str = ""

    @property
    def frequency(self) -> float:
        """P(active), all positions counted."""
        return self.activations / max(1, self.n_tokens)

    @property
    def dead(self) -> bool:
        """Active on no token (paper, §3)."""
        return self.activations == 0

    @property
    def dead_but_bos(self) -> bool:
        """Active, but only on `</s>`."""
        return self.activations > 0 and self.activations_on_text == 0

    @property
    def classes(self) -> list[str]:
        """What it is, in words; empty for a neuron that is none of it."""
        named = ["dead"] if self.dead else ["dead but for </s>"] if self.dead_but_bos else []
        found = [f"{g.word} detector{', well supported' if g.supported else ''}" for g in self.ngrams if g.detector]
        return named + found

    def to_dict(self) -> dict[str, Any]:
        """The card as plain values, with what they amount to: `frequency`, `classes`, `text`, `rate`, `checks`."""

        def plain(of: Trigger | Written) -> dict[str, Any]:
            rate = {"rate": of.rate} if isinstance(of, Trigger) else {}
            return {"text": of.text, **rate, **{name: value for name, value in vars(of).items() if name != "content"}}

        labels = {name: (on, total, on / max(1, total)) for name, (on, total) in self.labels.items()}
        return {
            **vars(self),
            "labels": {
                name: dict(zip(("activations", "tokens", "frequency"), values, strict=True))
                for name, values in labels.items()
            },
            "frequency": self.frequency,
            "frequency_upper_bound": dead_upper_bound(self.n_tokens) if self.dead else None,
            "dead": self.dead,
            "dead_but_bos": self.dead_but_bos,
            "classes": self.classes,
            "ngrams": [
                {
                    **vars(verdict),
                    "checks": [vars(check) for check in verdict.checks(self.rules)],
                    "triggers": [plain(trigger) for trigger in verdict.triggers],
                }
                for verdict in self.ngrams
            ],
            "contexts": [vars(context) for context in self.contexts],
            "update": self.update
            and {
                **vars(self.update),
                "promoted": [plain(token) for token in self.update.promoted],
                "suppressed": [plain(token) for token in self.update.suppressed],
            },
        }

    def lines(
        self,
        *,
        width: int = WIDTH,
        rows: int = ROWS,
        contexts: int = ROWS,
        paint: Paint = lambda role, text: text,
    ) -> list[str]:
        """The card for a terminal, `width` cells wide where its words allow; `rows` triggers of each length and
        `contexts` contexts at most. `paint` colours; what it adds takes no cells."""
        sections = [
            self._headline(width, paint),
            *(self._verdict_lines(each, width, rows, paint) for each in self.ngrams if self.activations_on_text),
            self._context_lines(width, contexts, paint),
            self._update_lines(width, paint),
        ]
        lines: list[str] = []
        for section in filter(None, sections):
            lines += [*([""] if lines else []), *section]
        return lines

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def _headline(self, width: int, paint: Paint) -> list[str]:
        title = f"neuron {self.layer}.{self.neuron}"
        of = pieces(f" of {self.run}: {self.model} on {count(self.n_tokens, 'token')}")
        lines = [paint("head", title) + cut(of, width - len(title))]
        if self.dead:
            bound = dead_upper_bound(self.n_tokens)
            lines.append(
                f"frequency   0: active on none of {count(self.n_tokens, 'token')}; with 95% confidence it fires on "
                f"less than 1 in {1 / bound:,.0f}"
            )
        else:
            apart = self.activations - self.activations_on_text
            one_in = f", 1 token in {1 / self.frequency:,.0f}" if self.frequency < 0.1 else ""
            of_these = f", {f'of these {apart:,}' if self.activations_on_text else 'all of them'} </s>" if apart else ""
            active = f"active on {count(self.activations, 'token')}"
            lines.append(f"frequency   {percent(self.frequency)}{one_in}: {active}{of_these}")
            if len(self.labels) > 1:
                each = [
                    f"{cut(pieces(name), 24)} {percent(on / max(1, total))}"
                    for name, (on, total) in self.labels.items()
                ]
                lines += wrapped("  by label  ", each, width)
        what = "; ".join(self.classes) or ("no detector" if self.ngrams else "not dead")
        lines.append(f"class       {paint('yes' if self.classes else 'no', what)}")
        if not self.ngrams:
            lines.append("n-grams     not analysed; 'neurolens analyze' does that")
        return lines

    def _verdict_lines(self, verdict: Verdict, width: int, rows: int, paint: Paint) -> list[str]:
        lines = [paint("head", f"{verdict.word}s")]
        for check in verdict.checks(self.rules):
            lines.append(f"  {paint('yes', '✓') if check.holds else paint('no', '✗')} {check.why}")
        if not verdict.triggers:
            return lines
        projected = any(trigger.rank is not None for trigger in verdict.triggers)
        head = f"  {'active':>9} {'of':>9} {'rate':>7} {'at least':>9}"
        lines.append(head + (f" {'projected':>10} {'rank':>6}" if projected else "") + "    ✓ covered")
        shown = verdict.triggers[:rows]
        for one in shown:
            line = f"  {one.on:>9,} {one.total:>9,} {percent(one.rate):>7} {percent(one.rate_lower):>9}"
            if projected:
                line += f" {number(one.projection):>10} {'–' if one.rank is None else format(one.rank, ','):>6}"
            tick = paint("yes", "✓") if one.covered else paint("no", "✗") if one.member else " "
            lines.append(f"{line}    {tick} {quoted(one.content, width - cells(line) - 6)}")
        if more := len(verdict.triggers) - len(shown):
            lines.append(f"  and {count(more, verdict.word)} more")
        return lines

    def _context_lines(self, width: int, most: int, paint: Paint) -> list[str]:
        shown = sorted(self.contexts[:most], key=lambda context: context.index)
        if not shown:
            return []
        lines = [paint("head", "contexts") + f"    {len(shown)} of {count(self.activations, 'activation')}, at random"]
        label = min(12, max(cells("".join(pieces(context.label))) for context in shown)) if len(self.labels) > 1 else 0
        across = width - 2 - (label + 2 if label else 0) - 2  # beside margin, label and the two marks
        left = min(across * 3 // 5, max(cells("".join(running(context.before))) for context in shown))
        room = across - left
        for context in shown:
            name = padded(cut(pieces(context.label), label), label + 2) if label else ""
            before = cut(running(context.before), left, more=not context.starts, last=True)
            token = cut(running(context.token), room - 8)
            after = cut(running(context.after), room - cells(token), more=not context.ends)
            space = " " * (left - cells(before))
            lines.append(f"  {name}{space}{before}«{paint('mark', token)}»{after}".rstrip())
        return lines

    def _update_lines(self, width: int, paint: Paint) -> list[str]:
        head = paint("head", "writes")
        if self.update is None:
            return [f"{head}      {self.missing}"] if self.missing else []
        update = self.update
        folded = ", the final LayerNorm's gain folded in" if update.fold_norm else ""
        on = f"{update.vocabulary:,} tokens" if update.vocabulary else "the vocabulary"
        lines = [f"{head}      its value vector, projected on {on}{folded}; rank 0 is the most suppressed"]
        for verdict in (each for each in self.ngrams if each.detector):
            covered = [trigger.projection or 0 for trigger in verdict.triggers if trigger.covered]
            below = f"{sum(projection < 0 for projection in covered)} of {len(covered)}"
            if verdict.n > 1:
                lines.append(f"  suppresses the last token of {below} covered {verdict.word}s")
                continue
            does = paint(*(("yes", "suppresses") if update.suppresses else ("no", "does not suppress")))
            mean = f"{number(update.projection)}, {number(update.projection_centred)} centred"
            lines.append(f"  {does} its triggers: mean projection {mean}; below 0 for {below}")
        for name, tokens in (("promotes", update.promoted), ("suppresses", update.suppressed)):
            each = [f"{quoted(t.content, 24)}{'*' if t.trigger else ''} {number(t.projection)}" for t in tokens]
            lines += wrapped(f"  {name:<11}", each, width)
        if any(token.trigger for token in update.promoted + update.suppressed):
            lines.append(f"  {'':11}* a covered trigger's last token")
        return lines


def number(value: float | None) -> str:
    """A projection with its sign; – for none."""
    if value is None:
        return "–"
    return f"{value:+.3f}" if not value or abs(value) >= 0.001 else f"{value:+.1e}"
