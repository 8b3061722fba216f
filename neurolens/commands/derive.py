"""derive: the commands that derive results from what runs have recorded: analyze, compare, study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from neurolens.commands import LOCAL, RUN, command, facts, model_option, say, tell
from neurolens.options import FactorValues, Parts, emit, json_option

if TYPE_CHECKING:
    from neurolens.location import Where


@command()
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
        emit(facts(run))


@command()
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


@command()
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
            tell(planned.lines())
        click.get_current_context().exit(planned.exit_code)
    found = run_study(asked, folder, scheduler=scheduler, say=say)
    if as_json:
        emit(vars(found))
    else:
        tell(found.lines())
    click.get_current_context().exit(found.exit_code)
