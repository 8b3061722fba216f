"""neurolens: one bit per FFN neuron and token — dead neurons, detectors and positional neurons of OPT models.

    import neurolens as nl
    run = nl.open("opt-125m.zarr")
    run.neurons.to_pandas()

Names below are resolved on first use (PEP 562), so that `import neurolens` loads neither torch nor numpy. No name is
that of a module: importing `neurolens.collect` would replace it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "open": "neurolens.run",
    "open_demo": "neurolens.demo.run",
    "Run": "neurolens.run",
    "Corpus": "neurolens.corpus",
    "Counts": "neurolens.counts",
    "Variable": "neurolens.variables",
    "Decoder": "neurolens.decoder",
}
_RENAMED = {"open": "open_run"}

__all__ = [
    "Corpus",
    "Counts",
    "Decoder",
    "InUseError",
    "IncompleteError",
    "NeurolensError",
    "Run",
    "UsageError",
    "Variable",
    "__version__",
    "open",
    "open_demo",
]


class NeurolensError(Exception):
    """What was found, what was expected and what to do, in one line. The command line exits with `exit_code`."""

    exit_code = 1


class UsageError(NeurolensError):
    """The request itself cannot be meant: an unknown name, a value out of range."""

    exit_code = 2


class IncompleteError(NeurolensError):
    """The run stopped before its end; the same command continues it."""

    exit_code = 3


class InUseError(NeurolensError):
    """Another process holds the run; it can be waited for."""


def first_line(error: BaseException) -> str:
    """The first line of an error's text, at most 200 characters, for use inside a one-line message; else its type."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def brief(value: object) -> str:
    """A value inside a one-line message: all of it up to 40 characters, else how it begins."""
    text = str(value)
    return text if len(text) <= 40 else text[:12] + "…"


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'neurolens' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), _RENAMED.get(name, name))


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from neurolens.corpus import Corpus
    from neurolens.counts import Counts
    from neurolens.decoder import Decoder
    from neurolens.demo.run import open_demo
    from neurolens.run import Run
    from neurolens.run import open_run as open
    from neurolens.variables import Variable
