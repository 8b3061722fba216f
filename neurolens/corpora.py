"""corpora: text that was read and tokenised once, kept in files for all runs of a study that read it alike."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from neurolens import NeurolensError, first_line
from neurolens.checkpoint import Checkpoint
from neurolens.corpus import Corpus
from neurolens.data import DataSpec, describe, read_corpus
from neurolens.durable import writing
from neurolens.sources import FileSource, Say, Source

ARRAYS = ("tokens", "label", "document_start", "document_source")
SAID = "said"  # in a file of a corpus: the rest of it, and its fingerprint


def share_corpus(
    folder: Path,
    spec: DataSpec,
    sources: list[Source],
    checkpoint: Checkpoint,
    positions: int,
    say: Say = lambda line: None,
) -> Corpus:
    """As `read_corpus`, but from a file in `folder` if text, tokenizer and lengths are those of an earlier call.

    Others that want the same at the same time wait for the first. A file that is damaged is made anew. Raises as
    `read_corpus`, and OSError where nothing can be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{_fingerprint(spec, sources, checkpoint, positions)}.npz"
    with path.with_suffix(".lock").open("a") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        if path.exists():
            try:
                return load_corpus(path)
            except NeurolensError as error:
                say(f"{error}; the text is read again")
        corpus = read_corpus(spec, sources, checkpoint, positions, say)
        save_corpus(path, corpus)
    return corpus


def save_corpus(path: Path, corpus: Corpus) -> None:
    """Write a corpus to a file, whole or not at all. Raises OSError."""
    said = {"label_names": corpus.label_names, "notes": corpus.notes, "eos": corpus.eos}
    said |= {"fingerprint": corpus.fingerprint()}
    arrays = {name: getattr(corpus, name) for name in ARRAYS}
    with writing(path) as file:
        np.savez(file, allow_pickle=False, **arrays, **{SAID: np.array(json.dumps(said))})


def load_corpus(path: Path) -> Corpus:
    """A corpus as it was saved. Raises NeurolensError if there is none, or it is damaged."""
    try:
        with zipfile.ZipFile(path) as file:  # which compares checksums
            arrays = {
                name: np.load(io.BytesIO(file.read(f"{name}.npy")), allow_pickle=False) for name in (*ARRAYS, SAID)
            }
        said: dict[str, Any] = json.loads(str(arrays[SAID]))
        tokens, label, start, source = (arrays[name] for name in ARRAYS)
        corpus = Corpus(tokens, label, tuple(said["label_names"]), start, source, said["notes"], said["eos"])
        if corpus.fingerprint() != said["fingerprint"]:
            raise NeurolensError("other text than was written")
        return corpus
    except Exception as error:  # those of zip files and of numpy are of many kinds
        raise NeurolensError(f"{path} is no sound corpus ({first_line(error)})") from error


def _fingerprint(spec: DataSpec, sources: list[Source], checkpoint: Checkpoint, positions: int) -> str:
    """Of all that decides a corpus: which text, how much of it, and what tokenises it."""
    files = [source.path.resolve() for source in sources if isinstance(source, FileSource)]
    asked = {
        "spec": describe(spec, sources),
        "files": [(str(path), path.stat().st_mtime_ns) for path in files],  # names and sizes are in the spec
        "tokenizer": checkpoint.tokenizer_fingerprint(),
        "positions": spec.seq_len or positions,
        "eos": checkpoint.config.get("bos_token_id", 2),
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:32]
