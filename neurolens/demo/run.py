"""run: the embedded model's run of a small text, for notebooks and first steps: made, continued or opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from neurolens.analyze import analyze_run
from neurolens.checkpoint import Checkpoint
from neurolens.collect import collect
from neurolens.data import DataSpec, describe
from neurolens.demo import MODEL
from neurolens.location import Where, locate
from neurolens.parts import PARTS
from neurolens.run import Run, open_run
from neurolens.sources import DEMO, find_sources
from neurolens.store import Store

TOKENS = 49_152  # 64 sequences of each kind of text: half a minute on two cores


def open_demo(path: str | Where, *, tokens: int = TOKENS, say: Callable[[str], object] = lambda line: None) -> Run:
    """The run at `path` of the embedded model on `tokens` tokens of text that every Python has, analysed.

    Made if it is not there, with the folder it is in; continued if it was stopped; else opened as it is. Code, prose
    and math in equal shares, none of which the model has seen; all bits are kept. `say` receives what collect and
    analyze say, a line at a time. Raises UsageError, with the difference, if another run is there.
    """
    where, spec = locate(path), DataSpec((DEMO,), tokens=tokens)
    if Store.is_at(where):
        run = open_run(where)
        meant = {"corpus": describe(spec, find_sources(spec.paths)), "checkpoint": Checkpoint(MODEL).fingerprint()}
        if set(PARTS) <= run.parts.keys() and all(run.store.attrs.get(name) == value for name, value in meant.items()):
            return run
    elif isinstance(where, Path):
        where.parent.mkdir(parents=True, exist_ok=True)
    collect(MODEL, spec, where, keep_bitmaps="all", say=say)
    analyze_run(where, say=say)
    return open_run(where)
