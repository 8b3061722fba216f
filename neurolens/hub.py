"""hub: where a model's folder is: the one given, or a snapshot of the hub's repository, fetched or from its cache.

Only what neurolens reads is fetched: configuration, tokenizer, and the weights in one format (OPT's repositories
hold the same weights for TensorFlow and Flax as well). The cache is the hub client's own, shared with every other
program; `HF_HOME`, `HF_HUB_CACHE`, `HF_HUB_OFFLINE`, `HF_ENDPOINT` and `HF_TOKEN` mean what they mean everywhere.
"""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Callable
from pathlib import Path

from neurolens import NeurolensError, UsageError, first_line
from neurolens.weights import BIN, SAFETENSORS

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json")
READ = ("config.json", *TOKENIZER_FILES)
_NAME = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?", re.ASCII)


def find_folder(
    model: str | Path, revision: str | None = None, *, say: Callable[[str], object] = lambda line: None
) -> tuple[Path, str | None]:
    """(folder, commit) of a model: a local folder with commit None, or the snapshot of a name on the hub.

    `revision` is a branch, tag or commit on the hub. Without network, what the hub's cache holds is taken. Raises
    UsageError for a name that is neither a folder nor on the hub, NeurolensError where the hub cannot be reached and
    the cache has nothing.
    """
    folder = Path(model)
    if folder.is_dir():
        if revision is not None:
            raise UsageError(f"{model} is a local folder and has no --revision {revision}; leave the option out")
        return folder, None
    if isinstance(model, Path) or not _NAME.fullmatch(model) or folder.exists():
        raise UsageError(
            f"no model folder {model}; give a folder with a HF checkpoint, or a name on the hub: facebook/opt-125m"
        )
    snapshot = _snapshot(model, revision, say)
    return snapshot, snapshot.name


def cached_folder(name: str, revision: str | None = None) -> Path | None:
    """The snapshot of a name on the hub that its cache holds; None if it holds none. No network is used.

    Whether all is there is seen when the folder is read; the client wants files that nobody needs.
    """
    from huggingface_hub import try_to_load_from_cache

    if not _NAME.fullmatch(name):
        return None
    cached = try_to_load_from_cache(name, "config.json", revision=revision)
    return Path(cached).parent if isinstance(cached, str) else None


def _snapshot(name: str, revision: str | None, say: Callable[[str], object]) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    at = "" if revision is None else f" at revision {revision}"
    try:
        info = HfApi().model_info(name, revision=revision)
        files = [file.rfilename for file in info.siblings or []]
        say(f"{name}{at}: commit {info.sha}, fetching what the cache lacks")
        return Path(snapshot_download(name, revision=revision, allow_patterns=_wanted(files)))
    except GatedRepoError as error:
        raise NeurolensError(
            f"{name} is gated; accept its terms on its page of the hub, then give your token: HF_TOKEN=…"
        ) from error
    except RepositoryNotFoundError as error:
        raise UsageError(
            f"no model {name!r} on the hub, and no folder of that name; correct it (or give HF_TOKEN if it is private)"
        ) from error
    except RevisionNotFoundError as error:
        raise UsageError(f"{name} has no revision {revision!r}; give a branch, tag or commit of it") from error
    except OfflineModeIsEnabled as error:
        reason = "HF_HUB_OFFLINE is set"
        unreachable: Exception = error
    except Exception as error:  # the client's own libraries for requests differ between its versions
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES):
            raise
        reason = f"the hub cannot be reached ({first_line(error)})"
        unreachable = error
    folder = cached_folder(name, revision)
    if folder is None:
        raise NeurolensError(
            f"no folder {name}, and {reason} while the cache has no {name}{at}; give a local folder, or fetch it once "
            "with network"
        ) from unreachable
    say(f"{name}{at}: {reason}; taken from the cache, commit {folder.name}")
    return folder


def _wanted(files: list[str]) -> list[str]:
    """Of a repository's files those to fetch: weights in the format that is read first of those there are."""
    for single, index in (SAFETENSORS, BIN):
        if single in files:
            return [*READ, single]
        if index in files:
            stem, _, suffix = single.rpartition(".")
            return [*READ, index, f"{stem}-*.{suffix}"]
    return [*READ]  # what is missing is said where the folder is read
