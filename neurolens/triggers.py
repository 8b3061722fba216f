"""Triggers: the n-grams that the neurons of a layer are active on, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from neurolens.tables import OfLayer

if TYPE_CHECKING:
    import pandas


class Triggers(OfLayer):
    """Columns `(trigger,)`, a row a neuron and n-gram: `neuron`, `n`, `on` of `total` occurrences, `rate_lower` (the
    one-sided 95% Wilson bound of that rate, in [0, 1]), whether it is a `member` of the covering set and `covered`; and
    `tokens` `(trigger, gram)`, ids in reading order behind −1 where an n-gram is shorter. docs/store.md has all.
    """

    AXES = ("trigger", "gram")

    def to_pandas(self) -> pandas.DataFrame:
        """A row a trigger: `tokens` its ids as a tuple, `text` what they say, bytes that are no character as �."""
        import pandas

        columns: dict[str, Any] = {name: self[name] for name in self if name != "tokens"}
        tokens = [tuple(id_ for id_ in ids if id_ >= 0) for ids in self["tokens"].tolist()]
        texts = [self.content(ids).decode(errors="replace") for ids in tokens]
        columns |= {"tokens": pandas.Series(tokens, dtype=object), "text": pandas.Series(texts, dtype=object)}
        return pandas.DataFrame(columns).rename_axis("trigger")

    def __repr__(self) -> str:
        size = f"{self.shape[0]:,} n-grams of neurons of layer {self.layer}"
        return f"<Triggers of {self.name}: {size}, {self.n_tokens:,} tokens: {', '.join(self)}>"

    def _repr_html_(self) -> str:
        from neurolens.display.triggers import view_triggers

        return view_triggers(self)
