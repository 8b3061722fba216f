"""Tables: results by name, each column an array with named axes, read when it is asked for.

`Neurons` has a row a neuron, `ByLayer` a figure for each layer, n-gram length and level of support.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas
    import xarray

GRAMS = ("unigram", "bigram", "trigram", "fourgram", "fivegram")  # names of n-grams in columns, by n − 1
WORDS = ("token", *GRAMS[1:])  # what n-grams are called in words, by n − 1
SUPPORT = ("all", "supported")  # detectors by the paper's rules; those of them that are well supported


class Table(Mapping[str, np.ndarray]):
    """Columns by name, all with the axes of `coords`.

    name          what to call the run in a legend
    layers        the collected layers' numbers, ascending
    model_layers  how many layers the model has
    n_tokens      tokens the columns were computed from
    rules         the thresholds they were computed with
    coords        name of each axis → its coordinates
    """

    def __init__(
        self,
        name: str,
        *,
        layers: Sequence[int],
        model_layers: int,
        n_tokens: int,
        rules: Mapping[str, Any],
        coords: Mapping[str, Sequence[Any]],
        names: Sequence[str],
        read: Callable[[str], np.ndarray],
    ) -> None:
        self.name, self.layers, self.model_layers = name, np.asarray(layers), model_layers
        self.n_tokens, self.rules, self.coords = n_tokens, dict(rules), dict(coords)
        self._names, self._read = list(names), read
        self._columns: dict[str, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._columns:
            if name not in self._names:
                raise KeyError(f"no column {name!r}; there are {', '.join(self._names)}")
            self._columns[name] = self._read(name)
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return tuple(len(values) for values in self.coords.values())

    def to_pandas(self) -> pandas.DataFrame:
        """A data frame whose index has a level an axis."""
        import pandas

        index = pandas.MultiIndex.from_product(list(self.coords.values()), names=list(self.coords))
        return pandas.DataFrame({name: self[name].reshape(-1) for name in self}, index=index)

    def to_xarray(self) -> xarray.Dataset:
        """A dataset with a dimension an axis."""
        import xarray

        return xarray.Dataset(
            {name: (tuple(self.coords), self[name]) for name in self},
            coords={axis: np.asarray(values) for axis, values in self.coords.items()},
            attrs={"run": self.name, "n_tokens": self.n_tokens},
        )

    def __repr__(self) -> str:
        size = " × ".join(f"{len(values)} {axis}" for axis, values in self.coords.items())
        return f"<{type(self).__name__} of {self.name}: {size}, {self.n_tokens:,} tokens: {', '.join(self)}>"


class Neurons(Table):
    """Columns `(layer, neuron)`: `neurons["frequency"]`, `neurons["dead"]`, … (docs/store.md lists them)."""

    def __init__(self, name: str, *, layers: Sequence[int], neurons: int, **header: Any) -> None:
        coords: dict[str, Any] = {"layer": np.asarray(layers), "neuron": np.arange(neurons)}
        super().__init__(name, layers=layers, coords=coords, **header)


class ByLayer(Table):
    """Columns `(support, n, layer)`: detectors, n-grams they cover, the share that suppress their triggers.

    Index 0 of `support` is all detectors by the paper's rules, 1 the well supported ones. `overall` has the same
    columns over all layers together, `(support, n)`.
    """

    def __init__(self, name: str, *, layers: Sequence[int], n: Sequence[int], overall: Table, **header: Any) -> None:
        coords: dict[str, Any] = {"support": SUPPORT, "n": np.asarray(n), "layer": np.asarray(layers)}
        super().__init__(name, layers=layers, coords=coords, **header)
        self.overall = overall
