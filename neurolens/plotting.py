"""plotting: the figures of a run as methods of it. matplotlib is imported once one is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Plot:
    """The paper's figures of a run, and ours beside them: a method each, which `dir()` and a tab list.

        run.plot.dead()                      of this run
        run.plot.dead(another, a_third)      of several, a line or a panel each

    Each returns a matplotlib Figure, which a notebook shows and `figure.savefig(path)` writes; it is that of
    `neurolens plot`, whose names have - where these have _. Options of a figure, as in `run.plot.saturation(points=9)`,
    are those of its function in neurolens/plots. Raises NeurolensError, with the reason, if a run is not analysed for
    a figure.
    """

    def __init__(self, run: Any) -> None:
        self._run = run

    def __dir__(self) -> list[str]:
        return sorted(name.replace("-", "_") for name in _figures())

    def __getattr__(self, name: str) -> Callable[..., Figure]:
        known = {} if name.startswith("_") else {each.replace("-", "_"): each for each in _figures()}
        if name not in known:
            raise AttributeError(f"no figure {name!r}" + (f"; there are {', '.join(sorted(known))}" if known else ""))
        run, figure, spec = self._run, known[name], _figures()[known[name]]

        def drawn(*others: Any, **options: Any) -> Figure:
            from neurolens.plots import draw, drawable

            runs = [run, *others]
            drawable(runs, [figure])
            return draw(figure, [each.table(spec.table) for each in runs], **options)

        source = "Ours, not in the paper." if spec.paper == "ours" else f"Figure {spec.paper} of Voita et al. 2023."
        about = (spec.function.__doc__ or "").strip()
        drawn.__name__ = drawn.__qualname__ = name
        drawn.__doc__ = (
            f"{spec.title}. {source}\n\n{about}\n\nReturns a matplotlib Figure of this run, and of `others`."
        )
        return drawn

    def __repr__(self) -> str:
        return f"<figures of {self._run.name}: {', '.join(dir(self))}>"


def _figures() -> dict[str, Any]:
    from neurolens.plots import FIGURES

    return FIGURES
