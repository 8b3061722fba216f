"""Card: what is known of one neuron, as values, as lines for a terminal and as one JSON object.

Pure: neuron.py reads a run into it. Lines hold text of unknown origin — tokens, labels, names — escaped, with its
spaces seen; values hold it as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from neurolens import UsageError
from neurolens.activity import dead_upper_bound
from neurolens.context import Asked, Contexts, Source, context_lines
from neurolens.profile import Contrast, Profile, Rate, interval, label_lines, printable
from neurolens.terminal import cells, cut, pieces, quoted, sentence, wrapped
from neurolens.verdict import Trigger, Verdict, count, percent

WIDTH = 100  # cells of a line, unless asked
ROWS = 8  # triggers shown of each length, unless asked
Paint = Callable[[str, str], str]  # (role: head, mark, yes or no; text) → text, coloured


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

    @property
    def words(self) -> str:
        """What was projected on what."""
        folded = ", the final LayerNorm's gain folded in" if self.fold_norm else ""
        on = f"{self.vocabulary:,} tokens" if self.vocabulary else "the vocabulary"
        return f"its value vector, projected on {on}{folded}"


@dataclass(frozen=True, repr=False)
class Card:
    """All that a run says about a neuron; prints itself.

    run, model     the name of the run and of its model; layer, neuron: which
    activations_on_text  on how many tokens that are not `</s>` it is active
    rules          thresholds of detectors
    rate           activations of all tokens
    design_effect  how many times more they vary between sequences than independent tokens would
    confidence     of all intervals
    labels         the same by label, in the corpus' order; empty if they were not counted
    contrast       how much they depend on the label; None if that is not analysed
    positions      by position, and what is found of that; None if they were not counted
    ngrams         by length; empty if they are not analysed
    source         what its contexts are found in; None for a card that no run stands behind
    update         None if the value vector is not at hand; `missing` says why
    """

    run: str
    model: str
    layer: int
    neuron: int
    rate: Rate
    activations_on_text: int
    labels: Mapping[str, Rate]
    rules: Mapping[str, int]
    ngrams: tuple[Verdict, ...]
    update: Update | None
    missing: str = ""
    positions: Profile | None = None
    contrast: Contrast | None = None
    confidence: float = 0.95
    design_effect: float = 1.0
    source: Source | None = field(default=None, compare=False)

    def contexts(
        self,
        *,
        label: str | None = None,
        sample: int | None = None,
        all: bool = False,
        window: tuple[int, int] | None = None,
        seed: int | None = None,
    ) -> Contexts:
        """The neuron's activations in the text around them, each decoded when it is looked at.

        Without arguments those that analysis has drawn, up to 16, uniformly and without replacement: they are there
        when the bits were dropped, too.

        label   only those in text of this label
        sample  so many, at least 1: the tokens with the least `token_priority`, so that a larger sample begins with a
                smaller one, and the first ones are those that analysis has drawn
        all     every one, in the corpus' order; not together with `sample`
        window  (before, after): how many tokens of text around the one, within its sequence  [48, 24]
        seed    of the sample, from 0 on; another one gives another sample  [that of the analysis, 0]

        None for a dead neuron. Raises UsageError if there is no such label or an argument is out of range,
        NeurolensError if it takes bits that were dropped or are damaged.
        """
        if self.source is None:
            raise UsageError(f"the card of {self.layer}.{self.neuron} has no contexts: it was not read from a run")
        return self.source.find(Asked(label, sample, all, window, seed))

    def most_contexts(self, count: int, *, label: str | None = None) -> Contexts:
        """Up to `count` contexts, at random: fewer where there are not so many, or bits were dropped."""
        known = self.contexts(label=label)
        if count <= len(known) or self.source is None or not self.source.kept:
            return known[:count]
        return self.contexts(label=label, sample=count)

    @property
    def n_tokens(self) -> int:
        """Tokens of the run."""
        return self.rate.total

    @property
    def activations(self) -> int:
        """Tokens the neuron is active on."""
        return self.rate.on

    @property
    def frequency(self) -> float:
        """P(active), all positions counted."""
        return self.rate.frequency

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
        return self._classes(str)

    def _classes(self, name: Callable[[str], str]) -> list[str]:
        found = ["dead"] if self.dead else ["dead but for </s>"] if self.dead_but_bos else []
        found += [f"{g.word} detector{', well supported' if g.supported else ''}" for g in self.ngrams if g.detector]
        if self.positions and (kind := self.positions.kind):
            found.append(f"positional neuron ({kind.words})")
        if self.contrast:
            for text, label, supported in self.contrast.tell("of one label ({})", "silent in one label ({})"):
                found.append(text.format(name(label)) + (", well supported" if supported else ""))
        return found

    def to_dict(self, *, contexts: int = 0, label: str | None = None) -> dict[str, Any]:
        """The card as plain values, with what they amount to: `frequency`, `classes`, `text`, `rate`, `checks`.

        All contexts that analysis has drawn, of a label if one is asked for, or `contexts` if that is more.
        """

        def plain(of: Trigger | Written) -> dict[str, Any]:
            rate = {"rate": of.rate} if isinstance(of, Trigger) else {}
            return {"text": of.text, **rate, **{name: value for name, value in vars(of).items() if name != "content"}}

        shown = [] if self.source is None else self.contexts(label=label)
        shown = self.most_contexts(contexts, label=label) if contexts > len(shown) else shown
        apart = ("rate", "source")
        known = {"n_tokens": self.n_tokens, **{name: value for name, value in vars(self).items() if name not in apart}}
        return {
            **known,
            **{name: value for name, value in self.rate.to_dict().items() if name != "tokens"},
            "labels": {name: rate.to_dict() for name, rate in self.labels.items()},
            "positions": self.positions and self.positions.to_dict(),
            "contrast": self.contrast and asdict(self.contrast),
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
            "contexts": [vars(context) for context in shown],
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
        label: str | None = None,
        paint: Paint = lambda role, text: text,
    ) -> list[str]:
        """The card for a terminal, `width` cells wide where its words allow; `rows` triggers of each length and
        `contexts` contexts at most, of a label if one is asked for. `paint` colours; what it adds takes no cells."""
        sections = [
            self._headline(width, paint),
            *(self._verdict_lines(each, width, rows, paint) for each in self.ngrams if self.activations_on_text),
            self._position_lines(width, paint),
            self._context_lines(width, contexts, label, paint),
            self._update_lines(width, paint),
        ]
        lines: list[str] = []
        for section in filter(None, sections):
            lines += [*([""] if lines else []), *section]
        return lines

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        from neurolens.display.cards import view_card

        return view_card(self)

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
            rate = percent(self.frequency) + interval(self.rate.low, self.rate.high, self.confidence)
            lines.append(f"frequency   {rate}{one_in}: {active}{of_these}")
            lines += label_lines(self.labels, self.contrast, width)
        neither = ["no detector"] if self.ngrams else []
        neither += ["not positional"] if self.positions and self.positions.dependence else []
        title, role = "class       ", "yes" if self.classes else "no"
        first, *rest = sentence(title, self._classes(printable) or neither or ["not dead"], width)
        lines += [
            title + paint(role, first[len(title) :]),
            *(" " * len(title) + paint(role, line.strip()) for line in rest),
        ]
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

    def _position_lines(self, width: int, paint: Paint) -> list[str]:
        if self.dead or self.positions is None:
            return []
        first, *lines = self.positions.lines(width)
        for i, line in enumerate(lines):
            for mark, role in (("✓", "yes"), ("✗", "no")):
                lines[i] = line = line.replace(mark, paint(role, mark))
        return [f"{paint('head', 'positions')}   {first}", *lines]

    def _context_lines(self, width: int, most: int, label: str | None, paint: Paint) -> list[str]:
        shown = None if self.source is None else self.most_contexts(most, label=label)
        if not shown:
            return []
        found = context_lines(
            list(shown), width, mark=lambda text: paint("mark", text), labelled=len(self.labels) > 1 and label is None
        )
        return [paint("head", "contexts") + f"    {shown.headline()}", *found]

    def _update_lines(self, width: int, paint: Paint) -> list[str]:
        head = paint("head", "writes")
        if self.update is None:
            return [f"{head}      {self.missing}"] if self.missing else []
        update = self.update
        lines = [f"{head}      {update.words}; rank 0 is the most suppressed"]
        for verdict in (each for each in self.ngrams if each.detector):
            if verdict.n > 1:
                lines.append(f"  suppresses the last token of {verdict.below} covered {verdict.word}s")
                continue
            does = paint(*(("yes", "suppresses") if update.suppresses else ("no", "does not suppress")))
            mean = f"{number(update.projection)}, {number(update.projection_centred)} centred"
            lines.append(f"  {does} its triggers: mean projection {mean}; below 0 for {verdict.below}")
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
