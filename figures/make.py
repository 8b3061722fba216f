"""The gallery: every figure of the demo run, and those over training of the embedded model's earlier states.

    make demo && make figures

The embedded model has no oscillatory neurons; figures of a model that was built with neurons of every kind show them.

States and the last model read the same held-out text, a third of the demo's; runs of them are kept in WORK, the demo's
folder, and continued or left alone when this is run again.
"""

from __future__ import annotations

import sys
from pathlib import Path

from neurolens.analyze import analyze_run
from neurolens.collect import collect
from neurolens.corpus import Corpus
from neurolens.demo.demonstrate import MODEL, RUN, demo_corpus
from neurolens.plots import FIGURES, draw, drawable, save
from neurolens.run import Run, open_run
from neurolens.testing import planted_opt

HERE = Path(__file__).parent
STATES = ("step0", "step250", "step500")  # before the embedded one, which is that of step 750 (docs/decisions/0005)
TOKENS = 131_072
PLANTED = ("positional-types", "positional", "position-ranges")
OVER_TRAINING = ("positional", "positional-training", "dead", "frequency")


def main(work: Path) -> None:
    """Draw all galleries."""
    draw_all([open_run(work / RUN)], HERE)
    draw_all([planted_run(work / "planted")], HERE / "planted", PLANTED)
    corpus = demo_corpus(MODEL, TOKENS)
    runs = []
    for name, model in [*((state, HERE.parent / "checkpoints" / state) for state in STATES), ("step750", MODEL)]:
        path = work / "training" / f"{name}.zarr"
        path.parent.mkdir(exist_ok=True)
        collect(model, corpus, path, say=print)
        analyze_run(path, only=["positions"], say=print)
        runs.append(open_run(path))
    draw_all(runs, HERE / "training", OVER_TRAINING)


def planted_run(folder: Path) -> Run:
    """A run of the planted model."""
    folder.mkdir(exist_ok=True)
    planted = planted_opt(folder / "model")
    corpus = Corpus.from_tokens(planted.tokens, label=planted.label, label_names=planted.label_names)
    collect(folder / "model", corpus, folder / "planted.zarr")
    analyze_run(folder / "planted.zarr", only=["positions"])
    return open_run(folder / "planted.zarr")


def draw_all(runs: list[Run], folder: Path, names: tuple[str, ...] = ()) -> None:
    """Draw figures of runs, all that can be drawn unless named."""
    for name in drawable(runs, names)[0]:
        for path in save(draw(name, [run.table(FIGURES[name].table) for run in runs]), folder, name):
            print(path.relative_to(HERE.parent))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
