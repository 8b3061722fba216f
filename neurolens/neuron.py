"""neuron: what a run holds of one neuron → its Card. Only that neuron's part of each array is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np

from neurolens import NeurolensError
from neurolens.bootstrap import Bootstrap, draw_groups
from neurolens.card import Card, Update, Written
from neurolens.firing import Firing
from neurolens.profile import Contrast, Dependence, Kind, Profile, Range, Rate
from neurolens.store import Store
from neurolens.tables import GRAMS, named
from neurolens.updates import PROMOTED, Projector
from neurolens.verdict import Trigger, Verdict
from neurolens.vocabulary import Vocabulary

ENDS = ("promoted", "suppressed", "promoted_projection", "suppressed_projection")
Column = Callable[[str], Any]  # the neuron's value in a column of results/neurons


def read_neuron(
    store: Store,
    parts: Mapping[str, Mapping[str, Any]],
    vocabulary: Vocabulary,
    layer: int,
    neuron: int,
    *,
    name: str,
    projector: Callable[[], Projector] | None = None,
) -> Card:
    """The card of a neuron of an analysed run, which is called `name`.

    `parts`: what is analysed, `dead` at least. `projector` is called for if the run does not hold what the neuron
    writes to the vocabulary; what it raises is why the card does not either. Raises NeurolensError for damaged
    arrays.
    """
    row = store.layers.index(layer)
    ngrams, rules = parts.get("ngrams", {}), parts.get("ngrams", {}).get("rules", {})

    def column(of: str) -> Any:
        return store.read(f"results/neurons/{of}", (row, neuron)).item()

    on_text, labels = column("activations_on_text"), _labels(store, parts["dead"], layer, neuron)
    firing = Firing(
        store,
        vocabulary,
        layer,
        neuron,
        title=f"neuron {layer}.{neuron} of {name}",
        samples=store.read("results/contexts", (row, neuron)),
        seed=parts["dead"]["seed"],
        activations=column("activations"),
        by_label=[rate.on for rate in labels.values()],
    )
    triggers = _triggers(store, layer, neuron, vocabulary, projected="updates" in parts) if ngrams else []
    counted = _activations_with_ngrams(store, firing, ngrams["lengths"]) if ngrams and on_text else []
    verdicts = [
        Verdict(
            n=n,
            covering=column(f"{gram}s_95"),
            limit=rules["max_covering" if n == 1 else "max_covering_ngrams"],
            activations=on_text if n == 1 else counted[n - 1] if counted else None,
            detector=column(f"{gram}_detector"),
            supported=column(f"{gram}_detector_supported"),
            triggers=tuple(trigger for trigger in triggers if len(trigger.tokens) == n),
        )
        for n, gram in enumerate(GRAMS[: ngrams.get("lengths", 0)], 1)
    ]
    written, source, missing = None, "run", "its value vector is not projected in this run"
    if "updates" in parts:
        written = _stored(store, layer, neuron)
    if written is None and projector is not None:
        try:
            (written, verdicts), source = _computed(projector(), layer, neuron, verdicts), "checkpoint"
        except NeurolensError as error:
            missing = f"{missing}, nor can it be now: {error}"
    fold_norm = bool(parts.get("updates", {}).get("fold_norm"))
    return Card(
        run=name,
        model=str(store.attrs["model"]["id"]),
        layer=layer,
        neuron=neuron,
        rate=_rate(column("activations"), store.n_tokens, column("frequency_low"), column("frequency_high")),
        activations_on_text=on_text,
        labels=labels,
        rules=rules,
        ngrams=tuple(verdicts),
        source=firing,
        update=_update(written, verdicts, vocabulary, source=source, fold_norm=fold_norm) if written else None,
        missing="" if written else missing,
        positions=_profile(store, parts.get("positions"), column, layer, neuron),
        contrast=_contrast(store, column) if "contrast" in parts else None,
        confidence=parts["dead"]["bootstrap"]["confidence"],
        design_effect=column("design_effect"),
    )


def _labels(store: Store, asked: Mapping[str, Any], layer: int, neuron: int) -> dict[str, Rate]:
    """Rates by label, with intervals unless there are too many labels to have them counted by group."""
    names, folder = store.attrs["label_names"], f"counts/layers/{layer:02d}"
    if not store.has(f"{folder}/group_label"):
        on, total = store.read(f"{folder}/label", neuron), store.read("counts/total/label")
        return {name: Rate(int(on[i]), int(total[i])) for i, name in enumerate(names)}
    total = store.read("counts/total/group_label")
    on = store.read(f"{folder}/group_label", neuron).astype(np.int64)
    groups = draw_groups(total.sum(1), Bootstrap(**asked["bootstrap"]))
    rates = (groups.weights @ on) / np.maximum(1, groups.weights @ total)
    low, high = groups.interval(on.sum(0) / np.maximum(1, total.sum(0)), rates)
    return {name: _rate(on[:, i].sum(), total[:, i].sum(), low[i], high[i]) for i, name in enumerate(names)}


def _rate(on: int, total: int, low: float, high: float) -> Rate:
    """Resamplings of what is never, or always, active are all alike: that has no interval."""
    bounds = (_known(bound) for bound in np.clip([low, high], 0, 1)) if 0 < on < total else ()
    return Rate(int(on), int(total), *bounds)


def _profile(store: Store, asked: Mapping[str, Any] | None, column: Column, layer: int, neuron: int) -> Profile:
    """By position; what it amounts to if positions are analysed (`asked`)."""
    on, total = store.read(f"counts/layers/{layer:02d}/position", neuron), store.read("counts/total/position")
    profile = Profile(tuple(on.tolist()), tuple(total.tolist()))
    if asked is None:
        return profile
    mi, corrected, p, rough = (column(f"position_{name}") for name in ("mi", "mi_corrected", "p", "rough"))
    dependence = Dependence(mi, corrected, None, None, p, rough)
    profile = replace(profile, dependence=dependence, threshold=asked["rules"]["threshold"])
    if not column("positional"):
        return profile
    folder = "results/positions"
    (row,) = np.flatnonzero((store.read(f"{folder}/layer") == layer) & (store.read(f"{folder}/neuron") == neuron))

    def value(name: str) -> Any:
        return store.read(f"{folder}/{name}", row).item()

    def word(name: str) -> str:
        return str(named(name, value(name)))

    of = np.flatnonzero(store.read(f"{folder}/ranges/row") == row)
    ranges = [store.read(f"{folder}/ranges/{each.name}")[of].tolist() for each in fields(Range)]
    return replace(
        profile,
        dependence=replace(dependence, low=_known(value("mi_low")), high=_known(value("mi_high"))),
        kind=Kind(
            type=word("type"),
            strength=word("strength"),
            period=_known(value("period")),
            phase=_known(value("phase")),
            agreement=_known(value("agreement")),
            stability=_known(value("stability")),
            ranges=tuple(Range(*each) for each in zip(*ranges, strict=True)),
        ),
    )


def _contrast(store: Store, column: Column) -> Contrast:
    names = [*store.attrs["label_names"], None]  # −1 is none
    mi, corrected, low, high, p, rough = (
        column(f"label_{name}") for name in ("mi", "mi_corrected", "mi_low", "mi_high", "p", "rough")
    )
    return Contrast(
        dependence=Dependence(mi, corrected, _known(low), _known(high), p, rough),
        only=names[column("label_only")],
        only_supported=column("label_only_supported"),
        silent=names[column("label_silent")],
        silent_supported=column("label_silent_supported"),
    )


def _known(value: float) -> float | None:
    """None for NaN."""
    return None if value != value else float(value)


def _triggers(store: Store, layer: int, neuron: int, vocabulary: Vocabulary, *, projected: bool) -> list[Trigger]:
    folder = f"results/layers/{layer:02d}/triggers"
    rows = slice(*np.searchsorted(store.read(f"{folder}/neuron"), [neuron, neuron + 1]).tolist())
    names = ["n", "tokens", "on", "total", "rate_lower", "member", "covered"]
    names += ["projection", "projection_centred", "rank", "cosine"] if projected else []
    columns = {name: store.read(f"{folder}/{name}", rows).tolist() for name in names}
    found = []
    for values in zip(*columns.values(), strict=True):
        known = dict(zip(columns, values, strict=True))
        tokens = tuple(known.pop("tokens")[-known.pop("n") :])
        if known.get("rank", 0) < 0:  # not projected
            known = {name: known[name] for name in names[2:7]}
        found.append(Trigger(tokens=tokens, content=vocabulary.content(tokens), **known))
    return found


def _activations_with_ngrams(store: Store, firing: Firing, most: int) -> list[int]:
    """Activations at which an n-gram ends, for n = 1 … `most`; none if the run no longer has the bits."""
    try:
        place = firing.tokens
    except NeurolensError:
        return []
    text = store.read("tokens").reshape(-1) != store.attrs["eos"]
    counted = []
    for back in range(most):  # a sequence begins with `</s>`: who goes back beyond its start has met that
        place = place[text[place - back]]
        counted.append(len(place))
    return counted


def _stored(store: Store, layer: int, neuron: int) -> dict[str, Any] | None:
    """The neuron's row of the updates; None if it was not projected."""
    folder = f"results/layers/{layer:02d}/updates"
    neurons = store.read(f"{folder}/neuron")
    at = int(np.searchsorted(neurons, neuron))
    if at == len(neurons) or neurons[at] != neuron:
        return None
    return {name: store.read(f"{folder}/{name}", at).tolist() for name in (*ENDS, "projection_mean")}


def _computed(
    projector: Projector, layer: int, neuron: int, verdicts: list[Verdict]
) -> tuple[dict[str, Any], list[Verdict]]:
    """What would be the neuron's row of the updates, and the verdicts with projections at their triggers."""
    last = np.unique([trigger.tokens[-1] for each in verdicts for trigger in each.triggers]).astype(np.int64)
    none = np.zeros(0, np.int64)
    found = projector.project(
        layer, np.array([neuron]), k=PROMOTED, pairs=(np.zeros_like(last), last), controls=(none, none)
    )
    mean = float(found.mean[0])
    at = {
        token: {
            "projection": float(found.projection[i]),
            "projection_centred": float(found.projection[i]) - mean,
            "rank": int(found.rank[i]),
            "cosine": float(found.cosine[i]),
        }
        for i, token in enumerate(last.tolist())
    }
    projected = [
        replace(each, triggers=tuple(replace(one, **at[one.tokens[-1]]) for one in each.triggers)) for each in verdicts
    ]
    return {name: getattr(found, name)[0].tolist() for name in ENDS} | {"projection_mean": mean}, projected


def _update(
    row: Mapping[str, Any], verdicts: list[Verdict], vocabulary: Vocabulary, *, source: str, fold_norm: bool
) -> Update:
    """From a row of the updates; whether a token detector suppresses its triggers is the sign of their mean
    projection, weighted by activations (paper, §4.4)."""
    covered = [trigger for each in verdicts if each.detector for trigger in each.triggers if trigger.covered]
    last = {trigger.tokens[-1] for trigger in covered}
    tokens = {
        end: tuple(
            Written(token, vocabulary.content([token]), value, token in last)
            for token, value in zip(row[end], row[f"{end}_projection"], strict=True)
            if token >= 0
        )
        for end in ENDS[:2]
    }
    single = [one for one in covered if len(one.tokens) == 1 and one.projection is not None]
    weighted = sum(one.on * (one.projection or 0) for one in single)
    raw = weighted / sum(one.on for one in single) if single else None
    return Update(
        **tokens,
        mean=row["projection_mean"],
        suppresses=None if raw is None else raw < 0,
        projection=raw,
        projection_centred=None if raw is None else raw - row["projection_mean"],
        vocabulary=len(vocabulary.real),
        fold_norm=fold_norm,
        source=source,
    )
