"""weights: the files of a checkpoint that hold tensors, safetensors or `.bin`, read by name. Runs nothing in them.

Safetensors are a header of names, dtypes, shapes and offsets, then plain numbers. A `.bin` is a pickle, which may
hold any program: only torch's reader that knows tensors and nothing else (`weights_only`) is let near it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from neurolens import NeurolensError, UsageError, first_line

# in the order in which transformers looks for them, so that both read the same numbers where several are there
SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
BIN = ("pytorch_model.bin", "pytorch_model.bin.index.json")
PREFIX = "model."  # some checkpoints say `decoder.…`, some `model.decoder.…`
PAGE, PAGES = 4096, 64  # what `sample` takes of each file: equal weights in time that does not grow
TAIL = 1 << 16  # where a zip, as a `.bin` is, lists its parts with their checksums
_FLOATS = ("torch.float32", "torch.float16", "torch.bfloat16", "torch.float64")


class TensorFile(Protocol):
    """An open file of tensors."""

    def keys(self) -> Any:
        """The names in it."""

    def get_tensor(self, name: str) -> Any:
        """The CPU tensor of that name."""


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises UsageError if there is no file, NeurolensError if it holds another thing."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path.parent} has no {path.name}; give a folder with a HF checkpoint") from None
    except (OSError, ValueError, RecursionError) as error:
        raise NeurolensError(f"{path} is not readable JSON ({first_line(error)}); fetch it again") from error
    if not isinstance(value, dict):
        raise NeurolensError(f"{path} holds a JSON {type(value).__name__}, expected an object")
    return value


def list_files(folder: Path) -> list[Path]:
    """The files with tensors of a checkpoint's folder: one, or the shards an index names, sorted.

    Raises NeurolensError if the folder has no weights, or an index that is unusable or names a file that is missing
    or elsewhere.
    """
    for name in SAFETENSORS + BIN:
        path = folder / name
        if path.is_file():
            return _shards(path) if name.endswith(".json") else [path]
    raise NeurolensError(f"{folder} has no weights; expected one of {', '.join(SAFETENSORS + BIN)}")


def list_tensors(files: list[Path]) -> dict[str, tuple[Path, str]]:
    """Name without the prefix `model.` → (file, name in it), of all tensors of the files."""
    found: dict[str, tuple[Path, str]] = {}
    for path in files:
        with open_tensors(path) as tensors:
            found.update({str(name).removeprefix(PREFIX): (path, name) for name in tensors.keys()})  # noqa: SIM118
    return found


@contextmanager
def open_tensors(path: Path) -> Iterator[TensorFile]:
    """Open a file of tensors; what is read of it is mapped into memory, not copied, but for legacy `.bin`.

    Raises NeurolensError for a file that is torn, of another format, or holds anything but tensors.
    """
    if path.suffix == ".bin":
        yield _Bin(path, _load_bin(path))
        return
    from safetensors import SafetensorError, safe_open

    try:
        with _mapped(path, safe_open) as tensors:
            yield tensors
    except (SafetensorError, OSError) as error:
        raise NeurolensError(f"{path} is not a sound safetensors file ({first_line(error)}); fetch it again") from error


def _mapped(path: Path, safe_open: Any) -> Any:
    try:
        return safe_open(path, framework="pt", device="cpu")
    except (RuntimeError, MemoryError) as error:  # the system maps no file that is larger than its memory
        raise NeurolensError(
            f"{path} cannot be mapped ({first_line(error)}): it may be larger than this machine's memory; give a "
            "checkpoint in shards (save_pretrained with max_shard_size)"
        ) from error


def is_mapped(path: Path) -> bool:
    """Whether tensors of a file are read through a mapping; not those of a `.bin` of torch before 1.6, which is no zip.

    Raises OSError if it cannot be opened.
    """
    if path.suffix != ".bin":
        return True
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def check_floating(tensor: Any, name: str, where: object) -> None:
    """Raise NeurolensError unless a tensor holds plain floating-point numbers: quantised ones mean other things."""
    if str(tensor.dtype) not in _FLOATS or str(tensor.layout) != "torch.strided":
        kind = str(tensor.dtype).removeprefix("torch.")
        raise NeurolensError(
            f"{where}: tensor {name!r} is stored as {kind}; expected fp32, fp16 or bf16; give a checkpoint that is "
            "not quantised"
        )


def sample(path: Path) -> Iterator[bytes]:
    """What identifies a file of tensors without reading it all: size, header or table of parts, evenly spaced pages."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if path.suffix == ".bin":
            header = 0
            file.seek(max(0, size - TAIL))
            first = file.read(TAIL)
        else:
            header = int.from_bytes(file.read(8), "little")
            first = file.read(header)
        yield f"{path.name} {size} ".encode() + first
        for i in range(PAGES):
            file.seek(min(size - 1, 8 + header) + i * max(0, size - header - PAGE) // PAGES)
            yield file.read(PAGE)


def _shards(index: Path) -> list[Path]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise NeurolensError(f"{index} has no usable weight_map; expected names of tensors with their files")
    for name in (shards := sorted(set(names.values()))):
        if Path(name).name != name or Path(name).suffix not in (".safetensors", ".bin"):
            raise NeurolensError(f"{index} names {name!r}; expected .safetensors or .bin files of the same folder")
        if not (index.parent / name).is_file():
            raise NeurolensError(f"{index.parent} has no {name}, which {index.name} names; fetch it again")
    return [index.parent / name for name in shards]


class _Bin:
    def __init__(self, path: Path, values: dict[str, Any]) -> None:
        self._path, self._values = path, values

    def keys(self) -> Any:
        return self._values.keys()

    def get_tensor(self, name: str) -> Any:
        return self._values[name]


def _load_bin(path: Path) -> dict[str, Any]:
    import torch

    try:
        values = torch.load(path, map_location="cpu", weights_only=True, mmap=is_mapped(path))
    except Exception as error:  # whatever a torn or hostile file leads torch to
        if found := re.search(r"GLOBAL ([\w.]+)|unrecognized function ([\w.]+)", str(error)):
            raise NeurolensError(
                f"{path} holds more than tensors ({found[1] or found[2]}): code that neurolens does not run; give a "
                "checkpoint saved as safetensors, from someone you trust"
            ) from error
        raise NeurolensError(f"{path} is not a sound .bin checkpoint ({first_line(error)}); fetch it again") from error
    if not isinstance(values, dict):
        raise NeurolensError(f"{path} holds a {type(values).__name__}, expected named tensors; give a HF checkpoint")
    return {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}
