"""Tables: results by name, each column an array with named axes, read when it is asked for.

`Neurons` has a row a neuron, `ByLayer` a figure for each layer, n-gram length and level of support, `Positions` a row a
positional neuron, `ByLabel` a figure for each label and layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas
    import xarray

PARTS = ("dead", "ngrams", "positions", "contrast", "updates")  # of an analysis, in the order in which they are done
GRAMS = ("unigram", "bigram", "trigram", "fourgram", "fivegram")  # names of n-grams in columns, by n − 1
WORDS = ("token", *GRAMS[1:])  # what n-grams are called in words, by n − 1
# by n, where bins of covering numbers end, the last being open: what a detector may need, then ten times as far each
EDGES = {1: (5, 50, 500, 5000), 2: (50, 500, 5000, 50000), 3: (50, 500, 5000, 50000)}
SUPPORT = ("all", "supported")  # detectors by the paper's rules; those of them that are well supported
TYPES = ("", "oscillatory", "both_extremes", "one_extreme", "other")  # of positional neurons, by number; "" is none
STRENGTHS = ("", "weak", "strong")  # of these types, by number; "" where there is none
NAMES = {"position_type": TYPES, "position_strength": STRENGTHS, "type": TYPES, "strength": STRENGTHS}


def named(column: str, values: np.ndarray) -> np.ndarray:
    """Values of a column as they are read: names where the store has their numbers (`NAMES`).

    >>> named("position_type", np.array([0, 1])).tolist(), named("activations", np.array([7])).tolist()
    (['', 'oscillatory'], [7])
    """
    return np.array(NAMES[column])[values] if column in NAMES else values


class Table(Mapping[str, np.ndarray]):
    """Columns by name, all with the axes of `coords`.

    name          what to call the run in a legend
    layers        the collected layers' numbers, ascending
    model_layers  how many layers the model has
    n_tokens      tokens the columns were computed from
    rules         the thresholds they were computed with
    coords        name of each axis → its coordinates
    units         name of each column that has one → its unit
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
        read_part: Callable[[str, tuple[Any, ...]], np.ndarray] | None = None,
        units: Mapping[str, str] | None = None,
    ) -> None:
        """`read` gives a column, `read_part` what is at an index of it."""
        self.name, self.layers, self.model_layers = name, np.asarray(layers), model_layers
        self.n_tokens, self.rules, self.coords = n_tokens, dict(rules), dict(coords)
        self.units, self._read_part = dict(units or {}), read_part
        self._names, self._read = list(names), read
        self._columns: dict[str, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._columns:
            if name not in self._names:
                raise KeyError(f"no column {name!r}; there are {', '.join(self._names)}")
            self._columns[name] = self._read(name)
        return self._columns[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names  # that of a Mapping would read the column

    def part(self, name: str, index: tuple[Any, ...]) -> np.ndarray:
        """A part of a column, `table[name][index]`, without the rest of it being read where that can be avoided."""
        if name in self._columns or self._read_part is None:
            return self[name][index]
        return self._read_part(name, index)

    def dtype(self, name: str) -> np.dtype:
        """The type of a column, which is not read for it."""
        return self.part(name, (slice(0, 0),)).dtype

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

    def _ipython_key_completions_(self) -> list[str]:
        return self._names

    def _repr_html_(self) -> str:
        from neurolens.display.tables import view_table

        return view_table(self)

    def __repr__(self) -> str:
        size = " × ".join(f"{len(values)} {axis}" for axis, values in self.coords.items())
        return f"<{type(self).__name__} of {self.name}: {size}, {self.n_tokens:,} tokens: {', '.join(self)}>"


class OfLayer(Table):
    """A table of one layer: columns of the first of its `AXES`, or of both.

    layer    which layer's
    content  ids → the bytes that they say
    """

    AXES = ("row", "place")

    def __init__(
        self, name: str, *, layer: int, rows: int, content: Callable[[Sequence[int]], bytes], **header: Any
    ) -> None:
        super().__init__(name, coords={self.AXES[0]: range(rows)}, **header)
        self.layer, self.content = layer, content

    def to_xarray(self) -> xarray.Dataset:
        """A dataset whose dimensions are the `AXES`."""
        import xarray

        return xarray.Dataset(
            {name: (self.AXES[: self[name].ndim], self[name]) for name in self},
            attrs={"run": self.name, "layer": self.layer, "n_tokens": self.n_tokens},
        )


class Neurons(Table):
    """Columns `(layer, neuron)`: `neurons["frequency"]`, `neurons["dead"]`, … (docs/store.md lists them).

    `activity` has columns `(layer,)`: the share of dead neurons and the mean frequency of the others, with intervals;
    None where nobody asked for it.
    """

    def __init__(
        self, name: str, *, layers: Sequence[int], neurons: int, activity: Table | None = None, **header: Any
    ) -> None:
        coords: dict[str, Any] = {"layer": np.asarray(layers), "neuron": np.arange(neurons)}
        super().__init__(name, layers=layers, coords=coords, **header)
        self.activity = activity


class ByLayer(Table):
    """Columns `(support, n, layer)`: detectors, n-grams they cover, the share that suppress their triggers.

    Index 0 of `support` is all detectors by the paper's rules, 1 the well supported ones. `overall` has the same
    columns over all layers together, `(support, n)`.
    """

    def __init__(self, name: str, *, layers: Sequence[int], n: Sequence[int], overall: Table, **header: Any) -> None:
        coords: dict[str, Any] = {"support": SUPPORT, "n": np.asarray(n), "layer": np.asarray(layers)}
        super().__init__(name, layers=layers, coords=coords, **header)
        self.overall = overall


class Positions(Table):
    """Columns `(row,)`, a row a positional neuron, by layer and neuron; `to_pandas` has no curves.

    curve      unsigned `(row, position)`: activations at each position, of `sequences` tokens
    neurons_per_layer  of which these are the positional ones
    ranges     columns `(range,)`: which `row`, its positions [`first`, `stop`), whether `always` or never, the pooled
               `frequency` without its outer parts and the `n` tokens of that
    by_layer   columns `(type, strength, layer)`: `count`, `count_low`, `count_high`, positional neurons of each kind
    overall    columns `(type, strength)`: the same over all layers together
    total      of all kinds and layers together: (number, low, high), None without an interval
    tiling     columns `(layer,)`: `share`, `share_low`, `share_high` of neurons that are positional; `tiling_neurons`,
               the strong oscillatory ones, the share of positions on which one of them is active
               (`tiling_covered`) and what random shifts would give (`tiling_expected`)
    """

    def __init__(
        self,
        name: str,
        *,
        rows: int,
        sequences: int,
        neurons_per_layer: int,
        curve: Callable[[], np.ndarray],
        ranges: Callable[[], Mapping[str, np.ndarray]],
        by_layer: Table,
        overall: Table,
        total: tuple[int, float | None, float | None],
        tiling: Table,
        **header: Any,
    ) -> None:
        super().__init__(name, coords={"row": range(rows)}, **header)
        self.sequences, self.neurons_per_layer = sequences, neurons_per_layer
        self.by_layer, self.overall, self.total, self.tiling = by_layer, overall, total, tiling
        self._curve, self._ranges = curve, ranges

    @cached_property
    def curve(self) -> np.ndarray:
        """Activations at each position: unsigned `(row, position)`."""
        return self._curve()

    @cached_property
    def ranges(self) -> Mapping[str, np.ndarray]:
        """Ranges of always and never, columns `(range,)`."""
        return self._ranges()

    @property
    def positions(self) -> int:
        """T, of a sequence."""
        return self.curve.shape[1]

    @property
    def shares(self) -> np.ndarray:
        """Of the layer's neurons those of each type, weak and strong: float64 `(type, layer)`."""
        return self.by_layer["count"].sum(1) / max(1, self.neurons_per_layer)

    @property
    def frequency(self) -> np.ndarray:
        """Activation frequency at each position: float64 `(row, position)`."""
        return self.curve / max(1, self.sequences)


class ByLabel(Table):
    """Columns `(label, layer)`: neurons of one label, silent in one, mean frequency and share dead, with intervals.

    `neurons` has the columns of every neuron.
    """

    def __init__(
        self, name: str, *, layers: Sequence[int], labels: Sequence[str], neurons: Neurons, **header: Any
    ) -> None:
        coords: dict[str, Any] = {"label": list(labels), "layer": np.asarray(layers)}
        super().__init__(name, layers=layers, coords=coords, **header)
        self.neurons = neurons
