"""commands: what `neurolens` does, a function a command; here what they share. Data on stdout, what is said on stderr.

Nothing heavy is imported before a command runs: `--help` loads no torch, numpy or zarr.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from neurolens.options import Command, LocalPath, RunPath
from neurolens.progress import aside
from neurolens.terminal import pieces

if TYPE_CHECKING:
    from neurolens.location import Where

RUN, LOCAL = RunPath(), LocalPath()

command = partial(click.command, cls=Command)
model_option = click.option(
    "--model", help="Where the run's checkpoint is now: a folder, or a name on the hub.  [as the run says]"
)


def tell(lines: Iterable[str]) -> None:
    """What a command was asked for, a line each. It may name files and labels, which are anybody's."""
    for line in lines:
        click.echo("".join(pieces(line)))


def say(line: str) -> None:
    """A line for the user, beside the data. It may name files and labels, which are anybody's."""
    with aside():
        click.echo("".join(pieces(line)), err=True)


def facts(run: Where) -> dict[str, Any]:
    """What a run holds, as `neurolens info --json` prints it."""
    from neurolens.run import open_run

    return open_run(run).info()
