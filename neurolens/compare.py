"""compare: several analysed runs → a folder with figures, tables and a page that says what they differ in.

Figures of the paper over all runs, trends over factors, what became of each neuron along a lineage (change.py), and the
runs beside the paper's published numbers (anchors.py). Nothing is fetched, and no run is written.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neurolens import UsageError
from neurolens.checkpoint import Checkpoint
from neurolens.comparison.anchors import GROWS, AnchorRules, judge_growth, judge_run
from neurolens.comparison.change import Change, read_change
from neurolens.comparison.closing import FIGURES_OF, write_page
from neurolens.comparison.factors import REPLICATES, Member, name_members, varying
from neurolens.comparison.headlines import Headlines, read_headlines
from neurolens.comparison.lineage import find_pairs
from neurolens.comparison.rows import columns, neuron_columns, run_row, transition_rows, trend_rows
from neurolens.comparison.trends import Trend, arrange
from neurolens.comparison.writeup import claim_rows, write_csv, write_text
from neurolens.inspection.fingerprints import find_checkpoint
from neurolens.location import here
from neurolens.options import plain
from neurolens.plots import FIGURES, draw, drawable, save
from neurolens.plots.study import draw_study

PAGE, RECORD = "report.md", "comparison.json"


@dataclass(frozen=True)
class Comparison:
    """What `compare_runs` wrote and found.

    folder    where
    written   the files, by path in the folder
    left_out  what could not be drawn or compared → why
    changes   the headlines of every pair of runs that was compared neuron by neuron
    anchors   a row a run and claim of the paper: `run`, `size`, `claim`, `source`, `found`, `verdict`, `why`
    """

    folder: Path
    written: tuple[str, ...]
    left_out: Mapping[str, str]
    changes: tuple[Mapping[str, Any], ...]
    anchors: tuple[Mapping[str, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """As one JSON object."""
        return {**vars(self), "written": [str(self.folder / name) for name in self.written]}


def checkpoint_at_hand(run: Any) -> Checkpoint | None:
    """A run's checkpoint where the run says, or in the hub's cache, if it still is the one; None else. Nothing is
    fetched. Raises NeurolensError if it cannot be read."""
    known = run.store.attrs["model"]
    folder = find_checkpoint(known["id"], known.get("revision"))
    if folder is None:
        return None
    checkpoint = Checkpoint(folder)
    return checkpoint if checkpoint.fingerprint() == run.store.attrs.get("checkpoint") else None


def compare_runs(
    members: Sequence[Member],
    output: str | Path,
    *,
    by: Sequence[str] = (),
    rules: AnchorRules | None = None,
    formats: Sequence[str] = ("png", "svg"),
    model_of: Callable[[Any], Checkpoint | None] = checkpoint_at_hand,
    say: Callable[[str], object] = lambda line: None,
) -> Comparison:
    """Compare analysed runs, and write what they differ in into a folder; what a comparison wrote there is replaced.

    Members without a name are given one by their factors. `by`: factors to draw trends over; by default those that all
    runs have and that vary. `model_of` gives a run's checkpoint if it is at hand: without, value vectors are not
    compared, which is said. `say` hears what is done and left out.

    Written are `report.md`, `runs.csv`, `trends.csv`, `transitions.csv`, `anchors.csv`, `neurons-N-PAIR.csv` for each
    pair (docs/method.md has their columns), `figures/` and, last, `comparison.json`. Each file is whole or not at all.
    Raises UsageError for no run, a factor that a run lacks (naming both), or an output that is no folder;
    NeurolensError if a run is not analysed or is damaged.
    """
    if not members:
        raise UsageError("no run to compare; give one or several analysed runs")
    folder = here(output, "a folder")
    _check_output(folder, members)
    members, rules = name_members(members), rules or AnchorRules()
    factors = list(by) or [name for name in varying(members) if name not in REPLICATES][:1]
    arranged = {factor: arrange(members, factor) for factor in factors}
    numbers = {member.called: read_headlines(member.run) for member in members}
    pairs, unpaired = find_pairs(members)
    changes = []
    for pair in pairs:
        say(f"comparing {pair.name}, neuron by neuron")
        changes.append(read_change(pair, model_of=model_of))
        for note in changes[-1].notes:
            say(f"{pair.name}: {note}")
    for each in unpaired:
        say(f"{each.member.called}, along {each.factor}: {each.reason}")
    judged = {name: judge_run(run, rules) for name, run in numbers.items()}
    growth = judge_growth(numbers, rules)

    (folder / FIGURES_OF).mkdir(parents=True, exist_ok=True)
    left_out = {} if arranged else {"trends": "no factor that all runs have has several values"}
    left_out |= {} if changes else {"transitions": "no two runs are one model before and after"}
    figures = _draw(folder / FIGURES_OF, members, numbers, arranged, changes, left_out, formats, say)
    written = [f"{FIGURES_OF}/{stem}.{kind}" for stem in figures for kind in formats]
    anchors = claim_rows(judged, {name: run.size for name, run in numbers.items()})
    if growth is not None:
        anchors.append(dict(zip(anchors[0], ("all", "", GROWS, "§3", growth.found, growth.verdict, growth.why),
                                strict=True)))  # fmt: skip
    csv_of = {change.pair.name: f"neurons-{i}-{_slug(change.pair.name)}.csv" for i, change in enumerate(changes, 1)}
    tables: dict[str, Mapping[str, Any]] = {
        "runs.csv": columns([run_row(member, numbers[member.called]) for member in members]),
        "trends.csv": columns(trend_rows(arranged, numbers)),
        "anchors.csv": columns(anchors),
        "transitions.csv": columns([row for change in changes for row in transition_rows(change)]),
        **{csv_of[change.pair.name]: neuron_columns(change) for change in changes},
    }
    for name, table in tables.items():
        if table:
            write_csv(folder / name, table)
            written.append(name)
    page = write_page(members, numbers, changes, unpaired, judged, growth, figures, left_out, csv_of)
    write_text(folder / PAGE, page)
    done = Comparison(folder, (PAGE, *written), left_out, tuple(each.facts() for each in changes), tuple(anchors))
    _replace_record(folder, done, rules)
    return done


def _check_output(folder: Path, members: Sequence[Member]) -> None:
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; give a folder as --output")
    place = folder.resolve()
    for member in members:
        if (run := member.run.path.resolve()) in (place, *place.parents):
            raise UsageError(f"{folder} is inside the run {run.name}, which holds arrays only; give a folder beside it")


def _draw(
    folder: Path,
    members: Sequence[Member],
    numbers: Mapping[str, Headlines],
    arranged: Mapping[str, Trend],
    changes: Sequence[Change],
    left_out: dict[str, str],
    formats: Sequence[str],
    say: Callable[[str], object],
) -> dict[str, str]:
    """Draw all figures; returns the title of each by its file's name without an ending. Adds to `left_out`."""
    titles: dict[str, str] = {}
    for i, (factor, trend) in enumerate(arranged.items()):
        stem = "trends" if len(arranged) == 1 else f"trends-{i + 1}-{_slug(factor)}"
        titles[stem] = f"Runs over {factor}"
        save(draw_study("trends", trend, numbers, title=titles[stem]), folder, stem, formats)
    for name in ("transitions", "drift") if changes else ():
        figure = draw_study(name, changes)
        titles[name] = figure.texts[0].get_text()
        save(figure, folder, name, formats)
    named = [_Named(member.called, member.run.parts) for member in members]
    names, reasons = drawable(named)
    left_out |= reasons
    for name in names:
        say(f"drawing {name}")
        tables = [_renamed(member.run.table(FIGURES[name].table), member.called) for member in members]
        save(draw(name, tables), folder, name, formats)
        titles[name] = FIGURES[name].title
    return titles


@dataclass(frozen=True)
class _Named:
    """What `drawable` asks of a run, under the name it has here."""

    name: str
    parts: Mapping[str, Mapping[str, Any]]


def _renamed(table: Any, name: str) -> Any:
    """The same table under another name."""
    other = copy.copy(table)
    object.__setattr__(other, "name", name)  # some tables are frozen
    return other


def _slug(text: str, *, most: int = 60) -> str:
    """Text of unknown origin as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text.replace("→", "-")).strip("-.")[:most] or "x"


def _replace_record(folder: Path, done: Comparison, rules: AnchorRules) -> None:
    """Say what was written, and remove what an earlier comparison wrote and this one did not."""
    record = folder / RECORD
    try:
        earlier = json.loads(record.read_text(encoding="utf-8"))["files"] if record.is_file() else []
        stale = [name for name in earlier if name not in done.written]
    except (OSError, ValueError, KeyError, TypeError):
        stale = []  # whatever it is, it is not ours
    facts = {"files": done.written, "left_out": done.left_out, "changes": done.changes, "anchors": done.anchors}
    text = json.dumps(plain({**facts, "anchor_rules": asdict(rules)}), indent=1, allow_nan=False)
    write_text(record, text + "\n")
    for name in stale:
        if re.fullmatch(rf"({FIGURES_OF}/)?[A-Za-z0-9-][A-Za-z0-9.-]*\.(png|svg|csv|md)", str(name)):
            (folder / str(name)).unlink(missing_ok=True)
