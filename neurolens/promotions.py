"""Promotions: the tokens that the value vectors of a layer's neurons promote and suppress, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neurolens.tables import OfLayer

if TYPE_CHECKING:
    import pandas

WAYS = ("promoted", "suppressed")  # columns of ids, each with its projections beside it


class Promotions(OfLayer):
    """Columns `(row,)`, a row a projected neuron: `neuron`, and of its projections on the real vocabulary the mean and
    more; `(row, place)`: `promoted` and `suppressed`, ids of the tokens with the greatest and the least projection, the
    farthest first, −1 for none, with `promoted_projection` and `suppressed_projection`. docs/store.md has all.
    """

    def to_pandas(self) -> pandas.DataFrame:
        """A row a neuron: `promoted` and `suppressed` what the tokens say, a tuple each, bytes that are no character as
        �; their projections as tuples."""
        import pandas

        def tuples(name: str) -> pandas.Series:
            there = self[name.removesuffix("_projection")] >= 0
            rows = [tuple(row[known].tolist()) for row, known in zip(self[name], there, strict=True)]
            if name in WAYS:
                rows = [tuple(self.content([id_]).decode(errors="replace") for id_ in row) for row in rows]
            return pandas.Series(rows, dtype=object)

        frame = pandas.DataFrame({name: tuples(name) if self[name].ndim > 1 else self[name] for name in self})
        return frame.rename_axis("row")

    def __repr__(self) -> str:
        size = f"what {self.shape[0]:,} neurons of layer {self.layer} promote and suppress"
        return f"<Promotions of {self.name}: {size}: {', '.join(self)}>"

    def _repr_html_(self) -> str:
        from neurolens.display.promotions import view_promotions

        return view_promotions(self)
