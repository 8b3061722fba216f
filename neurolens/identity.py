"""identity: what makes two commands one run, and what is checked before anything is written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from neurolens import NeurolensError, UsageError, __version__, brief
from neurolens.checkpoint import Checkpoint
from neurolens.corpus import Corpus
from neurolens.decoder import Shape
from neurolens.location import Where, beside
from neurolens.store import Store


def versions() -> dict[str, str]:
    """The versions that can decide a bit."""
    return {"neurolens": __version__, **{name: version(name) for name in ("torch", "transformers", "numpy")}}


def check_corpus(corpus: Corpus, checkpoint: Checkpoint, shape: Shape) -> None:
    """Raise unless the model can read the text: NeurolensError for its ids, UsageError for its length."""
    least, most = int(corpus.tokens.min()), int(corpus.tokens.max())
    if least < 0 or most >= int(checkpoint.config["vocab_size"]):
        raise NeurolensError(
            f"the corpus has token ids {least}…{most}, the model's vocabulary ends at "
            f"{checkpoint.config['vocab_size'] - 1}; tokenise with the model's own tokenizer"
        )
    if corpus.shape[1] > shape.positions:
        raise UsageError(f"sequences of {corpus.shape[1]} tokens exceed the model's {shape.positions} positions")


def check_output(output: Where) -> None:
    """Raise UsageError for a place that cannot be written, NeurolensError for a disk that is full."""
    if not isinstance(output, Path):
        if not os.access(beside(output).parent, os.W_OK):
            raise UsageError(f"cannot write into {Path.cwd()}, where the log of {output} is; change to another folder")
        return
    if not output.parent.is_dir():
        raise UsageError(f"no folder {output.parent}; make it, or give another --output")
    if not os.access(output.parent, os.W_OK):
        raise UsageError(f"cannot write into {output.parent}; give another --output")
    if shutil.disk_usage(output.parent).free < 1 << 20:
        raise NeurolensError(f"no space left in {output.parent}; make room or give another --output")


def check_same(store: Store, asked: Mapping[str, Any]) -> None:
    """Raise UsageError, with the first difference, unless a command means the run that is there."""
    if store.by_counts:
        raise UsageError(
            f"{store.path} was merged of counts of its texts, which 'neurolens merge' makes; give another --output"
        )
    for key, value in asked.items():
        found = store.attrs.get(key)
        if found != value:
            raise UsageError(
                f"{store.path} is another run: its {key} is {brief(found)}, this command's {brief(value)}; "
                "give another --output, or the command it was made with"
            )


def continue_as(store: Store, say: Callable[[str], object]) -> None:
    """Take the run's thread count; refuse other library versions: both decide bits near zero."""
    threads = int(store.attrs["threads"])
    if threads != torch.get_num_threads():
        say(f"continuing with {threads} threads, as the run began")
        torch.set_num_threads(threads)
    for name, found in versions().items():
        before = store.attrs["versions"].get(name)
        if name != "neurolens" and before != found:
            raise UsageError(
                f"{store.path} was begun with {name} {before}, this is {found}; install {name}=={before} to continue "
                "it, or give another --output"
            )
    marks = store.progress()
    say(f"continuing {store.path}: {int(marks.sum())} of {marks.size} blocks of layers are there")
