"""Settings and fixtures. Every model is made here from a configuration: no network, no GPU, no download."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; bits depend on the thread count
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# Files of half a minute and more, longest first: two workers that begin with these end at about the same time
LONG = [
    *("merge_counts", "windows", "notebooks", "analyze", "study", "end_to_end", "cluster", "plots", "pages", "hub"),
    *("kills", "report_page", "merge", "remote", "certificate", "report", "verify", "counts", "card", "planted"),
]
TINY = {"hidden_size": 32, "ffn_dim": 72, "num_hidden_layers": 3, "num_attention_heads": 4}
POST_LN = {**TINY, "word_embed_proj_dim": 16, "do_layer_norm_before": False}
POSITIONS = 48


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {f"test_{name}": place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OPT of 3 layers × 72 neurons, 48 positions, byte-level tokenizer, padded vocabulary."""
    from neurolens.testing import random_opt

    return random_opt(tmp_path_factory.mktemp("tiny") / "model", TINY, vocab_size=272, positions=POSITIONS)


@pytest.fixture(scope="session")
def post_ln_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `tiny_model`, but normalised after attention and FFN and with projections, as OPT-350m."""
    from neurolens.testing import random_opt

    return random_opt(tmp_path_factory.mktemp("post_ln") / "model", POST_LN, vocab_size=272, positions=POSITIONS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, of Playwright; skips where either is missing."""
    from neurolens.testing.browser import FLAGS, find_chromium

    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = find_chromium() or pytest.skip("no Chromium here")
    with playwright.sync_playwright() as running:
        launched = running.chromium.launch(executable_path=found, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def hasty() -> Iterator[None]:
    """No power is cut here: what is written need not be on the disk before what comes next."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda handle: None)
        yield


@pytest.fixture(scope="module")
def in_pieces() -> Iterator[None]:
    """Some neurons at a time, also of small runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neurolens.bitmaps.CHUNK_BYTES", 1 << 11)
        patch.setattr("neurolens.bitmaps.READ_BYTES", 1 << 11)
        yield


@pytest.fixture
def write_jsonl(tmp_path: Path) -> Callable[..., Path]:
    """Write records (dicts, or texts) as a jsonl file; returns its path."""

    def write(name: str, records: list) -> Path:
        path = tmp_path / name
        lines = [json.dumps(record if isinstance(record, dict) else {"text": record}) for record in records]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


def random_texts(count: int, *, seed: int = 0, least: int = 20, most: int = 400) -> list[str]:
    """Texts of random length over a small alphabet."""
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list("abcdefg hij\n"), rng.integers(least, most))) for _ in range(count)]


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
