"""The command line: parse, call, print. Data on stdout, progress and warnings on stderr.

Exit codes: 0 done, 1 failed, 2 usage, 3 incomplete but resumable, 130 interrupted. Nothing heavy is imported here:
`--help` loads no torch, numpy or zarr.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from neurolens import NeurolensError, UsageError, __version__
from neurolens.options import (
    ByteSize,
    FactorValues,
    Group,
    LayerList,
    LocalPath,
    NeuronName,
    Parts,
    RunPath,
    ShardName,
    Share,
    TokenCount,
    emit,
    json_option,
)
from neurolens.progress import aside
from neurolens.terminal import pieces

if TYPE_CHECKING:
    from neurolens.checkpoint import Checkpoint
    from neurolens.location import Where
    from neurolens.run import Run
    from neurolens.shards import Shard

RUN, LOCAL = RunPath(), LocalPath()
# how collect and certify read DATA
text_key_option = click.option(
    "--text-key", default="text", show_default=True, help="Where a record has its text (dotted)."
)
seq_len_option = click.option(
    "--seq-len", type=click.IntRange(min=2), help="Tokens a sequence.  [the model's positions]"
)

model_option = click.option(
    "--model", help="Where the run's checkpoint is now: a folder, or a name on the hub.  [as the run says]"
)


def say(line: str) -> None:
    """A line for the user, beside the data. It may name files and labels, which are anybody's."""
    with aside():
        click.echo("".join(pieces(line)), err=True)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="neurolens")
def cli() -> None:
    """What do the neurons of a language model do? One bit a neuron and token, and everything that follows from it.

    \b
    neurolens demo                                       see it work, on an embedded model
    neurolens collect MODEL DATA... -o RUN.zarr          text through the model, bits into the store
    neurolens merge RUN.zarr... -o WHOLE.zarr            parts of a run, or runs of several texts, as one
    neurolens analyze RUN.zarr                           dead neurons, detectors, what they suppress
    neurolens certify MODEL --run RUN.zarr               bits that differ from plain HF in fp32
    neurolens plot RUN.zarr... -o figures/               the paper's figures
    neurolens compare RUN.zarr... -o comparison/         what runs differ in, neuron by neuron where they can
    neurolens neuron RUN.zarr 3.1072                     all about one neuron
    neurolens export RUN.zarr neurons.parquet            results as a table for other tools
    neurolens verify RUN.zarr                            whether all of it is as it was written
    neurolens study JOB.toml                             many runs, and what they differ in

    Options have defaults in the environment: NEUROLENS_DEVICE=cuda for every command that has --device,
    NEUROLENS_COLLECT_DEVICE=cuda for collect alone.
    """


@cli.command()
@click.argument("model")
@click.argument("data", nargs=-1, required=True)
@click.option("-o", "--output", required=True, type=RUN, help="The run to make, or to continue: RUN.zarr.")
@click.option("--tokens", type=TokenCount(), help="How much text, e.g. 5M, in equal shares of each label.  [all]")
@click.option("--share", "shares", multiple=True, type=Share(), help="A label's share of --tokens, e.g. wiki=2.  [1]")
@text_key_option
@click.option("--label-key", help="Where it has its label (dotted).  [meta.pile_set_name, else by file]")
@seq_len_option
@click.option("--layers", type=LayerList(), help="Layers to record, e.g. 0,2-5.  [all]")
@click.option("--revision", help="Branch, tag or commit of a MODEL on the hub.  [main]")
@click.option("--dtype", type=click.Choice(["fp32", "fp16", "bf16"]), help="[fp32 on a CPU, else as MODEL was saved]")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, mps.")
@click.option("--batch-tokens", type=TokenCount(), help="Tokens a forward pass.  [4096]")
@click.option("--block-tokens", type=TokenCount(), help="Tokens a block, the unit of commit.  [262144, or what fits]")
@click.option("--memory", type=ByteSize(), help="Memory that it may take, e.g. 20GiB.  [what is free, less a tenth]")
@click.option("--device-memory", type=ByteSize(), help="… of the GPU.  [what is free, less a tenth]")
@click.option(
    "--weights",
    type=click.Choice(["resident", "streamed"]),
    help="Keep the model in memory, or read each layer when it is due.  [what is faster and fits]",
)
@click.option(
    "--spool",
    metavar="DIR",
    help="Folder where hidden states wait between layers, or 'memory'.  [memory, or beside the run, as is faster]",
)
@click.option(
    "--keep-bitmaps",
    type=click.Choice(["all", "sparse", "none"]),
    help="Whose bits stay once counted: all, those active on at most 1%, none.  [all, if half the disk holds them]",
)
@click.option(
    "--shard", type=ShardName(), help="A part of the blocks only, e.g. 2/4; others may do theirs at once.  [all]"
)
@click.option("--dry-run", is_flag=True, help="Say what it would take, and stop.")
@json_option
def collect(
    model: str,
    data: tuple[str, ...],
    output: Where,
    tokens: int | None,
    shares: tuple[tuple[str, float], ...],
    text_key: str,
    label_key: str | None,
    seq_len: int | None,
    layers: list[int] | None,
    revision: str | None,
    dtype: str | None,
    device: str,
    batch_tokens: int | None,
    block_tokens: int | None,
    memory: int | None,
    device_memory: int | None,
    weights: str | None,
    spool: str | None,
    keep_bitmaps: str | None,
    shard: Shard | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Run text through MODEL and record which neurons are active on which token.

    MODEL is a folder with a HF checkpoint (OPT), or a name on the hub such as facebook/opt-125m. DATA is any
    number of files, folders, globs and hf:NAME[:CONFIG][:SPLIT] (a data set of the hub, streamed). Files are .jsonl, a
    document a line, .txt, each a document, plain or compressed (.gz .xz .bz2 .zst), or .parquet, a document a row.
    The same command again continues a run that was stopped; with --shard several processes or machines share one. A
    model of any size runs: what does not fit into memory
    is read, and waits, on the disk; how is planned, and said beforehand. It changes no bit.
    """
    from neurolens.collect import DataSpec, collect
    from neurolens.plan import Plan
    from neurolens.shards import WHOLE

    spec = DataSpec(data, text_key, label_key, tokens, dict(shares), seq_len)
    result = collect(
        model,
        spec,
        output,
        revision=revision,
        layers=layers,
        dtype=dtype,
        device=device,
        batch_tokens=batch_tokens,
        block_tokens=block_tokens,
        weights=weights,
        spool=spool,
        keep_bitmaps=keep_bitmaps,
        memory=memory,
        device_memory=device_memory,
        shard=shard or WHOLE,
        dry_run=dry_run,
        say=say,
    )
    if isinstance(result, Plan):
        if as_json:
            emit(result.facts())
        return
    if result.progress().all():
        say(f"{output}: collected; next: neurolens analyze {output}")
    if as_json:
        emit(_facts(output))


@cli.command()
@click.argument("runs", nargs=-1, required=True, type=RUN)
@click.option("-o", "--output", required=True, type=RUN, help="The run to make, or to continue: WHOLE.zarr.")
@json_option
def merge(runs: tuple[Where, ...], output: Where, as_json: bool) -> None:
    """Merge RUNS of one model into one: parts of one run, or runs of several texts, one text after another.

    Parts of a run give the run that was never divided, byte for byte. Several texts give the run of all of them; each
    must be complete. Bits are merged, and results are not taken over; where bits of a text were dropped, what was
    counted and adds is. RUNS are only read. The same command again continues a merge that was stopped.
    """
    from neurolens.merge import merge

    merge(runs, output, say=say)
    say(f"{output}: merged; next: neurolens analyze {output}")
    if as_json:
        emit(_facts(output))


@cli.command()
@click.argument("run", type=RUN)
@click.option(
    "--only", type=Parts(), help="Parts to do, with what they need: dead,ngrams,positions,contrast,updates.  [all]"
)
@click.option("--ngrams", "lengths", type=int, default=3, show_default=True, help="Longest n-gram to count, up to 5.")
@click.option("--max-covering", type=int, default=5, show_default=True, help="Most tokens a detector may need.")
@click.option(
    "--max-covering-ngrams", type=int, default=50, show_default=True, help="Most n-grams it may need, of 2 and more."
)
@click.option("--coverage", type=int, default=95, show_default=True, help="Percent of activations they account for.")
@click.option("--min-rate", type=int, default=95, show_default=True, help="Percent of occurrences it is active on.")
@click.option("--min-occurrences", type=int, default=1, show_default=True, help="Least occurrences of such a token.")
@click.option(
    "--min-position-mi",
    type=float,
    default=0.05,
    show_default=True,
    help="Corrected mutual information with the position, nats, above which a neuron is positional.",
)
@click.option(
    "--all", "every", is_flag=True, help="Promoted and suppressed tokens of every neuron.  [detectors, positional]"
)
@click.option("--fold-norm", is_flag=True, help="Fold the final LayerNorm's gain into what neurons promote.")
@model_option
@click.option("--device", default="cpu", show_default=True, help="What multiplies for updates: cpu, cuda, cuda:1, mps.")
@json_option
def analyze(
    run: Where,
    only: list[str] | None,
    lengths: int,
    min_position_mi: float,
    every: bool,
    fold_norm: bool,
    model: str | None,
    device: str,
    as_json: bool,
    **thresholds: int,
) -> None:
    """Derive dead neurons, detectors, positional neurons, contrasts and what neurons suppress from a complete RUN.

    The defaults are the paper's rules. Results are written into the run; analysing again does only what other
    thresholds change, and replaces it.
    """
    from neurolens.analyze import analyze_run
    from neurolens.curves import PositionRules
    from neurolens.detectors import Rules

    analyze_run(
        run,
        only=only,
        lengths=lengths,
        rules=Rules(**thresholds),
        positions=PositionRules(threshold=min_position_mi),
        every=every,
        fold_norm=fold_norm,
        model=model,
        device=device,
        say=say,
    )
    say(f"{run}: analysed; next: neurolens info {run}, neurolens plot {run}, neurolens export {run} FILE")
    if as_json:
        emit(_facts(run))


@cli.command()
@click.argument("model")
@click.argument("data", nargs=-1)
@click.option("--run", type=RUN, help="Certify what this RUN.zarr has recorded, and store the certificate in it.")
@click.option("--tokens", type=TokenCount(), help="On how much text, e.g. 100k.  [16384]")
@text_key_option
@click.option("--label-key", help="Where it has its label (dotted).  [as collect]")
@seq_len_option
@click.option("--revision", help="Branch, tag or commit of a MODEL on the hub.  [the run's; main]")
@click.option("--dtype", type=click.Choice(["fp32", "fp16", "bf16"]), help="What to certify.  [the run's; as collect]")
@click.option("--device", help="cpu, cuda, cuda:1, mps; with --run where the reference is computed.  [the run's; cpu]")
@click.option("--batch-tokens", type=TokenCount(), help="Tokens a forward pass.  [the run's; 4096]")
@json_option
def certify(
    model: str,
    data: tuple[str, ...],
    run: Where | None,
    tokens: int | None,
    text_key: str,
    label_key: str | None,
    seq_len: int | None,
    revision: str | None,
    dtype: str | None,
    device: str | None,
    batch_tokens: int | None,
    as_json: bool,
) -> None:
    """How many bits differ from those of plain Hugging Face in fp32, by layer, and how near to zero they were.

    With --run the bits that RUN.zarr has recorded are compared and the certificate is kept in it: info shows it.
    Without, DATA (as for collect, or one RUN.zarr, for its text) is read by MODEL in a --dtype, and nothing is kept.
    """
    from neurolens.certify import certify
    from neurolens.data import DataSpec

    if run is not None:
        if typed("text_key", "label_key", "seq_len"):
            raise UsageError("--run certifies a run's own text; leave --text-key, --label-key and --seq-len out")
        # the environment says how to record; this has been recorded
        dtype, device = dtype if typed("dtype") else None, device if typed("device") else None
        batch_tokens = batch_tokens if typed("batch_tokens") else None
    certificate = certify(
        model,
        DataSpec(data, text_key=text_key, label_key=label_key, seq_len=seq_len) if data else None,
        run=run,
        revision=revision,
        dtype=dtype,
        device=device,
        batch_tokens=batch_tokens,
        tokens=tokens,
        say=say,
    )
    if as_json:
        emit(certificate.to_dict())
    else:
        for line in certificate.lines():
            click.echo("".join(pieces(line)))
    if run is not None:
        say(f"{run}: certified; 'neurolens info {run}' shows it from now on")


@cli.command()
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


@cli.command()
@click.argument("runs", nargs=-1, required=True, type=RUN)
@click.option(
    "-o", "--output", type=LOCAL, default=Path("report.html"), show_default=True, help="The file, replaced."
)
@json_option
def report(runs: tuple[Where, ...], output: Path, as_json: bool) -> None:
    """Write one HTML file to look at analysed RUNS in: figures, a table of neurons, a page for each neuron and token.

    It opens from the disk in any browser, loads nothing from elsewhere, and can be mailed. Of a large model it shows
    the first neurons of every class, and says which these are.
    """
    from neurolens.report.page import write_report
    from neurolens.run import open_run

    written = write_report([open_run(run) for run in runs], output)
    if as_json:
        emit({"written": written, "bytes": written.stat().st_size})
    else:
        click.echo(written)


@cli.command()
@click.argument("runs", nargs=-1, required=True, type=RUN)
@click.option(
    "-o", "--output", type=LOCAL, default=Path("comparison"), show_default=True, help="Folder for what is written."
)
@click.option(
    "--factor",
    "factors",
    multiple=True,
    type=FactorValues(),
    help="A factor's values, one a run, e.g. step=0,250,500.  [study.json beside the runs; model, size]",
)
@click.option("--by", multiple=True, help="A factor to draw trends over.  [the first that varies]")
@json_option
def compare(
    runs: tuple[Where, ...],
    output: Path,
    factors: tuple[tuple[str, list[str]], ...],
    by: tuple[str, ...],
    as_json: bool,
) -> None:
    """Compare analysed RUNS: over models, checkpoints, variants, beside the paper, and neuron by neuron.

    Figures, tables and a page, report.md, are written into a folder. Neurons are compared where runs are one model
    before and after, on the same text: along the factors step, stage, algorithm and revision. What cannot be compared
    is said.
    """
    from neurolens.compare import compare_runs
    from neurolens.comparison.members import find_members, parse_value

    given = {name: [parse_value(value) for value in values] for name, values in factors}
    done = compare_runs(find_members(runs, given), output, by=by, say=say)
    for name, reason in done.left_out.items():
        say(f"{name} is left out: {reason}")
    if as_json:
        emit(done.to_dict())
    else:
        for name in done.written:
            click.echo(output / name)


@cli.command()
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


@cli.command()
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
    checkpoint = None if model is None else _checkpoint(opened, model)  # one that is named must be the right one

    def projector() -> Any:
        from neurolens.projection import Unembedding
        from neurolens.vocabulary import Vocabulary

        found = checkpoint or _checkpoint(opened)
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


@cli.command()
@click.argument("job", type=LOCAL)
@click.option("-o", "--output", type=LOCAL, help="Folder for the runs.  [the job's name, here]")
@click.option("--scheduler", help="Address of a dask scheduler whose workers do it.  [the job's cluster, or none]")
@click.option("--dry-run", is_flag=True, help="Say what each run would take, and stop.")
@json_option
def study(job: Path, output: Path | None, scheduler: str | None, dry_run: bool, as_json: bool) -> None:
    """Collect and analyze all runs of JOB, a TOML file, and compare them.

    What is done is left alone, what was stopped continues, and a run that fails is named at the end while the others
    go on (exit code 3). Text is tokenised once for all runs that read it alike.
    """
    from neurolens.jobs import read_job
    from neurolens.study import plan_study, run_study

    asked = read_job(job)
    folder = output or Path(asked.name)
    if dry_run:
        planned = plan_study(asked, folder, say)
        if as_json:
            emit({"runs": planned.facts()})
        else:
            for line in planned.lines():
                click.echo("".join(pieces(line)))
        click.get_current_context().exit(planned.exit_code)
    found = run_study(asked, folder, scheduler=scheduler, say=say)
    if as_json:
        emit(vars(found))
    else:
        for line in found.lines():
            click.echo("".join(pieces(line)))
    click.get_current_context().exit(found.exit_code)


@cli.command()
@click.argument("run", type=RUN)
@json_option
def info(run: Where, as_json: bool) -> None:
    """What RUN holds: model, text, progress, size beside raw bits and entropy, and the headlines of its results."""
    facts = _facts(run)
    if as_json:
        emit(facts)
        return
    from neurolens.info import describe

    for line in describe(facts):
        click.echo(line)


@cli.command()
@click.argument("run", type=RUN)
@click.option("--model", help="Where the run's checkpoint is now; nothing is fetched.  [as the run says]")
@click.option("--spool", metavar="DIR", help="The folder that collect was given for hidden states.  [beside the run]")
@click.option("--mend", is_flag=True, help="Take back the marks of what is damaged and can be made again.")
@json_option
def verify(run: Where, model: str | None, spool: str | None, mend: bool, as_json: bool) -> None:
    """Read all of RUN: checksums, marks, fingerprints, and whether what follows from something else does.

    What is damaged is named, with the command that mends it. Without --mend nothing is written. Exit codes: 0 sound,
    also if incomplete, 1 damaged, 3 mended but for commands that must make anew what was taken back.
    """
    from neurolens.verify import verify_run

    found = verify_run(run, model, mend, say, spool=spool)
    if as_json:
        emit(found.to_dict())
    else:
        for line in found.lines():
            click.echo("".join(pieces(line)))
    click.get_current_context().exit(found.exit_code)


@cli.command()
@click.option(
    "-o",
    "--output",
    type=LOCAL,
    default=Path("neurolens-demo"),
    show_default=True,
    help="Folder for the run and the figures.",
)
@json_option
def demo(output: Path, as_json: bool) -> None:
    """Collect, analyze, plot and report the embedded model on text that every Python installation has."""
    from neurolens.demo.demonstrate import RUN, demonstrate

    for line in demonstrate(output, say=say):
        click.echo(line, err=as_json)
    if as_json:
        emit(_facts(output / RUN))


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes neurolens' commands and options in SHELL.

    \b
    bash   eval "$(neurolens completion bash)"       in ~/.bashrc
    zsh    eval "$(neurolens completion zsh)"        in ~/.zshrc, after compinit
    fish   neurolens completion fish | source        in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None  # click has all three
    click.echo(kind(cli, {}, "neurolens", "_NEUROLENS_COMPLETE").source(), nl=False)


def _facts(run: Where) -> dict[str, Any]:
    from neurolens.run import open_run

    return open_run(run).info()


def _checkpoint(run: Run, model: str | None = None) -> Checkpoint:
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


def typed(*options: str) -> bool:
    """Whether one of these options stands on the command line, rather than in the environment or nowhere."""
    ctx = click.get_current_context()
    return any(ctx.get_parameter_source(option) is ParameterSource.COMMANDLINE for option in options)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Errors become one line on stderr."""
    try:
        code = cli.main(args=arguments, prog_name="neurolens", standalone_mode=False)
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except NeurolensError as error:
        say(f"neurolens: {error}")
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        say("neurolens: interrupted; the same command continues where it stopped")
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone; nothing is left to say
        return 1
    except OSError as error:
        say(f"neurolens: {error.strerror or error}: {error.filename or 'a file'}; check path and space")
        return 1
    return code if isinstance(code, int) else 0  # what a command has exited with; they return nothing


if __name__ == "__main__":
    main()
