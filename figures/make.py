"""The gallery: every figure of the demo run, and those over training of the embedded model's earlier states.

    make demo && make figures

States and the last model read the same held-out text, a third of the demo's; runs of them are kept in WORK, the demo's
folder, and continued or left alone when this is run again.
"""

from __future__ import annotations

import sys
from pathlib import Path

from neurolens.analyze import analyze_run
from neurolens.collect import collect
from neurolens.demo.demonstrate import MODEL, RUN, demo_corpus
from neurolens.plots import FIGURES, draw, drawable, save
from neurolens.run import Run, open_run

HERE = Path(__file__).parent
STATES = ("step0", "step250", "step500")  # before the embedded one, which is that of step 750 (docs/decisions/0005)
TOKENS = 131_072
OVER_TRAINING = ("positional", "positional-training", "dead", "frequency")


def main(work: Path) -> None:
    """Draw both galleries."""
    draw_all([open_run(work / RUN)], HERE)
    corpus = demo_corpus(MODEL, TOKENS)
    runs = []
    for name, model in [*((state, HERE.parent / "checkpoints" / state) for state in STATES), ("step750", MODEL)]:
        path = work / "training" / f"{name}.zarr"
        path.parent.mkdir(exist_ok=True)
        collect(model, corpus, path, say=print)
        analyze_run(path, only=["positions"], say=print)
        runs.append(open_run(path))
    draw_all(runs, HERE / "training", OVER_TRAINING)


def draw_all(runs: list[Run], folder: Path, names: tuple[str, ...] = ()) -> None:
    """Draw figures of runs, all that can be drawn unless named."""
    for name in drawable(runs, names)[0]:
        for path in save(draw(name, [run.table(FIGURES[name].table) for run in runs]), folder, name):
            print(path.relative_to(HERE.parent))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
