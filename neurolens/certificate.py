"""Certificate: how far recorded bits are from those of plain Hugging Face in fp32, layer by layer.

Numbers and the words for them; `certify.py` makes it, the store keeps it, `info` and reports show it. Nothing in it
depends on when or where it was made: the same command gives the same certificate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from types import UnionType
from typing import Any, get_origin, get_type_hints

from neurolens import NeurolensError, first_line

LEAST_PERCENT = 1e-4  # shares below it are said to be below it
COLUMNS = ("layer", "active", "flipped", "of bits", "of active", "on→off", "off→on", "median", "99%", "max", "typical")


@dataclass(frozen=True)
class LayerParity:
    """One layer: recorded bits against those of the reference, and how near to zero those were that differ.

    Distances are |pre-activation| in the reference, the input of the activation function, in its own units and ≥ 0;
    medians and percentiles are true to 0.4%, greatest values exact. None where no bit flipped.
    """

    layer: int
    bits: int  # compared: tokens × neurons
    active: int  # of them, in the reference
    on_to_off: int  # active in the reference, not as recorded
    off_to_on: int  # the other way round
    flipped_median: float | None
    flipped_p99: float | None
    flipped_max: float | None
    typical: float  # median distance of all bits, flipped or not
    silent: int  # neurons active on none of the tokens in the reference
    silenced: int  # neurons that are active on some in the reference, on none as recorded
    woken: int  # the other way round

    @property
    def flips(self) -> int:
        """Bits that differ."""
        return self.on_to_off + self.off_to_on


@dataclass(frozen=True)
class Certificate:
    """What was compared with what, and the outcome for each layer."""

    model: str  # as given when the bits were recorded
    revision: str | None  # commit on the hub, None for a folder
    checkpoint: str  # fingerprint
    dtype: str  # what the bits were recorded in: this, device, threads, batches
    device: str
    threads: int
    batch_sequences: int
    positions: int  # tokens a sequence
    batches: tuple[int, ...]  # which batches of the run's grid were compared, ascending
    tokens: int  # in them
    corpus_fingerprint: str  # of the whole run
    reference_device: str  # where the fp32 forward was computed, with as many threads
    versions: Mapping[str, str]  # that it was computed with
    layers: tuple[LayerParity, ...]

    @property
    def bits(self) -> int:
        """Bits compared, all layers."""
        return sum(layer.bits for layer in self.layers)

    @property
    def active(self) -> int:
        """Of them active in the reference."""
        return sum(layer.active for layer in self.layers)

    @property
    def flips(self) -> int:
        """Bits that differ, all layers."""
        return sum(layer.flips for layer in self.layers)

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON types."""
        values = asdict(self)
        return {**values, "batches": list(self.batches), "layers": list(values["layers"])}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Certificate:
        """The inverse of `to_dict`. Raises NeurolensError for anything else than what that gives."""
        try:
            layers = tuple(LayerParity(**layer) for layer in values["layers"])
            certificate = cls(**{**values, "layers": layers, "batches": tuple(values["batches"])})
            for part in (certificate, *layers):
                _check_types(part)
            if not layers or not all(isinstance(batch, int) for batch in certificate.batches):
                raise TypeError("no layers, or no batches")
        except (TypeError, KeyError, ValueError) as error:
            raise NeurolensError(
                f"the certificate is damaged or of another neurolens ({first_line(error)}); certify again"
            ) from error
        return certificate

    def headline(self) -> str:
        """The outcome in one line."""
        text = f"{self.tokens:,} tokens"
        if not self.flips:
            return f"{self.dtype} equals plain HF fp32 bit for bit on {text} ({self.bits:,} bits)"
        worst = max(self.layers, key=lambda layer: layer.flipped_max or 0.0)
        return (
            f"{self.dtype} against plain HF fp32 on {text}: {_percent(self.flips, self.bits)} of bits flipped "
            f"({_percent(self.flips, self.active)} of active), at most {_short(worst.flipped_max)} from zero "
            f"(layer {worst.layer}, typical {_short(worst.typical)})"
        )

    def by_layer(self) -> tuple[list[str], list[list[str]]]:
        """(names of columns, a line a layer in words)."""
        return [*COLUMNS], [
            [
                str(layer.layer),
                _percent(layer.active, layer.bits),
                f"{layer.flips:,}",
                _percent(layer.flips, layer.bits),
                _percent(layer.flips, layer.active),
                f"{layer.on_to_off:,}",
                f"{layer.off_to_on:,}",
                *map(_short, (layer.flipped_median, layer.flipped_p99, layer.flipped_max, layer.typical)),
            ]
            for layer in self.layers
        ]

    def _repr_html_(self) -> str:
        from neurolens.display.runs import view_certificate

        return view_certificate(self)

    def lines(self) -> list[str]:
        """The whole certificate for people: what was compared, a line a layer, the outcome."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        columns, by_layer = self.by_layer()
        rows = [columns, *by_layer]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        silent, more, fewer = (sum(getattr(x, name) for x in self.layers) for name in ("silent", "silenced", "woken"))
        return [
            f"recorded    {self.model} ({self.checkpoint[:12]}…) in {self.dtype} on {self.device}, "
            f"{_number(self.threads, 'thread')}",
            f"reference   plain HF in fp32 on {self.reference_device}; {versions}",
            f"text        {self.tokens:,} tokens: {_number(len(self.batches), 'batch', 'batches')} of "
            f"{self.batch_sequences} × {self.positions}; {self.bits:,} bits",
            "",
            *("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows),
            "",
            "median, 99%, max: distance from zero of the flipped, |pre-activation| in fp32; typical: median of all",
            f"silent      {silent:,} neurons in fp32 on this text; as recorded {more:,} more and {fewer:,} fewer",
            f"parity      {self.headline()}",
        ]


def _check_types(part: Certificate | LayerParity) -> None:
    """Raise TypeError unless every field holds what it is declared as, numbers none below 0."""
    hints = get_type_hints(type(part))
    for field in fields(part):
        value, hint = getattr(part, field.name), hints[field.name]
        kind: Any = hint if isinstance(hint, type | UnionType) else get_origin(hint)
        if isinstance(value, bool) or not isinstance(value, kind):
            raise TypeError(f"{field.name} is a {type(value).__name__}")
        if isinstance(value, int | float) and not 0 <= value < float("inf"):
            raise ValueError(f"{field.name} is {value}")


def _percent(part: int, whole: int) -> str:
    """A share in percent with two significant digits, – of nothing."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    return f"{_short(percent)}%" if part == 0 or percent >= LEAST_PERCENT else f"<{LEAST_PERCENT:f}".rstrip("0") + "%"


def _short(value: float | None) -> str:
    """Two significant digits, more only before the point, – for none."""
    return "–" if value is None else f"{value:.2g}" if value < 10 else f"{value:.0f}"


def _number(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"
