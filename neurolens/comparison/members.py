"""members: runs on the disk → members of a comparison, with the factors that a study, the user and the model give."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neurolens import NeurolensError, UsageError, first_line
from neurolens.comparison.factors import Member, Value, name_members
from neurolens.comparison.sizes import size_of
from neurolens.location import Url, Where, locate
from neurolens.run import open_run

STUDY = "study.json"  # beside the runs of a study: what each one's factors are


def find_members(paths: Sequence[str | Where], given: Mapping[str, Sequence[Value]] | None = None) -> list[Member]:
    """Open runs and give each its factors and a name.

    Of a run that `study.json` in its folder names, the factors there; over them those `given`, a value for each run in
    the order of the paths; and `model` and `size` by the model's configuration where nobody says them. Raises
    UsageError for one run twice or another number of values than runs, NeurolensError for what is no run or no
    readable study.
    """
    given = given or {}
    for factor, values in given.items():
        if len(values) != len(paths):
            raise UsageError(
                f"factor {factor} has {len(values)} values for {len(paths)} runs; give one for each run, in their order"
            )
    places = [locate(path).resolve() for path in paths]
    if twice := next((path for path, place in zip(paths, places, strict=True) if places.count(place) > 1), None):
        raise UsageError(f"{twice} is given twice; give each run once")
    members = []
    for i, path in enumerate(paths):
        run = open_run(path)
        factors = {**read_factors(locate(path)), **{name: values[i] for name, values in given.items()}}
        members.append(Member(run, {**factors, **_of_model(run, factors)}))
    return name_members(members)


def read_factors(path: Where) -> dict[str, Value]:
    """What `study.json` beside a run says of it, `{"runs": {"NAME.zarr": {"factors": {…}}}}`; empty if it, or the
    file, says nothing, and of a run that is elsewhere. Raises NeurolensError for a file of another form."""
    if isinstance(path, Url):
        return {}
    file = Path(path).absolute().parent / STUDY
    if not file.is_file():
        return {}
    try:
        runs = json.loads(file.read_text(encoding="utf-8"))["runs"]
        found = runs.get(Path(path).name, {}).get("factors", {})
        return {str(name): _checked(name, value) for name, value in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise NeurolensError(
            f"{file} is no readable study ({first_line(error)}); expected "
            '{"runs": {"NAME.zarr": {"factors": {"step": 500}}}}'
        ) from error


def parse_value(text: str) -> Value:
    """A value as it stands on a command line: a number if it is one, else text.

    >>> parse_value("500"), parse_value("1e-3"), parse_value("1.3b"), parse_value(" dpo")
    (500, 0.001, '1.3b', 'dpo')
    """
    text = text.strip()
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        if math.isfinite(number) and "_" not in text:
            return number
    return text


def _checked(name: object, value: Any) -> Value:
    """A factor's value. Raises ValueError for what cannot be one."""
    if not isinstance(value, (str, int, float)) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"factor {name!r} is {value!r:.40}, expected text, a number, true or false")
    return value


def _of_model(run: Any, known: Mapping[str, Value]) -> dict[str, Value]:
    """`size` and `model` by the configuration, where they are not known."""
    config = run.store.attrs["model"]["config"]
    size = size_of(config)
    of_model = {"model": f"{config.get('model_type') or 'model'}-{size}", "size": size}
    return {name: value for name, value in of_model.items() if name not in known}
