"""Checkpoint: a model's folder as configuration, tokenizer and lazily read tensors. Runs nothing it finds there.

Only safetensors are read: a header of names, dtypes, shapes and offsets, then plain numbers. Configuration and
tokenizer are JSON. `trust_remote_code` is never given.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from neurolens import NeurolensError, UsageError, first_line

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json")
PAGE, PAGES = 4096, 64  # what the fingerprint samples of each file: equal weights in time that does not grow
PREFIX = "model."  # some checkpoints say `decoder.…`, some `model.decoder.…`


class Checkpoint:
    """A local folder with `config.json` and safetensors. Tensors are found by name, without the `model.` prefix."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise UsageError(f"no model folder {folder}; give a folder with config.json and {SINGLE}")
        self.config: dict[str, Any] = _read_json(self.folder / "config.json")
        self._file_of = self._list_tensors()

    def _list_tensors(self) -> dict[str, tuple[Path, str]]:
        if (self.folder / INDEX).is_file():
            shards = sorted(set(_read_json(self.folder / INDEX).get("weight_map", {}).values()))
        else:
            shards = [SINGLE]
        found: dict[str, tuple[Path, str]] = {}
        for shard in shards:
            path = self.folder / shard
            if Path(shard).name != shard:
                raise NeurolensError(f"{self.folder / INDEX} names {shard!r}; expected files of the same folder")
            if not path.is_file():
                raise NeurolensError(f"{self.folder} has no {shard}; give a folder with a safetensors checkpoint")
            with _open(path) as tensors:
                found.update({name.removeprefix(PREFIX): (path, name) for name in tensors.keys()})  # noqa: SIM118
        return found

    @property
    def files(self) -> list[Path]:
        """The files with tensors, sorted."""
        return sorted({path for path, _ in self._file_of.values()})

    def __contains__(self, name: str) -> bool:
        return name in self._file_of

    def tensors(self, names: list[str]) -> Iterator[tuple[str, Any]]:
        """(name, CPU tensor) for each name, file by file. Raises NeurolensError naming one that is missing."""
        for name in names:
            if name not in self._file_of:
                raise NeurolensError(f"{self.folder} lacks tensor {name!r}; the checkpoint is incomplete or not an OPT")
        for path in self.files:
            with _open(path) as tensors:
                for name in names:
                    home, stored = self._file_of[name]
                    if home == path:
                        yield name, tensors.get_tensor(stored)

    def fingerprint(self) -> str:
        """SHA-256 over config, file sizes, headers and evenly sampled pages: milliseconds at any size."""
        digest = hashlib.sha256(json.dumps(self.config, sort_keys=True).encode())
        for path in self.files:
            size = path.stat().st_size
            with path.open("rb") as file:
                header = int.from_bytes(file.read(8), "little")
                digest.update(f"{path.name} {size} ".encode() + file.read(header))
                for i in range(PAGES):
                    file.seek(min(size - 1, 8 + header) + i * max(0, size - header - PAGE) // PAGES)
                    digest.update(file.read(PAGE))
        return digest.hexdigest()

    def tokenizer_fingerprint(self) -> str:
        """SHA-256 over the tokenizer's files."""
        digest = hashlib.sha256()
        for name in TOKENIZER_FILES:
            if (self.folder / name).is_file():
                digest.update(name.encode() + (self.folder / name).read_bytes())
        return digest.hexdigest()

    def tokenizer(self) -> Any:
        """The HF tokenizer of the folder. Raises NeurolensError if there is none or it does not fit the model."""
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False, local_files_only=True)
        except Exception as error:
            raise NeurolensError(
                f"{self.folder} has no readable tokenizer ({first_line(error)}); add tokenizer.json"
            ) from error
        vocabulary, rows = len(tokenizer), int(self.config.get("vocab_size", 0))
        if vocabulary > rows:
            raise NeurolensError(
                f"the tokenizer of {self.folder} has {vocabulary} tokens, the model's vocabulary {rows}; "
                "they are not of one model"
            )
        bos = self.config.get("bos_token_id", 2)
        if tokenizer.eos_token_id != bos:
            raise NeurolensError(
                f"the tokenizer's end-of-text token has id {tokenizer.eos_token_id}, the model begins sequences with "
                f"{bos}; expected one token for both, as in OPT"
            )
        return tokenizer

    def encoder(self) -> Callable[[list[str]], list[list[int]]]:
        """Texts → token ids without special tokens; a literal `</s>` in a text is text."""
        tokenizer = self.tokenizer()

        def encode(texts: list[str]) -> list[list[int]]:
            return tokenizer(
                texts, add_special_tokens=False, split_special_tokens=True, return_attention_mask=False, verbose=False
            )["input_ids"]

        return encode


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as tensors:
            yield tensors
    except SafetensorError as error:
        raise NeurolensError(f"{path} is not a sound safetensors file ({first_line(error)}); fetch it again") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path.parent} has no {path.name}; give a folder with a HF checkpoint") from None
    except (OSError, ValueError, RecursionError) as error:
        raise NeurolensError(f"{path} is not readable JSON ({first_line(error)}); fetch it again") from error
    if not isinstance(value, dict):
        raise NeurolensError(f"{path} holds a JSON {type(value).__name__}, expected an object")
    return value
