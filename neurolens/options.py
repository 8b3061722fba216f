"""Options: what those of all commands have in common: types of values, `--json`, and defaults from the environment.

`NEUROLENS_COLLECT_DTYPE` is the default of `neurolens collect --dtype`, `NEUROLENS_DTYPE` that of every command with
`--dtype`; the first wins, and the command line before both. Paths and switches say what one command does, so that they
are read under the command's own name only. Commands need nothing for it: `Group` gives every option its names.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import click
from click.core import ParameterSource

from neurolens import UsageError
from neurolens.location import Url, here, locate
from neurolens.shards import Shard

W = TypeVar("W")
PREFIX = "NEUROLENS_"
SCALES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9}

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout instead of lines.")


def emit(value: Any) -> None:
    """Print one JSON object on stdout; see `plain`."""
    click.echo(json.dumps(plain(value), indent=1, allow_nan=False))


def plain(value: Any) -> Any:
    """`value` as JSON has it: arrays and their numbers become Python's, places text, NaN and infinities null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (Path, Url)):
        return str(value)
    if hasattr(value, "tolist"):  # numpy's, which is not loaded for this
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


# -- types of values -----------------------------------------------------------------------------------------------


class LocalPath(click.Path):
    """A file or folder on this machine."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(_located(here, self, value, param, ctx), param, ctx)


class RunPath(click.Path):
    """A run: a path, or the URL of one that is elsewhere, which would not be the same as a path."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = _located(locate, self, value, param, ctx)
        return found if isinstance(found, Url) else super().convert(found, param, ctx)


def _located(
    find: Callable[[Any], W], kind: click.Path, value: Any, param: click.Parameter | None, ctx: click.Context | None
) -> W:
    try:
        return find(value)
    except UsageError as error:
        kind.fail(str(error), param, ctx)


class TokenCount(click.ParamType):
    """A number of tokens: 300000, 300k, 5M."""

    name = "count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgb]?)", str(value).strip().lower())
        number = int(float(match[1]) * SCALES[match[2]]) if match else 0
        if number < 1:
            self.fail(f"{value!r} is no number of tokens; expected for example 300000, 300k or 5M", param, ctx)
        return number


class ByteSize(click.ParamType):
    """A size: 20GiB, 500MB, 1.5T."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kmgt]?)(i?)b?", str(value).strip().lower())
        size = float(match[1]) * (1024 if match[3] else 1000) ** "_kmgt".index(match[2] or "_") if match else 0
        if size < 1:
            self.fail(f"{value!r} is no size; expected for example 20GiB or 500MB", param, ctx)
        return int(size)


class LayerList(click.ParamType):
    """Layer numbers: 0,2-5."""

    name = "layers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        if isinstance(value, list):
            return value
        layers: set[int] = set()
        for part in str(value).split(","):
            match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part.strip())
            if not match or (match[2] and int(match[2]) < int(match[1])):
                self.fail(f"{part!r} is no layer or range of layers; expected for example 0,2-5", param, ctx)
            layers.update(range(int(match[1]), int(match[2] or match[1]) + 1))
        return sorted(layers)


class Parts(click.ParamType):
    """Parts of the analysis: dead,ngrams."""

    name = "parts"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        return value if isinstance(value, list) else [part.strip() for part in str(value).split(",")]


class NeuronName(click.ParamType):
    """A neuron: 3.1072, number 1072 of layer 3."""

    name = "layer.neuron"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d{1,4})\.(\d{1,9})", str(value).strip(), re.ASCII)
        if not match:
            self.fail(f"{value!r} is no neuron; expected LAYER.NEURON, for example 3.1072", param, ctx)
        return int(match[1]), int(match[2])


class ShardName(click.ParamType):
    """A shard: 2/4, the second of four."""

    name = "i/n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Shard:
        try:
            return value if isinstance(value, Shard) else Shard.parse(str(value))
        except UsageError as error:
            self.fail(str(error), param, ctx)


class Share(click.ParamType):
    """A label's share: wiki=2."""

    name = "label=share"
    envvar_list_splitter: ClassVar[str] = ";"  # a label may have spaces: Wikipedia (en)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        if isinstance(value, tuple):
            return value
        label, _, number = str(value).rpartition("=")
        if not label or not re.fullmatch(r"\d+(\.\d+)?", number) or float(number) <= 0:
            self.fail(f"{value!r} is no share; expected LABEL=NUMBER, for example wiki=2", param, ctx)
        return label, float(number)


class FactorValues(click.ParamType):
    """A factor's values, one for each run: step=0,250,500."""

    name = "factor=values"
    envvar_list_splitter: ClassVar[str] = ";"  # a value may have spaces

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, list[str]]:
        if isinstance(value, tuple):
            return value
        factor, _, values = str(value).partition("=")
        found = [each.strip() for each in values.split(",")]
        if not factor.strip() or not all(found):
            self.fail(f"{value!r} is no factor with its values; expected for example step=0,250,500", param, ctx)
        return factor.strip(), found


# -- the environment -----------------------------------------------------------------------------------------------


def variables(command: str, option: click.Option) -> list[str]:
    """Names of the variables that hold the option's default, the command's own first."""
    name = max(option.opts, key=len).lstrip("-").replace("-", "_").upper()
    own = f"{PREFIX}{command.replace('-', '_').upper()}_{name}"
    return [own] if option.is_flag or isinstance(option.type, click.Path) else [own, PREFIX + name]


def from_environment(ctx: click.Context, option: click.Parameter | None) -> str | None:
    """The variable that an option's value came from; None if it did not come from one."""
    if option is None or ctx.get_parameter_source(option.name or "") is not ParameterSource.ENVIRONMENT:
        return None
    return next((name for name in option.envvar or () if os.environ.get(name)), None)


class Command(click.Command):
    """A command that names the variable when a value from the environment is wrong."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        try:
            return super().make_context(*args, **kwargs)
        except click.BadParameter as error:
            if error.ctx is not None and (name := from_environment(error.ctx, error.param)):
                error.param_hint = f"{name} in the environment"
            raise

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UsageError as error:  # raised far from the options: all that came from the environment may be meant
            names = filter(None, (from_environment(ctx, option) for option in self.params))
            found = ", ".join(f"{name}={os.environ[name]}" for name in names)
            if not found:
                raise
            raise UsageError(f"{error} (from the environment: {found})") from error


class Group(click.Group):
    """Commands whose options have defaults in the environment; says which variables of ours nobody reads."""

    command_class = Command

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        super().add_command(cmd, name)
        options = [option for option in cmd.params if isinstance(option, click.Option)]
        for option in options:
            option.envvar = variables(name or cmd.name or "", option)
        if options:
            example = next((option for option in options if len(option.envvar or ()) > 1), options[-1])
            named = " or ".join(variables(name or cmd.name or "", example))
            cmd.epilog = f"Defaults may stand in the environment, as {named}; the command line goes first."

    def invoke(self, ctx: click.Context) -> Any:
        options = [option for command in self.commands.values() for option in command.params]
        known = {name for option in options for name in option.envvar or ()}
        for name in sorted(os.environ):
            if name.startswith(PREFIX) and name not in known:  # a slip would else be a default silently lost
                click.echo(f"neurolens: no option reads {ascii(name)[1:-1]} of the environment", err=True)
        return super().invoke(ctx)
