"""The demo's run in one line: made, opened again without a look at the text, continued, refused for another one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import random_texts

import neurolens as nl
from neurolens import UsageError
from neurolens.demo import run as demo
from neurolens.demo import text
from neurolens.parts import PARTS, withdraw
from neurolens.store import Store

TOKENS = 2_880  # 20 sequences of 48 tokens of each kind of text


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> None:
    """The embedded model gives way to a tiny one, and the text to a short one; nothing need last."""
    monkeypatch.setattr(demo, "MODEL", tiny_model)
    few = [(document, label) for label in text.LABELS for document in random_texts(12)]
    monkeypatch.setattr(text, "documents", lambda split: iter(few))
    monkeypatch.setattr("os.fsync", lambda handle: None)


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("nothing is to be done")


def test_the_run_is_made_with_its_folder_and_analysed(small: None, tmp_path: Path) -> None:
    said: list[str] = []
    run = nl.open_demo(tmp_path / "new" / "folder" / "small.zarr", tokens=TOKENS, say=said.append)
    facts = run.info()
    assert set(facts["labels"]) == {"code", "math", "prose"} and len(set(facts["labels"].values())) == 1
    assert facts["tokens"] == TOKENS
    assert set(run.parts) == set(PARTS)
    assert run.active(0, 0).shape == run.store.shape
    assert any("math: " in line for line in said)


def test_what_is_there_is_opened_and_what_was_stopped_is_continued(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "small.zarr"
    found = nl.open_demo(str(path), tokens=TOKENS).neurons["activations"]
    with monkeypatch.context() as patch:
        patch.setattr(demo, "collect", refuse)
        patch.setattr(demo, "analyze_run", refuse)
        np.testing.assert_array_equal(nl.open_demo(path, tokens=TOKENS).neurons["activations"], found)
    store = Store.open(path, write=True)
    withdraw(store, ["dead"])
    wanted = np.zeros(store.progress().shape, bool)
    wanted[-1] = True
    store.unmark(wanted)
    assert not nl.open(path).analyzed and not store.progress().all()
    np.testing.assert_array_equal(nl.open_demo(path, tokens=TOKENS).neurons["activations"], found)


def test_another_run_is_refused_with_the_difference(
    small: None, post_ln_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "small.zarr"
    nl.open_demo(path, tokens=TOKENS)
    with pytest.raises(UsageError, match="is another run: its corpus_fingerprint"):
        nl.open_demo(path, tokens=2 * TOKENS)
    monkeypatch.setattr(demo, "MODEL", post_ln_model)
    with pytest.raises(UsageError, match="is another run: its checkpoint"):
        nl.open_demo(path, tokens=TOKENS)
