"""closing: the page that closes a comparison — what was compared, what was found, what could not be said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from neurolens.comparison.anchors import GROWS, Claim, Finding
from neurolens.comparison.change import Change, mean
from neurolens.comparison.factors import Member
from neurolens.comparison.headlines import Headlines
from neurolens.comparison.lineage import Unpaired
from neurolens.comparison.writeup import Raw, claim_rows, escaped, number, percent, table_lines

FIGURES_OF = "figures"  # folder of the figures in that of the page
LEAST_P = 1e-15  # smaller ones are below the precision they are computed in
COUNTS = ("died", "woke", "changed_class", "more_often", "less_often")  # of neurons, from one run to the next


def write_page(
    members: Sequence[Member],
    numbers: Mapping[str, Headlines],
    changes: Sequence[Change],
    unpaired: Sequence[Unpaired],
    judged: Mapping[str, Sequence[tuple[Claim, Finding]]],
    growth: Finding | None,
    figures: Mapping[str, str],
    left_out: Mapping[str, str],
    csv_of: Mapping[str, str],
) -> str:
    """The page in Markdown. `figures`: title of each by file stem; `left_out`: why others are not there; `csv_of`: file
    of the neurons of each change, by the name of its pair."""
    ours = {stem: title for stem, title in figures.items() if stem.startswith(("trends", "transitions", "drift"))}
    lines = [f"# Comparison of {len(members)} run{'s' * (len(members) != 1)}", ""]
    lines += [*_runs(members, numbers), *_over(ours), *_changes(changes, unpaired, ours, csv_of)]
    lines += _anchors(judged, growth, {name: run.size for name, run in numbers.items()})
    papers = {stem: title for stem, title in figures.items() if stem not in ours}
    if papers:
        lines += ["## The paper's figures over these runs", "", *_images(papers)]
    if left_out:
        lines += ["## Left out", "", *(f"- {escaped(name)}: {escaped(why)}" for name, why in left_out.items()), ""]
    return "\n".join(lines)


def _runs(members: Sequence[Member], numbers: Mapping[str, Headlines]) -> list[str]:
    """What was compared, and the headlines of each."""
    factors = list(dict.fromkeys(name for member in members for name in member.factors))
    head = ["run", *map(escaped, factors), "layers × neurons", "tokens", "dead", "mean frequency of the others"]
    head += ["token detectors (well supported)", "point away from their triggers", "positional", "most frequent type"]
    rows = []
    for member in members:
        run = numbers[member.called]
        kind = run.most_frequent_type
        rows.append([
            member.called,
            *(member.factors.get(name, "–") for name in factors),
            f"{len(run.layers)} × {run.neurons:,}", f"{run.n_tokens:,}", percent(run.dead), percent(run.frequency),
            Raw(f"{_count(run.detectors.value, run)} ({_count(run.supported.value, run)})"),
            percent(run.suppressing, digits=0), percent(run.positional),
            "–" if kind is None else kind.replace("_", " ") or "none",
        ])  # fmt: skip
    shared = len({member.run.store.attrs["corpus_fingerprint"] for member in members}) == 1
    return [
        "## Runs",
        "",
        *table_lines(head, rows),
        "Intervals are over groups of sequences, those of detectors clustered by token. "
        + ("All have read the same text." if shared else "Not all have read the same text: numbers depend on it."),
        "`runs.csv` has all of it, `trends.csv` the means of runs that share their factors.",
        "",
    ]


def _over(figures: Mapping[str, str]) -> list[str]:
    found = {stem: title for stem, title in figures.items() if stem.startswith("trends")}
    return ["## Over the factors", "", *_images(found)] if found else []


def _changes(
    changes: Sequence[Change], unpaired: Sequence[Unpaired], figures: Mapping[str, str], csv_of: Mapping[str, str]
) -> list[str]:
    """Neuron by neuron, where runs are one model before and after."""
    if not changes and not unpaired:
        return []
    lines = ["## From run to run, neuron by neuron", ""]
    if changes:
        head = ["from → to", "along", "died", "woke", "of another class", "surely more often", "surely less often"]
        head += ["same triggers (detectors of both)", "value vectors (mean cosine)", "neurons"]
        rows = []
        for change in changes:
            facts = change.facts()
            file = csv_of[change.pair.name]
            rows.append([
                change.pair.name, change.pair.factor, *(f"{facts[name]:,}" for name in COUNTS),
                f"{number(mean(change.triggers), '.2f')} ({facts['detectors_of_both']:,})",
                number(mean(change.cosine)), Raw(f"[{file}]({file})"),
            ])  # fmt: skip
        lines += table_lines(head, rows)
        lines += [
            "*Surely*: the interval of the difference does not hold 0; of neurons that do not differ 2.5% do so by"
            " chance on either side.",
            "",
            *_overlaps(changes),
            *_images({stem: title for stem, title in figures.items() if not stem.startswith("trends")}),
        ]
    notes = [f"- {escaped(change.pair.name)}: {escaped(note)}." for change in changes for note in change.notes]
    notes += [f"- {escaped(each.member.called)}, along {each.factor}: {escaped(each.reason)}." for each in unpaired]
    return [*lines, *notes, *([""] if notes else [])]


def _overlaps(changes: Sequence[Change]) -> list[str]:
    """Overlap of each class, beside chance."""
    rows = [
        [change.pair.name, name, f"{found.before:,}", f"{found.after:,}", f"{found.both:,}",
         number(found.jaccard), number(found.expected), f"{found.p:.2g}" if found.p > LEAST_P else f"< {LEAST_P:g}"]
        for change in changes for name, found in change.overlaps.items() if found.before + found.after
    ]  # fmt: skip
    head = ["from → to", "class", "before", "after", "in both", "Jaccard", "by chance", "p"]
    return [
        *table_lines(head, rows),
        "*By chance*: the mean for independent sets of the same size in each layer; *p*: how often they overlap as"
        " much.",
        "",
    ]


def _anchors(
    judged: Mapping[str, Sequence[tuple[Claim, Finding]]], growth: Finding | None, sizes: Mapping[str, str]
) -> list[str]:
    """What the paper says of models of these shapes, beside what the runs say."""
    rows = [[row[name] for name in ("run", "size", "claim", "source", "found", "verdict", "why")]
            for row in claim_rows(judged, sizes)]  # fmt: skip
    if growth is not None:
        rows.append(["all", "", GROWS, "§3, Fig. 1a", growth.found, growth.verdict, growth.why])
    return [
        "## Beside the paper",
        "",
        *table_lines(["run", "size", "the paper's claim", "where", "found here", "verdict", "why not said"], rows),
        "Claims are chosen by the model's shape; one of another shape is held against what is said of all. *Cannot"
        " say*: what the run has cannot decide it, as fewer tokens than the paper's cannot show that a neuron is dead.",
        "",
    ]


def _count(share: float, run: Headlines) -> str:
    return number(round(share * run.total), ",d") if share == share else "–"


def _images(figures: Mapping[str, str]) -> list[str]:
    return [line for stem, title in figures.items() for line in (f"![{escaped(title)}]({FIGURES_OF}/{stem}.png)", "")]
