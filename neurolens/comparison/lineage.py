"""lineage: which runs are one model before and after, so that a neuron of one is the same neuron in the other.

Runs are compared neuron by neuron along their lineage only: neuron 7 is the same one at another step, or once tuned,
not in another model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from neurolens.comparison.factors import LINEAGE, PLACES, Member, order_values

# of config.json, what two models whose neurons are compared must agree in
ARCHITECTURE = (
    "model_type", "num_hidden_layers", "hidden_size", "ffn_dim", "num_attention_heads", "max_position_embeddings",
    "word_embed_proj_dim", "do_layer_norm_before", "activation_function",
)  # fmt: skip


class Opened(Protocol):
    """What is asked of a run here."""

    @property
    def store(self) -> Any:
        """Its store: `attrs`, `layers`, `neurons`."""
        ...


@dataclass(frozen=True)
class Pair:
    """Two runs of one lineage, whose neurons are the same ones; `factor` is what leads from one to the other."""

    before: Member
    after: Member
    factor: str

    @property
    def name(self) -> str:
        """`base → tuned`."""
        return f"{self.before.called} → {self.after.called}"


@dataclass(frozen=True)
class Unpaired:
    """A run that is not compared, neuron by neuron, with one before it along `factor`, and why."""

    member: Member
    factor: str
    reason: str


def find_pairs(members: Sequence[Member]) -> tuple[list[Pair], list[Unpaired]]:
    """Runs of one lineage, each with the one before it; and runs that have none though they differ in its factor.

    Along `step` (by number), `stage`, `algorithm` and `revision` (in the order given) a run follows the nearest one
    before it whose other factors are the same. A run that lacks a factor is before all branches of it: one base model
    and three seeds of its tuning are three pairs. Where weights are (`PLACES`) may differ; architecture, collected
    layers, tokenizer and text may not, for then a neuron, or a token, is another one.
    """
    pairs: list[Pair] = []
    without: list[Unpaired] = []
    for factor in LINEAGE:
        having = [member for member in members if factor in member.factors]
        order = order_values(member.factors[factor] for member in having)
        place = {id(m): order.index(m.factors[factor]) for m in having}
        for after in having:
            earlier = [m for m in having if place[id(m)] < place[id(after)]]
            kin = [m for m in earlier if _akin(m, after, factor)]
            if not kin:
                if earlier and factor != "revision":
                    differ = _difference(earlier[-1], after, factor)
                    without.append(Unpaired(after, factor, f"no run before it is like it but for {factor}{differ}"))
                continue
            nearest = max(kin, key=lambda m: (place[id(m)], len(m.factors)))
            if any(pair.before is nearest and pair.after is after for pair in pairs):
                continue
            if reason := why_not_comparable(nearest.run, after.run):
                without.append(Unpaired(after, factor, f"not compared with {nearest.called}: {reason}"))
            else:
                pairs.append(Pair(nearest, after, factor))
    return pairs, without


def why_not_comparable(before: Opened, after: Opened) -> str:
    """Why neurons, or tokens, of two runs are not the same ones; empty if they are."""
    first, second = before.store.attrs, after.store.attrs
    shapes = [attrs["model"]["config"] for attrs in (first, second)]
    for name in ARCHITECTURE:
        if shapes[0].get(name) != shapes[1].get(name):
            return f"other architectures ({name} is {shapes[0].get(name)} and {shapes[1].get(name)})"
    if (before.store.layers, before.store.neurons) != (after.store.layers, after.store.neurons):
        return "other layers were collected"
    if first.get("tokenizer") != second.get("tokenizer"):
        return "other tokenizers"
    if first["corpus_fingerprint"] != second["corpus_fingerprint"]:
        return "they have read other texts"
    return ""


def _akin(before: Member, after: Member, factor: str) -> bool:
    """Whether all that the run before has, but for this factor and where its weights are, the one after has, too."""
    return not _difference(before, after, factor)


def _difference(before: Member, after: Member, factor: str) -> str:
    """`; base differs in lr`, or nothing."""
    differ = [
        name
        for name, value in before.factors.items()
        if name not in (factor, *PLACES) and after.factors.get(name) != value
    ]
    return f"; {before.called} differs in {', '.join(differ)}" if differ else ""
