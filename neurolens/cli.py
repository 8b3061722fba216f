"""The command line: parse, call, print. The commands are those of `neurolens.commands`.

Exit codes: 0 done, 1 failed, 2 usage, 3 incomplete but resumable, 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from neurolens import NeurolensError, __version__
from neurolens.commands import LOCAL, derive, facts, record, say, show
from neurolens.options import Group, emit, json_option


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
    neurolens report RUN.zarr... -o report.html          one HTML file to look at all of it in
    neurolens compare RUN.zarr... -o comparison/         what runs differ in, neuron by neuron where they can
    neurolens neuron RUN.zarr 3.1072                     all about one neuron
    neurolens export RUN.zarr neurons.parquet            results as a table for other tools
    neurolens info RUN.zarr                              what a run holds
    neurolens verify RUN.zarr                            whether all of it is as it was written
    neurolens study JOB.toml                             many runs, and what they differ in

    Options have defaults in the environment: NEUROLENS_DEVICE=cuda for every command that has --device,
    NEUROLENS_COLLECT_DEVICE=cuda for collect alone.
    """


for each in (
    record.collect,
    record.merge,
    record.certify,
    record.verify,
    derive.analyze,
    derive.compare,
    derive.study,
    show.plot,
    show.report,
    show.neuron,
    show.export,
    show.info,
):
    cli.add_command(each)


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
        emit(facts(output / RUN))


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
