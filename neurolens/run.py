"""Run: what a user opens. Results as tables, figures and numbers; plots are imported when drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurolens import UsageError
from neurolens.activity import saturation
from neurolens.bootstrap import Bootstrap, draw_groups
from neurolens.certificate import Certificate
from neurolens.contrast import difference
from neurolens.curves import Stages, find_stages
from neurolens.examples import Examples, find_examples
from neurolens.facts import gather_facts
from neurolens.firing import read_active
from neurolens.location import Where, locate
from neurolens.parts import LAYER_UPDATES, marks, neuron_columns, require, units_of
from neurolens.plotting import Plot
from neurolens.promotions import Promotions
from neurolens.store import Store
from neurolens.tables import STRENGTHS, SUPPORT, TYPES, ByLabel, ByLayer, Neurons, Positions, Table, named
from neurolens.triggers import Triggers
from neurolens.vocabulary import Vocabulary

if TYPE_CHECKING:
    from neurolens.card import Card
    from neurolens.export import Export
    from neurolens.updates import Projector


class Run:
    """An open run (read only). `neurolens.open(path)` makes one; a notebook shows what it is and what was found.

    store  its arrays as they are on the disk (docs/store.md): `run.store.read("results/contexts")`
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    @property
    def path(self) -> Any:
        """Where the run is: a Path, or the Url of one that is elsewhere."""
        return self.store.path

    @property
    def name(self) -> str:
        """The run's name without its ending, for legends."""
        return self.path.name.removesuffix(".zarr")

    @property
    def parts(self) -> dict[str, dict[str, Any]]:
        """The parts of the analysis whose results are there and whole, and what was asked of each."""
        return marks(self.store)

    @property
    def analyzed(self) -> bool:
        """Whether any results are there and whole."""
        return bool(self.parts)

    @property
    def certificate(self) -> Certificate | None:
        """How far the run's bits are from plain HF in fp32; None if it is not certified.

        Raises NeurolensError if what is stored is no certificate.
        """
        values = self.store.attributes("certificate") if self.store.has("certificate") else {}
        return Certificate.from_dict(values) if values else None  # none: stopped while it was written

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """What each token id stands for; `Vocabulary.unknown()` if the run does not hold it.

        Raises NeurolensError if what is stored is damaged.
        """
        return Vocabulary.read(self.store)

    @cached_property
    def neurons(self) -> Neurons:
        """The table of all neurons. Raises NeurolensError if the run is not analysed."""
        require(self.store, "dead")
        header = self._header(neuron_columns(self.store), "results/neurons")
        spread = {**self._header(None, "results/activity"), "rules": self.parts["dead"].get("bootstrap", {})}
        activity = Table(**spread, coords={"layer": self.store.layers})
        return Neurons(**header, neurons=self.store.neurons, activity=activity)

    @cached_property
    def by_layer(self) -> ByLayer:
        """Detectors, the n-grams they cover and the share that suppress their triggers, by layer, n and support.

        Raises NeurolensError if the run's n-grams are not analysed.
        """
        require(self.store, "ngrams")
        n, header = range(1, self.parts["ngrams"]["lengths"] + 1), {}
        for folder in ("results/by_layer", "results/overall"):
            header[folder] = self._header(None, folder)
            if "updates" not in self.parts:
                header[folder]["names"] = [name for name in header[folder]["names"] if name not in LAYER_UPDATES]
            header[folder]["rules"] = {**header[folder]["rules"], **self.parts.get("updates", {})}
        overall = Table(**header["results/overall"], coords={"support": SUPPORT, "n": n})
        return ByLayer(**header["results/by_layer"], n=n, overall=overall)

    @cached_property
    def positions(self) -> Positions:
        """The table of positional neurons: types, curves, ranges, how many there are by layer.

        Raises NeurolensError if the run is not analysed for positions.
        """
        require(self.store, "positions")
        folder, part, layers = "results/positions", self.parts["positions"], self.store.layers

        def header(names: Iterable[str], of: str = folder) -> dict[str, Any]:
            return {**self._header(list(names), of), "rules": {**part["rules"], **part["bootstrap"]}}

        by_layer = set(self.store.names(f"{folder}/by_layer")) - {"layer"}
        counts = {name for name in by_layer if name.startswith("count")}
        kinds = {"type": TYPES[1:], "strength": STRENGTHS[1:]}
        return Positions(
            **header(name for name in self.store.names(folder) if name != "curve"),
            rows=len(self.store.read(f"{folder}/neuron")),
            sequences=self.store.shape[0],
            neurons_per_layer=self.store.neurons,
            curve=lambda: self.store.read(f"{folder}/curve"),
            ranges=lambda: {
                name: self.store.read(f"{folder}/ranges/{name}") for name in self.store.names(f"{folder}/ranges")
            },
            by_layer=Table(**header(sorted(counts), f"{folder}/by_layer"), coords={**kinds, "layer": layers}),
            overall=Table(**header(sorted(counts), f"{folder}/overall"), coords=kinds),
            total=tuple(self.store.attributes(f"{folder}/overall")["total"]),
            tiling=Table(**header(sorted(by_layer - counts), f"{folder}/by_layer"), coords={"layer": layers}),
        )

    def stages(self) -> Stages | None:
        """Two stages over depth by the shares of the positional types; see `find_stages`."""
        return find_stages(self.positions.shares)

    @cached_property
    def contrast(self) -> ByLabel:
        """What labels differ in, by label and layer. Raises NeurolensError if the run is not analysed for contrast."""
        require(self.store, "contrast")
        part = self.parts["contrast"]
        header = {**self._header(None, "results/contrast"), "rules": {**part["rules"], **part["bootstrap"]}}
        return ByLabel(**header, labels=self.store.attrs["label_names"], neurons=self.neurons)

    def difference(self, first: str, second: str) -> Table:
        """How much more often each neuron is active in one label than in another, for pairs of texts: before and after
        an edit, in and out of a distribution.

        Columns `(layer, neuron)`: `frequency_first`, `frequency_second`, their `difference` and its interval, `low` and
        `high`, over groups of sequences. Raises UsageError if there is no such label, NeurolensError if the run is not
        analysed for contrast.
        """
        require(self.store, "contrast")
        names = list(self.store.attrs["label_names"])
        if unknown := [name for name in (first, second) if name not in names]:
            raise UsageError(f"{self.path} has no label {unknown[0]!r}; expected {' or '.join(names)}")
        total = self.store.read("counts/total/group_label")
        settings = self.parts["contrast"]["bootstrap"]
        groups = draw_groups(total.sum(1), Bootstrap(**settings))
        columns = [
            difference(
                self.store.read(f"counts/layers/{layer:02d}/group_label"),
                total,
                groups,
                names.index(first),
                names.index(second),
            )
            for layer in self.store.layers
        ]
        keys = ("frequency_first", "frequency_second", "difference", "low", "high")
        found = {key: np.stack(values) for key, values in zip(keys, zip(*columns, strict=True), strict=True)}
        header = {**self._header(list(keys), ""), "read": found.__getitem__, "rules": settings, "read_part": None}
        return Table(**header, coords={"layer": self.store.layers, "neuron": range(self.store.neurons)})

    def _header(self, names: list[str] | None, folder: str) -> dict[str, Any]:
        """What every table is told; `names` None for all columns of the folder."""
        if names is None:
            names = [name for name in self.store.names(folder) if name not in ("n", "layer")]
        return {
            "name": self.name,
            "layers": self.store.layers,
            "model_layers": int(self.store.attrs["model"]["config"]["num_hidden_layers"]),
            "n_tokens": self.store.n_tokens,
            "rules": self.parts.get("ngrams", {}).get("rules", {}),
            "names": names,
            "read": lambda name: named(name, self.store.read(f"{folder}/{name}")),
            "read_part": lambda name, index: named(name, self.store.read(f"{folder}/{name}", index)),
            "units": {name: units for name in names if (units := units_of(f"{folder}/{name}"))},
        }

    def triggers(self, layer: int) -> Triggers:
        """The triggers table of a layer: columns `(trigger,)`, `tokens` `(trigger, gram)` in reading order.

        For every neuron and n the covering set, if its size is within the rule, and the most frequent n-grams;
        `covered` says which members of the covering set a neuron is active on at ≥ 95% of their occurrences
        (docs/store.md has all columns). Raises NeurolensError if there is no such layer, or if n-grams are not
        analysed.
        """
        return Triggers(**self._of_layer(layer, "ngrams", "triggers"))

    def updates(self, layer: int) -> Promotions:
        """What the projected neurons of a layer promote and suppress: columns `(row,)` or `(row, place)`.

        docs/store.md has all columns. Raises NeurolensError if there is no such layer, or if updates are not analysed.
        """
        return Promotions(**{**self._of_layer(layer, "updates", "updates"), "rules": self.parts["updates"]})

    def _of_layer(self, layer: int, part: str, name: str) -> dict[str, Any]:
        """What a table of a layer is told."""
        self.store.require_layers([layer])
        require(self.store, part)
        folder = f"results/layers/{layer:02d}/{name}"
        rows = len(self.store.read(f"{folder}/neuron"))
        header = self._header(self.store.names(folder), folder)
        return header | {"layer": layer, "rows": rows, "content": lambda ids: self.vocabulary.content(ids)}

    def examples(self, *, count: int = 8) -> Examples:
        """Well supported token detectors with what they respond to, promote and suppress; see `find_examples`.

        Raises NeurolensError if the run's updates are not analysed.
        """
        require(self.store, "updates")
        vocabulary = self.vocabulary

        def token(id_: int) -> str:  # a token may be a part of a character: its bytes are told then
            return vocabulary[id_].decode(errors="backslashreplace") or vocabulary.token(id_)

        asked = self.parts["updates"]
        return find_examples(self.neurons, self.triggers, self.updates, token, asked=asked, count=count)

    def table(self, kind: str) -> Table | Examples:
        """The table of a kind, "neurons", "by_layer", "positions", "contrast" or "examples": what figures are drawn of
        (`FIGURES[name].table`).

        Raises NeurolensError if the run is not analysed for it.
        """
        found = getattr(self, kind)
        return found() if kind == "examples" else found

    def neuron(self, layer: int, neuron: int, *, projector: Callable[[], Projector] | None = None) -> Card:
        """All there is to say about a neuron; it prints itself, and its `contexts()` are where it is active.

        What it promotes and suppresses is taken from the run, or else asked of what `projector` gives; the card says
        so where neither can tell. Raises NeurolensError if the run is not analysed, UsageError if there is no such
        layer or neuron.
        """
        from neurolens.neuron import read_neuron

        self.store.require_layers([layer])
        self._check_neuron(neuron)
        require(self.store, "dead")
        return read_neuron(self.store, self.parts, self.vocabulary, layer, neuron, name=self.name, projector=projector)

    def active(self, layer: int, neuron: int) -> np.ndarray:
        """The activation bits of a neuron: bool `(sequence, position)`."""
        self.store.require_layers([layer])
        self._check_neuron(neuron)
        return read_active(self.store, layer, neuron).reshape(self.store.shape)

    def saturation(self) -> tuple[np.ndarray, np.ndarray]:
        """(tokens `(point,)`, alive `(layer, point)`): neurons active at least once, against tokens seen."""
        return saturation(self.neurons["first_active"], self.store.n_tokens)

    def export(
        self,
        path: str | Path,
        *,
        table: str = "neurons",
        layers: Iterable[int] | None = None,
        force: bool = False,
    ) -> Export:
        """Write a table, `neurons`, `triggers` or `positions`, to a .parquet or .csv file; see `export_table`."""
        from neurolens.export import export_table

        return export_table(self.store, path, table=table, layers=layers, force=force)

    def info(self) -> dict[str, Any]:
        """What the run is and holds, as plain numbers and strings; see `gather_facts`."""
        return gather_facts(self)

    @property
    def plot(self) -> Plot:
        """The paper's figures of this run, a method each: `run.plot.dead()`; see `Plot`."""
        return Plot(self)

    def _repr_html_(self) -> str:
        from neurolens.display.runs import view_run

        return view_run(self)

    def __repr__(self) -> str:
        state = f"analysed ({', '.join(self.parts)})" if self.analyzed else "not analysed"
        size = f"{len(self.store.layers)} layers × {self.store.neurons} neurons, {self.store.n_tokens:,} tokens"
        return f"<Run {self.path}: {size}, {state}>"

    def _check_neuron(self, neuron: int) -> None:
        if not 0 <= neuron < self.store.neurons:
            raise UsageError(f"{self.path} has no neuron {neuron}; its layers have 0 to {self.store.neurons - 1}")


def open_run(path: str | Where) -> Run:
    """Open a run to look at, by its path or URL. Raises NeurolensError if there is none at `path`."""
    return Run(Store.open(locate(path)))
