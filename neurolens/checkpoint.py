"""Checkpoint: a model's folder as configuration, tokenizer and lazily read tensors. Runs nothing it finds there.

Configuration and tokenizer are JSON, weights are read as tensors and nothing else (weights.py). `trust_remote_code`
is never given.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from neurolens import NeurolensError, first_line
from neurolens.hub import TOKENIZER_FILES, find_folder
from neurolens.weights import check_floating, is_mapped, list_files, list_tensors, open_tensors, read_json, sample


class Checkpoint:
    """A folder with `config.json` and weights. Tensors are found by name, without the `model.` prefix.

    `model` is a local folder or a name on the hub (`facebook/opt-6.7b`), which is fetched first, or taken from the
    hub's cache; `revision` is a branch, tag or commit there. `commit` is the commit it was, None for a local folder.
    """

    def __init__(
        self, model: str | Path, revision: str | None = None, *, say: Callable[[str], object] = lambda line: None
    ) -> None:
        self.folder, self.commit = find_folder(model, revision, say=say)
        self.config: dict[str, Any] = read_json(self.folder / "config.json")
        self.files = list_files(self.folder)  # sorted
        self._file_of = list_tensors(self.files)
        self.bytes_read = 0  # of tensors handed out, as stored

    def __contains__(self, name: str) -> bool:
        return name in self._file_of

    def tensors(self, names: list[str]) -> Iterator[tuple[str, Any]]:
        """As `mapped`, for numbers that are going to be read: `bytes_read` counts them, as they are stored."""
        for name, tensor in self.mapped(names):
            self.bytes_read += tensor.numel() * tensor.element_size()
            yield name, tensor

    def mapped(self, names: list[str]) -> Iterator[tuple[str, Any]]:
        """(name, CPU tensor) for each name, file by file. Raises NeurolensError naming one that is missing, cannot be
        read or is no plain floating-point tensor."""
        wanted: dict[Path, list[tuple[str, str]]] = {}
        for name in names:
            if name not in self._file_of:
                held = ", ".join(repr(other)[:60] for other in sorted(self._file_of)[:3]) or "none"
                raise NeurolensError(
                    f"{self.folder} lacks tensor {name!r} (it has: {held}, …); it is incomplete or not an OPT"
                )
            home, stored = self._file_of[name]
            wanted.setdefault(home, []).append((name, stored))
        for path in sorted(wanted):  # files without any of them stay closed: a layer has one or two
            with open_tensors(path) as tensors:
                for name, stored in wanted[path]:
                    try:
                        tensor = tensors.get_tensor(stored)
                    except Exception as error:  # the file is another one than when its names were listed
                        raise NeurolensError(
                            f"{path}: tensor {name!r} cannot be read ({first_line(error)}); fetch it again"
                        ) from error
                    check_floating(tensor, name, self.folder)
                    yield name, tensor

    def unmapped_bytes(self) -> int:
        """Bytes of the largest file that has to be in memory as a whole while any of it is read: a legacy `.bin`."""
        return max((path.stat().st_size for path in self.files if not is_mapped(path)), default=0)

    def fingerprint(self) -> str:
        """SHA-256 over config, file sizes, headers and evenly sampled pages: milliseconds at any size."""
        digest = hashlib.sha256(json.dumps(self.config, sort_keys=True).encode())
        for path in self.files:
            for part in sample(path):
                digest.update(part)
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
