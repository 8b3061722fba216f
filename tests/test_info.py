"""What `info` and the demo print of a run's facts: numbers as they are, names escaped, nothing of what is not there."""

from __future__ import annotations

from typing import Any

import pytest

from neurolens.demo import demonstrate
from neurolens.info import describe

FACTS: dict[str, Any] = {
    "path": "r.zarr", "model": "m", "layers": [0, 3], "neurons_per_layer": 200, "tokens": 4096, "sequences": 64,
    "positions": 64, "labels": {"code": 1024, "a\x1bb": 1024, "math": 2048}, "dtype": "fp32", "keep_bitmaps": "all",
    "blocks_done": 1, "blocks": 1, "block_tokens": 4096, "stored_bytes": 10**6, "raw_bytes": 10**7, "certificate": None,
    "analyzed": ["dead"], "entropy_bytes": 2 * 10**6, "stored_over_entropy": 0.5, "dead": [20, 0],
    "dead_but_bos": [1, 0], "dead_frequency_upper_bound": 0.001, "mean_frequency_of_alive": [0.1, 0.2],
}  # fmt: skip
POSITIONS: dict[str, Any] = {
    "positional": [12, 1003],
    "position_types": {
        "oscillatory": {"weak": 4, "strong": 1000},
        "both_extremes": {"weak": 0, "strong": 0},
        "one_extreme": {"weak": 11, "strong": 0},
    },
}


def counts(*all_and_supported: tuple[int, int]) -> dict[str, dict[str, int]]:
    """A count for each label, in order."""
    return {
        label: {"all": every, "supported": supported}
        for label, (every, supported) in zip(FACTS["labels"], all_and_supported, strict=False)
    }


def told(**facts: Any) -> list[str]:
    """What describe adds to the facts above for these."""
    before, after = describe(FACTS), describe({**FACTS, **facts})
    assert all(line.isprintable() for line in after) and [line for line in after if line in before] == before
    return [line for line in after if line not in before]


def test_dead_share_with_its_interval() -> None:
    assert told(dead_low=[0.081, 0.0], dead_high=[0.1249, 0.0]) == ["  share     10.0% (8.1–12.5%)  0.0% (0.0–0.0%)"]
    assert told(dead_low=[None, None], dead_high=[None, None]) == []  # of JSON
    assert told(dead_low=[float("nan")] * 2, dead_high=[float("nan")] * 2) == []


def test_positional_neurons_by_layer_and_type() -> None:
    assert told(**POSITIONS) == [
        "positional  12 1003 by layer: oscillatory 1,004 (1,000 strong), one extreme 11 (0 strong)"
    ]
    none = {"oscillatory": {"weak": 0, "strong": 0}}
    assert told(positional=[0, 0], position_types=none) == ["positional  0 0 by layer"]


def test_neurons_of_one_label() -> None:
    only, silent = counts((1200, 3), (0, 0), (7, 7)), counts((1, 0), (2, 1), (3, 2))
    assert told(label_only=only, label_silent=silent) == [
        "one label   active in it alone: code 1,200, a\\x1bb 0, math 7; well supported 3, 0, 7",
        "            silent in it alone: code 1, a\\x1bb 2, math 3; well supported 0, 1, 2",
    ]
    two = counts((4, 3), (5, 0))
    (line,) = told(label_only=two, label_silent=two)  # silent in one is active in the other
    assert line.startswith("one label")
    assert told(label_only=counts((0, 0)), label_silent=counts((0, 0))) == []


def test_whose_bits_are_kept() -> None:
    """A run without its bits does not read as if they took nothing."""

    def bits(**facts: Any) -> str:
        return next(line for line in describe({**FACTS, **facts}) if line.startswith("bits "))

    assert bits() == "bits        1.0 MB on disk; raw 10.0 MB (0.100 of it); entropy 2.0 MB (0.500 of it)"
    assert bits(keep_bitmaps="none", stored_bytes=0, stored_over_entropy=None) == (
        "bits        0.0 MB on disk, dropped once counted; raw 10.0 MB; entropy 2.0 MB"
    )
    assert bits(keep_bitmaps="sparse", stored_over_entropy=None, analyzed=[]) == (
        "bits        1.0 MB on disk, those of neurons active on at most 1% kept once counted; raw 10.0 MB"
    )


@pytest.mark.parametrize("lines", [demonstrate._positional, demonstrate._contrast])
def test_the_demo_says_nothing_of_what_is_not_analysed(lines: Any) -> None:
    assert lines(FACTS) == []


def test_the_demo_counts() -> None:
    assert demonstrate._positional(POSITIONS) == [
        "  positions  1015 positional neurons (by layer: 12 1003), 1000 of them strong; the most frequent type: "
        "oscillatory (1004)"
    ]
    none = {"positional": [0, 0], "position_types": {"oscillatory": {"weak": 0, "strong": 0}}}
    assert demonstrate._positional(none) == ["  positions  0 positional neurons (by layer: 0 0), 0 of them strong"]
    assert demonstrate._contrast({"label_only": {"code": {"all": 1200, "supported": 3}}}) == [
        "  contrast   neurons active in one kind of text alone: code 1,200; well supported: 3"
    ]
