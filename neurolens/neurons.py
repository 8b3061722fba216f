"""Neurons: the table of results, one row a neuron, one column a figure, each read when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas
    import xarray


class Neurons(Mapping[str, np.ndarray]):
    """Columns `(layer, neuron)` by name: `neurons["frequency"]`, `neurons["dead"]`, … (docs/store.md lists them).

    name          what to call the run in a legend
    layers        the collected layers' numbers, ascending
    model_layers  how many layers the model has
    n_tokens      tokens the columns were computed from
    rules         the thresholds they were computed with
    """

    def __init__(
        self,
        name: str,
        *,
        layers: Sequence[int],
        model_layers: int,
        n_tokens: int,
        rules: Mapping[str, Any],
        names: Sequence[str],
        read: Callable[[str], np.ndarray],
    ) -> None:
        self.name, self.layers, self.model_layers = name, np.asarray(layers), model_layers
        self.n_tokens, self.rules = n_tokens, dict(rules)
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
    def shape(self) -> tuple[int, int]:
        """(layers, neurons of a layer)."""
        first = self[self._names[0]]
        return first.shape[0], first.shape[1]

    def to_pandas(self) -> pandas.DataFrame:
        """A data frame with index (layer, neuron)."""
        import pandas

        index = pandas.MultiIndex.from_product([self.layers, range(self.shape[1])], names=["layer", "neuron"])
        return pandas.DataFrame({name: self[name].reshape(-1) for name in self}, index=index)

    def to_xarray(self) -> xarray.Dataset:
        """A dataset with dimensions (layer, neuron)."""
        import xarray

        return xarray.Dataset(
            {name: (("layer", "neuron"), self[name]) for name in self},
            coords={"layer": self.layers, "neuron": np.arange(self.shape[1])},
            attrs={"run": self.name, "n_tokens": self.n_tokens},
        )

    def __repr__(self) -> str:
        layers, neurons = self.shape
        size = f"{layers} layers × {neurons} neurons, {self.n_tokens:,} tokens"
        return f"<Neurons of {self.name}: {size}: {', '.join(self)}>"
