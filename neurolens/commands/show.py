"""show: the commands that show results: plot, report, neuron, export, info."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from neurolens import NeurolensError, UsageError
from neurolens.commands import LOCAL, RUN, command, facts, model_option, say
from neurolens.options import LayerList, NeuronName, emit, json_option

if TYPE_CHECKING:
    from neurolens.checkpoint import Checkpoint
    from neurolens.location import Where
    from neurolens.run import Run


@command()
@click.argument("runs", nargs=-1, type=RUN)
@click.option("-o", "--output", type=LOCAL, default=Path("figures"), show_default=True, help="Folder for the figures.")
@click.option("--figure", "names", multiple=True, help="One figure, by name; may be given several times.  [all]")
@click.option(
    "--format", "formats", multiple=True, type=click.Choice(["png", "svg"]), default=("png", "svg"), show_default=True
)
@click.option("--list", "listing", is_flag=True, help="Name the figures and stop.")
@json_option
def plot(
    runs: tuple[Where, ...],
    output: Path,
    names: tuple[str, ...],
    formats: tuple[str, ...],
    listing: bool,
    as_json: bool,
) -> None:
    """Draw the paper's figures for one or several analysed RUNS, a line or a panel each.

    Figures that a run is not analysed for are left out, which is said; one that was named with --figure is an error.
    """
    from neurolens.plots import FIGURES, draw, drawable, save

    if listing:
        listed = [{"name": name, "paper": figure.paper, "title": figure.title} for name, figure in FIGURES.items()]
        if as_json:
            emit({"figures": listed})
            return
        for figure in listed:
            click.echo("{name:20} {paper:8} {title}".format(**figure))
        return
    if not runs:
        raise click.UsageError("Missing argument 'RUNS...'; give one or several RUN.zarr.")
    from neurolens.run import open_run

    opened = [open_run(run) for run in runs]
    for run in opened:
        run.table("neurons")  # without this one no figure can be drawn
    drawn, left_out = drawable(opened, names)
    for name, reason in left_out.items():
        say(f"{name} is left out: {reason}")
    written: list[Path] = []
    for name in drawn:
        for path in save(draw(name, [run.table(FIGURES[name].table) for run in opened]), output, name, formats=formats):
            written.append(path)
            if not as_json:
                click.echo(path)
    if as_json:
        emit({"written": written, "left_out": left_out})


@command()
@click.argument("runs", nargs=-1, required=True, type=RUN)
@click.option("-o", "--output", type=LOCAL, default=Path("report.html"), show_default=True, help="The file, replaced.")
@json_option
def report(runs: tuple[Where, ...], output: Path, as_json: bool) -> None:
    """Write one HTML file to look at analysed RUNS in: figures, a table of neurons, a page for each neuron and token.

    It opens from the disk in any browser of 2024 or later, loads nothing from elsewhere, and can be mailed. Of a large
    model it shows the first neurons of every class, and says which these are.
    """
    from neurolens.report.page import write_report
    from neurolens.run import open_run

    written = write_report([open_run(run) for run in runs], output)
    if as_json:
        emit({"written": written, "bytes": written.stat().st_size})
    else:
        click.echo(written)


@command()
@click.argument("run", type=RUN)
@click.argument("neuron", type=NeuronName())
@click.option(
    "--contexts", type=click.IntRange(min=0), default=8, show_default=True, help="Most contexts to print, at random."
)
@click.option("--label", help="Contexts of this label only.  [all]")
@click.option(
    "--triggers", type=click.IntRange(min=0), default=8, show_default=True, help="Most n-grams of a length to print."
)
@model_option
@json_option
def neuron(
    run: Where,
    neuron: tuple[int, int],
    contexts: int,
    label: str | None,
    triggers: int,
    model: str | None,
    as_json: bool,
) -> None:
    """All about one NEURON of an analysed RUN: how often it fires, on what, what it is, what it promotes.

    NEURON is LAYER.NUMBER, 3.1072. What RUN does not hold of its effect on the vocabulary is computed from the
    model, if that is still where it was; nothing is fetched for it.
    """
    from neurolens.run import open_run

    opened = open_run(run)
    checkpoint = None if model is None else find_checkpoint(opened, model)  # one that is named must be the right one

    def projector() -> Any:
        from neurolens.projection import Unembedding
        from neurolens.vocabulary import Vocabulary

        found = checkpoint or find_checkpoint(opened)
        vocabulary = opened.vocabulary if len(opened.vocabulary) else Vocabulary.of(found)
        fold_norm = opened.parts.get("updates", {}).get("fold_norm", False)  # as the neurons it may be compared with
        return Unembedding(found, vocabulary.real, fold_norm=fold_norm)

    card = opened.neuron(*neuron, projector=projector)
    if as_json:
        emit(card.to_dict(contexts=contexts, label=label))
        return
    terminal = sys.stdout.isatty()
    width = min(120, max(72, shutil.get_terminal_size().columns)) if terminal else 100
    for line in card.lines(width=width, rows=triggers, contexts=contexts, label=label, paint=_paint):
        click.echo(line, color=False if os.environ.get("NO_COLOR") else None)


def _paint(role: str, text: str) -> str:
    colours: dict[str, dict[str, Any]] = {
        "head": {"bold": True}, "mark": {"bold": True, "fg": "yellow"}, "yes": {"fg": "green"}, "no": {"fg": "red"},
    }  # fmt: skip
    return click.style(text, **colours[role])


def find_checkpoint(run: Run, model: str | None = None) -> Checkpoint:
    """The checkpoint that a run was made with: at `model`, or where it was then, from the hub's cache at most."""
    from neurolens.checkpoint import Checkpoint
    from neurolens.hub import cached_folder

    known = run.store.attrs["model"]
    revision = known["revision"] if model in (None, known["id"]) else None  # of a name on the hub
    if model is None and revision is not None:
        folder = cached_folder(known["id"], revision)
        if folder is None:
            raise NeurolensError(f"the hub's cache has no {known['id']} any more; fetch it with --model {known['id']}")
        checkpoint = Checkpoint(folder)
    else:
        checkpoint = Checkpoint(model or known["id"], revision, say=say)
    if checkpoint.fingerprint() != run.store.attrs["checkpoint"]:
        raise UsageError(
            f"the model at {model or known['id']} is not the one the run was made with; give that one with --model"
        )
    return checkpoint


@command()
@click.argument("run", type=RUN)
@click.argument("file", type=LOCAL)
@click.option(
    "--table",
    type=click.Choice(["neurons", "triggers", "positions"]),
    default="neurons",
    show_default=True,
    help="A row a neuron, a trigger, or a positional neuron.",
)
@click.option("--layers", type=LayerList(), help="Layers to write, e.g. 0,2-5.  [all]")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@json_option
def export(run: Where, file: Path, table: str, layers: list[int] | None, force: bool, as_json: bool) -> None:
    """Write results of an analysed RUN to FILE, a .parquet or .csv file.

    Parquet keeps the columns' types, and the thresholds and versions in its metadata; csv is a header and rows.
    """
    from neurolens.run import open_run

    done = open_run(run).export(file, table=table, layers=layers, force=force)
    say(f"{file}: {done.rows:,} {table}, {len(done.columns)} columns")
    if as_json:
        emit(vars(done))
    else:
        click.echo(file)


@command()
@click.argument("run", type=RUN)
@json_option
def info(run: Where, as_json: bool) -> None:
    """What RUN holds: model, text, progress, size beside raw bits and entropy, and the headlines of its results."""
    found = facts(run)
    if as_json:
        emit(found)
        return
    from neurolens.info import describe

    for line in describe(found):
        click.echo(line)
