"""Plots: tables of results → matplotlib figures that need no paper beside them. Only this folder imports matplotlib.

    save(draw("dead", [run.neurons]), "figures", "dead")

sheet.py holds the look, text.py names of unknown origin, the other modules the figures, by what they are about.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from matplotlib.figure import Figure

from neurolens import NeurolensError, UsageError, shares
from neurolens.plots import activity, contrast, examples, ngrams, positional, positions, updates
from neurolens.plots.sheet import METADATA, FigureSpec, render
from neurolens.plots.text import printable

COVERED = ("covered", "cumulative")
NEW = ("covered", "new", "new_to_previous")
SHARES = ("detectors", *shares.COLUMNS)
KIND = ("type", "strength", "mi_corrected", "rough")
SILENCES = ("only", "only_supported", "silent", "silent_supported")

FIGURES: dict[str, FigureSpec] = {
    "dead": FigureSpec(
        "1a", "Neurons that are never active", activity.dead, ("dead", "dead_but_bos"), part="dead", n=0
    ),
    "frequency": FigureSpec(
        "1b", "How often the neurons that are not dead are active", activity.frequency, ("frequency", "dead"),
        part="dead", n=0,
    ),
    "covering": FigureSpec("2", "How many tokens a neuron responds to", ngrams.covering, ("unigrams_95", "dead")),
    "covering-bigrams": FigureSpec(
        "12", "How many bigrams a neuron responds to", ngrams.covering, ("bigrams_95", "dead"), n=2
    ),
    "covering-trigrams": FigureSpec(
        "13", "How many trigrams a neuron responds to", ngrams.covering, ("trigrams_95", "dead"), n=3
    ),
    "detectors": FigureSpec(
        "3a", "Token detectors by layer", ngrams.detectors, ("unigram_detector", "unigram_detector_supported")
    ),
    "covered": FigureSpec("3b", "Tokens that have a detector", ngrams.covered, COVERED, "by_layer"),
    "new-tokens": FigureSpec("4", "Tokens that a layer adds to those with a detector", ngrams.new, NEW, "by_layer"),
    "detectors-trigrams": FigureSpec(
        "14", "Trigram detectors by layer", ngrams.detectors, ("trigram_detector", "trigram_detector_supported"), n=3
    ),
    "covered-trigrams": FigureSpec("15", "Trigrams that have a detector", ngrams.covered, COVERED, "by_layer", n=3),
    "new-trigrams": FigureSpec(
        "15", "Trigrams that a layer adds to those with a detector", ngrams.new, NEW, "by_layer", n=3
    ),
    "examples": FigureSpec(
        "5", "What token detectors promote and suppress", examples.examples, (), "examples", "updates"
    ),
    "positional-types": FigureSpec(
        "7", "Types of positional neurons", positions.types, KIND, "positions", "positions", n=0
    ),
    "positional": FigureSpec(
        "8, 16", "Positional neurons by layer and type", positional.positional, KIND, "positions", "positions", n=0
    ),
    "position-ranges": FigureSpec(
        "9", "How oscillatory neurons divide the positions among themselves", positions.ranges, KIND, "positions",
        "positions", n=0,
    ),
    "positional-training": FigureSpec(
        "10, 11", "Positional neurons of several runs", positional.training, KIND, "positions", "positions", n=0
    ),
    "contrast": FigureSpec(
        "ours", "Neurons that tell one kind of text from others", contrast.contrast, SILENCES, "contrast", "contrast",
        n=0,
    ),
    "suppression": FigureSpec(
        "ours", "Do token detectors point away from their triggers?", updates.suppression, SHARES, "by_layer", "updates"
    ),
    "saturation": FigureSpec(
        "ours", "How certain is dead? Neurons found alive as text goes by", activity.saturation, ("first_active",),
        part="dead", n=0,
    ),
}  # fmt: skip


class Analysed(Protocol):
    """What is asked of a run before its tables are read."""

    @property
    def name(self) -> str:
        """What to call it."""
        ...

    @property
    def parts(self) -> Mapping[str, Mapping[str, Any]]:
        """The parts of an analysis that it has, and what was asked of each."""
        ...


def drawable(runs: Sequence[Analysed], names: Sequence[str] = ()) -> tuple[list[str], dict[str, str]]:
    """(figures that can be drawn of the runs, why the others cannot: name → reason); `names` must all be drawable.

    Raises UsageError if there is no figure of a name, NeurolensError if a figure that was named cannot be drawn.
    """
    missing = {name: reason for name in names or FIGURES if (reason := _lacking(_spec(name), runs))}
    if names and missing:
        name, reason = next(iter(missing.items()))
        raise NeurolensError(f"cannot draw {name}: {reason}")
    return [name for name in names or FIGURES if name not in missing], missing


def draw(name: str, tables: Sequence[Any], **options: Any) -> Figure:
    """Draw a figure of `FIGURES` for one or several runs: their tables of the kind `FIGURES[name].table`.

    `options` go to the figure's function. Raises UsageError if there is no such figure or no run, NeurolensError if
    a table lacks a column, or n-grams of that length.
    """
    spec = _spec(name)
    if not tables:
        raise UsageError(f"no run to draw {name} of; expected at least one analysed run")
    for table in tables:
        if missing := [column for column in spec.columns if column not in list(table)]:
            raise NeurolensError(
                f"{printable(table.name)} has no column {', '.join(missing)} for {name}; analyse it again"
            )
        if spec.table == "by_layer" and spec.n not in table.coords["n"]:
            raise NeurolensError(f"{printable(table.name)} has no n-grams of {spec.n} for {name}; analyse it again")
    return spec.function(spec, tables, **options)


def save(figure: Figure, folder: str | Path, name: str, formats: Sequence[str] = ("png", "svg")) -> list[Path]:
    """Write `folder/name.format`, each file whole or not at all; the same figure gives the same bytes.

    Returns the paths. Raises UsageError for another format than png or svg, or a name that is no file name.
    """
    if unknown := [kind for kind in formats if kind not in METADATA]:
        raise UsageError(f"no format {printable(unknown[0])}; expected {' or '.join(METADATA)}")
    if not name or Path(name).name != name:
        raise UsageError(f"{printable(name)!r} is no file name; expected for example dead")
    Path(folder).mkdir(parents=True, exist_ok=True)
    paths = [Path(folder) / f"{name}.{kind}" for kind in formats]
    for kind, path in zip(formats, paths, strict=True):
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            partial.write_bytes(render(figure, kind))
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    return paths


def _spec(name: str) -> FigureSpec:
    if name not in FIGURES:
        raise UsageError(f"no figure {printable(name)}; expected one of {', '.join(FIGURES)}")
    return FIGURES[name]


def _lacking(spec: FigureSpec, runs: Sequence[Analysed]) -> str:
    """Why a figure cannot be drawn of the runs; empty if it can."""
    for run in runs:
        if spec.part not in run.parts:
            return f"{printable(run.name)} is not analysed for {spec.part}"
        if spec.n and (counted := run.parts["ngrams"]["lengths"]) < spec.n:
            return f"{printable(run.name)} is analysed for n-grams of up to {counted}, not {spec.n}, tokens"
    return ""
