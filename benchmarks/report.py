"""The report of a run of OPT-125m's shape, 12 × 3,072 neurons: how long it takes to write, how large it is, and how
fast it is in a browser.

The model has random weights and a vocabulary of 50,272; its text is Zipf-distributed words in sequences of 2,048. So
weights and text are no worse than real ones for the file: hardly any neuron is dead, activations are dense and look
random, nearly all neurons have contexts, triggers and curves.

build   `neurolens report` in a process of its own
page    in headless Chromium: first contentful paint, reading from the disk included, and the time from a filter's input
        to the drawn table, medians; the longest frame while the table is scrolled through

`--quick`: 2 layers and an eighth of the text, for which the bounds of all of it must hold. It needs Chromium.
"""

from __future__ import annotations

import os

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _common import at_most, finish, quick_asked

from neurolens.analyze import analyze_run
from neurolens.collect import collect
from neurolens.corpus import Corpus
from neurolens.testing import random_opt
from neurolens.testing.browser import FLAGS, NAMES, find_chromium

POSITIONS, VOCABULARY = 2048, 50272
LABELS = ("code", "math", "news", "wiki")


def main() -> int:
    """Measure all of it."""
    quick = quick_asked(__doc__, "2 layers, an eighth of the text")
    layers, sequences = (2, 8) if quick else (12, 64)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = make_run(folder, layers, sequences)
        figures: dict[str, Any] = {"quick": quick, "neurons": layers * 3072, "tokens": sequences * POSITIONS}
        started = time.perf_counter()
        report = folder / "report.html"
        subprocess.run([sys.executable, "-m", "neurolens.cli", "report", run, "-o", report], check=True)
        figures["build_s"] = time.perf_counter() - started
        figures["size_MB"] = report.stat().st_size / 1e6
        figures |= measure_page(report, rounds=3 if quick else 9)
    bounds = {
        "build_s": at_most(figures["build_s"], 60.0),
        "size_MB": at_most(figures["size_MB"], 20.0),
        "first_paint_s": at_most(figures["first_paint_s"], 1.0),
        "filter_ms": at_most(figures["filter_ms"], 100.0),
    }
    return finish("report", figures, bounds)


def make_run(folder: Path, layers: int, sequences: int) -> Path:
    """An analysed run of the model on random words."""
    model = random_opt(folder / "model", "125m", layers=layers, vocab_size=VOCABULARY, words=VOCABULARY)
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, VOCABULARY - 3)  # Zipf
    tokens = rng.choice(np.arange(4, VOCABULARY), (sequences, POSITIONS), p=share / share.sum()).astype(np.int32)
    tokens[:, 0] = 2
    labels = rng.integers(0, 4, sequences).astype(np.uint16)
    corpus = Corpus.from_tokens(tokens, label=labels, label_names=LABELS)
    collect(model, corpus, folder / "opt-125m.zarr")
    analyze_run(folder / "opt-125m.zarr")
    return folder / "opt-125m.zarr"


def measure_page(report: Path, *, rounds: int) -> dict[str, float]:
    """Medians over rounds, each in a window of its own."""
    from playwright.sync_api import sync_playwright

    found = find_chromium()
    if found is None:
        raise SystemExit("no Chromium: expected one of " + ", ".join(NAMES) + " on the path")
    paints, filters, frames = [], [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        for _ in range(rounds):
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(report.as_uri())
            page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length > 0")
            paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime") / 1000)
            page.goto(report.as_uri() + "#neurons")
            page.wait_for_selector("[role=row][aria-rowindex='5'], tr[aria-rowindex='5']")
            filters += [page.evaluate(FILTER, text) for text in ("t1", "t20", "t3001", "")]
            frames.append(page.evaluate(SCROLL))
            page.close()
        browser.close()
    return {
        "first_paint_s": float(np.median(paints)),
        "filter_ms": float(np.median(filters)),
        "filter_most_ms": float(np.max(filters)),
        "longest_frame_ms": float(np.median(frames)),
    }


# from the input event to the frame after the one in which the table is drawn
FILTER = """async (text) => {
  const input = [...document.querySelectorAll('main input')].find((each) => each.placeholder.includes('trigger'));
  const started = performance.now();
  input.value = text;
  input.dispatchEvent(new Event('input', {bubbles: true}));
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  return performance.now() - started;
}"""
SCROLL = """async () => {
  const box = [...document.querySelectorAll('main *')].find((each) => each.scrollHeight > 50 * each.clientHeight);
  let longest = 0, before = performance.now();
  for (let i = 0; i < 60; i++) {
    box.scrollTop += box.scrollHeight / 61;
    await new Promise(requestAnimationFrame);
    longest = Math.max(longest, performance.now() - before);
    before = performance.now();
  }
  return longest;
}"""


if __name__ == "__main__":
    raise SystemExit(main())
