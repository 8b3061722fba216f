"""info: what a run is and holds, in lines for a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from neurolens.certificate import Certificate
from neurolens.tables import GRAMS, WORDS
from neurolens.terminal import pieces


def describe(facts: Mapping[str, Any]) -> list[str]:
    """`Run.info()` in lines; text that is anybody's — labels, names — is escaped."""

    def per_layer(key: str) -> str:
        return " ".join(f"{value:g}" for value in facts[key])

    labels = ", ".join(f"{printable(label)} {tokens:,}" for label, tokens in facts["labels"].items())
    blocks = f"{facts['blocks_done']} of {facts['blocks']} blocks of layers ({facts['block_tokens']:,} tokens each)"
    lines = [
        f"model       {printable(facts['model'])} ({facts['dtype']})",
        f"layers      {', '.join(map(str, facts['layers']))} × {facts['neurons_per_layer']:,} neurons",
        f"tokens      {facts['tokens']:,} ({facts['sequences']:,} × {facts['positions']}): {labels}",
        f"collected   {blocks}",
        f"bits        {_bits(facts)}",
    ]
    parity = f"parity      {_parity(facts)}"
    if not facts["analyzed"]:
        return [*lines, parity, f"results     none; neurolens analyze {facts['path']}"]
    ratio = facts["stored_over_entropy"]
    lines[-1] += f"; entropy {facts['entropy_bytes'] / 1e6:.1f} MB"
    lines[-1] += f" ({'–' if ratio is None else f'{ratio:.3f}'} of it)" if facts["keep_bitmaps"] == "all" else ""
    return [
        *lines,
        parity,
        f"dead        {per_layer('dead')} by layer; frequency < {facts['dead_frequency_upper_bound']:.2g} at 95%",
        *_dead_share(facts),
        f"only </s>   {per_layer('dead_but_bos')}",
        f"frequency   {per_layer('mean_frequency_of_alive')} mean of those alive",
        *_detectors(facts),
        *_suppression(facts),
        *_positional(facts),
        *_contrast(facts),
    ]


def printable(text: object) -> str:
    """Text of unknown origin as one line without control characters."""
    return "".join(pieces(str(text)))


def _bits(facts: Mapping[str, Any]) -> str:
    """What bits take, beside what they would take uncompressed; whose are kept, if not everybody's."""
    stored, raw = facts["stored_bytes"], facts["raw_bytes"]
    if facts["keep_bitmaps"] == "all":
        return f"{stored / 1e6:.1f} MB on disk; raw {raw / 1e6:.1f} MB ({stored / raw:.3f} of it)"
    if facts.get("merged") == "counts":
        return f"none: merged of what was counted of its texts; raw {raw / 1e6:.1f} MB"
    kept = {"none": "dropped once counted", "sparse": "those of neurons active on at most 1% kept once counted"}
    return f"{stored / 1e6:.1f} MB on disk, {kept[facts['keep_bitmaps']]}; raw {raw / 1e6:.1f} MB"


def _dead_share(facts: Mapping[str, Any]) -> list[str]:
    """The dead as a share of a layer's neurons, with its interval over groups of sequences, where there is one."""
    bounds = [facts.get(f"dead_{end}", []) for end in ("low", "high")]
    shares = [
        f"{100 * dead / max(1, facts['neurons_per_layer']):.1f}% ({100 * low:.1f}–{100 * high:.1f}%)"
        for dead, low, high in zip(facts["dead"], *bounds, strict=False)
        if low is not None and low == low  # neither null nor NaN: a text of one group has none
    ]
    return [f"  share     {'  '.join(shares)}"] if shares else []


def _detectors(facts: Mapping[str, Any]) -> list[str]:
    lines = []
    for gram, word in zip(GRAMS, WORDS, strict=True):
        if f"{gram}_detectors" in facts:
            found, supported = (" ".join(map(str, facts[f"{gram}_detectors{suffix}"])) for suffix in ("", "_supported"))
            lines.append(f"detectors   {found} of {word}s by layer; well supported {supported}")
    return lines


def _suppression(facts: Mapping[str, Any]) -> list[str]:
    """Of the token detectors, those that suppress their triggers, beside the nulls; at both levels of support."""
    lines = []
    for support, whom in (("all", "of the token detectors"), ("supported", "of the well supported")):
        share, low, high, neurons, tokens = (
            100 * facts.get(column, {}).get(support, math.nan)
            for column in ("suppressing", "suppressing_low", "suppressing_high", "null_neurons", "null_tokens")
        )
        if not math.isnan(share):
            lines.append(
                f"suppress    {share:.0f}% ({low:.0f}–{high:.0f}%) {whom} do so to their triggers; "
                f"nulls: other neurons {neurons:.0f}%, other tokens {tokens:.0f}%"
            )
    return lines


def _positional(facts: Mapping[str, Any]) -> list[str]:
    """Positional neurons by layer, and of which types they are."""
    if "positional" not in facts:
        return []
    types = [
        f"{name.replace('_', ' ')} {sum(count.values()):,} ({count['strong']:,} strong)"
        for name, count in facts.get("position_types", {}).items()
        if sum(count.values())
    ]
    of = f": {', '.join(types)}" if types else ""
    return [f"positional  {' '.join(map(str, facts['positional']))} by layer{of}"]


def _contrast(facts: Mapping[str, Any]) -> list[str]:
    """Neurons of one label, and those silent in one, by label; of two labels these are the same neurons."""
    lines = []
    for key, title, least in (("label_only", "one label   active in", 2), ("label_silent", "            silent in", 3)):
        found = facts.get(key, {})
        if len(found) >= least:
            each = ", ".join(f"{printable(label)} {count['all']:,}" for label, count in found.items())
            supported = ", ".join(f"{count['supported']:,}" for count in found.values())
            lines.append(f"{title} it alone: {each}; well supported {supported}")
    return lines


def _parity(facts: Mapping[str, Any]) -> str:
    if facts["certificate"] is None:
        return f"not certified; neurolens certify {printable(facts['model'])} --run {facts['path']}"
    return printable(Certificate.from_dict(facts["certificate"]).headline())
