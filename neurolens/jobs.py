"""jobs: a study in a TOML file → its runs, each with all that collect and analyze are told of it, and its factors.

    [study]
    factors = ["optimizer"]       # beside FACTORS, what else may tell runs apart
    [defaults]                    # of all runs
    data = ["hf:allenai/c4:en"]
    tokens = "5M"
    [[run]]
    model = "facebook/opt-125m"
    size = "125m"

Keys are those of the command line's options, `batch_tokens` for `--batch-tokens`; those of analyze stand in a table
`analyze`. Paths are meant from the folder of the file. A key that is none is an error: a slip would be a default lost.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from neurolens import UsageError
from neurolens.options import SCALES, ByteSize, LayerList, Parts, TokenCount
from neurolens.sources import DEMO, HUB

Factor = str | int | float | bool
FACTORS = ("size", "step", "stage", "algorithm", "corpus", "variant", "seed")  # what runs of a study usually differ in
MEANS = ("memory", "device_memory", "weights", "spool")  # how a run is done, which changes nothing in it
NAME = re.compile(r"[\w][\w.+=-]*")


@dataclass(frozen=True)
class RunSpec:
    """One run of a study.

    text, collect, analyze   keywords of DataSpec, collect and analyze_run
    shards, threads          in how many parts it is collected; threads of torch, None for as many as there are
    """

    name: str
    model: str
    text: dict[str, Any]
    collect: dict[str, Any] = field(default_factory=dict)
    analyze: dict[str, Any] = field(default_factory=dict)
    factors: dict[str, Factor] = field(default_factory=dict)
    shards: int = 1
    threads: int | None = None

    @property
    def output(self) -> str:
        """Name of the run in the study's folder."""
        return f"{self.name}.zarr"

    def work(self) -> float | None:
        """How long it takes, in tokens times parameters; None if the job does not say how many of both."""
        size = re.fullmatch(r"(\d+(?:\.\d+)?)([kmb])", str(self.factors.get("size", "")).lower())
        if size is None or "tokens" not in self.text:
            return None
        return self.text["tokens"] * float(size[1]) * SCALES[size[2]] or None

    def digest(self) -> str:
        """Tells it from what the same run was asked for before: SHA-256 of all that decides its bits and results."""
        asked = {name: value for name, value in asdict(self).items() if name not in ("name", "factors", "shards")}
        asked["collect"] = {name: value for name, value in self.collect.items() if name not in MEANS}
        return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True)
class Job:
    """A study: its runs, and `cluster`, on what machines they are done; empty for this one."""

    name: str
    runs: tuple[RunSpec, ...]
    cluster: dict[str, Any] = field(default_factory=dict)


def read_job(path: str | Path) -> Job:
    """The job in a file. Raises UsageError, with the file and the run, for what is wrong in it."""
    path = Path(path)
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; give a JOB.toml") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is no TOML: {error}") from error
    try:
        _known(found, ("study", "defaults", "run", "cluster"), "the job")
        study, defaults, cluster = (_table(found, name) for name in ("study", "defaults", "cluster"))
        _known(study, ("factors",), "[study]")
        factors = (*FACTORS, *_names(study.get("factors", [])))
        if clash := sorted(set(factors) & set(KEYS)):
            raise UsageError(f"[study] factors: {clash[0]!r} is an option; give the factor another name")
        _known(defaults, (*KEYS, *factors), "[defaults]")
        tables = found.get("run", [])
        if not isinstance(tables, list) or not tables or not all(isinstance(each, dict) for each in tables):
            raise UsageError("no [[run]]; give at least one")
        runs = [_run(defaults, each, factors, f"[[run]] {i}", path.parent) for i, each in enumerate(tables, 1)]
        seen: dict[str, int] = {}
        for i, run in enumerate(runs, 1):
            if (other := seen.setdefault(run.name.casefold(), i)) != i:
                raise UsageError(f"[[run]] {other} and {i} have one output, {run.output}; give one of them a name")
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    return Job(path.stem, tuple(runs), cluster)


def _run(defaults: Mapping[str, Any], own: Mapping[str, Any], factors: Iterable[str], where: str, at: Path) -> RunSpec:
    _known(own, (*KEYS, *factors), where)
    merged = {**defaults, **own}
    merged["analyze"] = {**_table(defaults, "analyze"), **_table(own, "analyze")}
    _known(merged["analyze"], ANALYZE, f"{where} analyze")
    for key in ("model", "data"):
        if key not in merged:
            raise UsageError(f"{where} has no {key}; give one, there or in [defaults]")
    values: dict[str, Any] = {}
    for key, value in merged.items():
        if key in KEYS:
            values[key] = _converted(KEYS[key], value, f"{where} {key}")
        elif not isinstance(value, Factor):
            raise UsageError(f"{where} {key}: {value!r} is no factor; expected text, a number, true or false")
    model = values["model"]
    if (folder := at / model).is_dir():  # else a name on the hub
        model = str(folder.resolve())
    name = values.get("name") or "-".join(filter(None, (Path(model).name, values.get("revision"))))
    if not NAME.fullmatch(name):
        raise UsageError(f"{where}: {name!r} is no name of a run; give a name of letters, digits and . _ + = -")
    if (spool := values.get("spool", "memory")) != "memory":
        values["spool"] = str((at / spool).absolute())
    asked = {key: _converted(ANALYZE[key], value, f"{where} {key}") for key, value in merged["analyze"].items()}
    text = {key: values[key] for key in TEXT if key in values}
    text["paths"] = tuple(_located(each, at) for each in values["data"])
    if "share" in values:
        text["shares"] = values["share"]
    return RunSpec(
        name,
        model,
        text,
        {key: values[key] for key in COLLECT if key in values},
        asked,
        {key: merged[key] for key in factors if key in merged},
        values.get("shards", 1),
        values.get("threads"),
    )


def _located(name: str, at: Path) -> str:
    return name if name.startswith((HUB, DEMO)) else str((at / name).absolute())


# -- keys and their values -----------------------------------------------------------------------------------------


def _typed(kind: type, least: float | None = None) -> Callable[[Any], Any]:
    what = {str: "text", int: "a whole number", bool: "true or false", float: "a number"}[kind]

    def convert(value: Any) -> Any:
        given = (int, float) if kind is float else kind
        if not isinstance(value, given) or (kind is not bool and isinstance(value, bool)):
            raise UsageError(f"{value!r} is not {what}")
        if least is not None and value < least:
            raise UsageError(f"{value!r} is less than {least}")
        return kind(value)

    return convert


def _option(kind: click.ParamType) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        if isinstance(value, bool):
            raise UsageError(f"{value!r} is no {kind.name}")
        return kind.convert(",".join(map(str, value)) if isinstance(value, list) else value, None, None)

    return convert


def _texts(value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(each, str) and each for each in texts):
        raise UsageError(f"{value!r} is neither text nor a list of texts")
    return texts


def _shares(value: Any) -> dict[str, float]:
    if not isinstance(value, dict):
        raise UsageError(f"{value!r} is no table; expected for example {{ wiki = 2 }}")
    return {label: _typed(float, 0)(share) for label, share in value.items()}


def _choice(*names: str) -> Callable[[Any], Any]:
    return _option(click.Choice(names))


TEXT: dict[str, Callable[[Any], Any]] = {
    "text_key": _typed(str),
    "label_key": _typed(str),
    "tokens": _option(TokenCount()),
    "seq_len": _typed(int, 2),
}
COLLECT: dict[str, Callable[[Any], Any]] = {
    "revision": _typed(str),
    "layers": _option(LayerList()),
    "dtype": _choice("fp32", "fp16", "bf16"),
    "device": _typed(str),
    "batch_tokens": _option(TokenCount()),
    "block_tokens": _option(TokenCount()),
    "memory": _option(ByteSize()),
    "device_memory": _option(ByteSize()),
    "weights": _choice("resident", "streamed"),
    "spool": _typed(str),
    "keep_bitmaps": _choice("all", "sparse", "none"),
}
ANALYZE: dict[str, Callable[[Any], Any]] = {
    "only": _option(Parts()),
    "ngrams": _typed(int, 1),
    "max_covering": _typed(int),
    "max_covering_ngrams": _typed(int),
    "coverage": _typed(int),
    "min_rate": _typed(int),
    "min_occurrences": _typed(int),
    "min_position_mi": _typed(float),
    "all": _typed(bool),
    "fold_norm": _typed(bool),
}
KEYS: dict[str, Callable[[Any], Any]] = {
    **{"model": _typed(str), "data": _texts, "share": _shares, "name": _typed(str)},
    **{"shards": _typed(int, 1), "threads": _typed(int, 1), "analyze": lambda value: value},
    **TEXT,
    **COLLECT,
}


def _converted(convert: Callable[[Any], Any], value: Any, where: str) -> Any:
    try:
        return convert(value)
    except (UsageError, click.BadParameter) as error:
        raise UsageError(f"{where}: {error.message if isinstance(error, click.BadParameter) else error}") from error


def _known(table: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    for key in table:
        if key not in (names := list(known)):
            near = get_close_matches(key, names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected {', '.join(names)}"
            raise UsageError(f"{where} has an unknown key {key!r}; {hint}")


def _table(found: Mapping[str, Any], name: str) -> dict[str, Any]:
    table = found.get(name, {})
    if not isinstance(table, dict):
        raise UsageError(f"{name} is no table; expected [{name}]")
    return table


def _names(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) and NAME.fullmatch(each) for each in value):
        raise UsageError(f"[study] factors: {value!r} is no list of names")
    return value
