"""README: short, in order, and its table is what the code plans."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from pages import commands, read_blocks

from neurolens.decoder import Shape
from neurolens.testing import OPT_SHAPES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PARTS = [
    "What you see",
    "OPT-6.7b on a 24 GB GPU",
    "Many runs",
    "In Python and Jupyter",
    "What it takes",
    "What it does not do",
    "Where to read on",
    "Citing",
]


@pytest.fixture(scope="module")
def sizes() -> ModuleType:
    """docs/sizes.py."""
    spec = importlib.util.spec_from_file_location("sizes", ROOT / "docs" / "sizes.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_is_short_and_in_order() -> None:
    assert re.findall(r"^## (.+)$", README, re.MULTILINE) == PARTS
    assert len(README.splitlines()) <= 125
    sentence, picture = README.split("\n\n")[1:3]
    assert sentence.startswith("neurolens ") and picture.startswith("![")


def test_it_opens_with_the_two_commands_that_do_all_the_set_up() -> None:
    first = read_blocks(ROOT / "README.md", "README.md")[0]
    assert list(commands(first.text)) == [["make", "demo"], ["make", "test"]]
    assert README.index("make demo") < README.index("\n## ")


def test_a_large_model_takes_three_lines() -> None:
    part = README.split("## OPT-6.7b")[1]
    said = list(commands(part.split("```sh\n")[1].split("```")[0]))
    assert [words[1] for words in said] == ["collect", "analyze", "report"]


def test_every_page_is_in_the_index() -> None:
    index = README.split("## Where to read on")[1]
    for path in (ROOT / "docs").glob("*.md"):
        assert f"](docs/{path.name})" in index, path.name


def test_the_table_of_sizes_is_what_is_planned(sizes: ModuleType) -> None:
    table = re.findall(r"(?:^\|.*\n)+", README.split("## What it takes")[1], re.MULTILINE)[0].splitlines()
    assert table == sizes.table(), "python docs/sizes.py prints the table"
    assert [row.split(" | ")[0].strip("| ") for row in table[2:]] == list(OPT_SHAPES)


def test_assumptions_of_the_table_are_said(sizes: ModuleType) -> None:
    text = " ".join(README.split("## What it takes")[1].split("\n|")[0].split())
    for said in (
        f"{sizes.TOKENS // 1_000_000}M tokens in {sizes.DTYPE}",
        f"{sizes.FREE.device / 0.9 / sizes.GB:.0f} GB, {sizes.FREE.memory / 0.9 / sizes.GB:.0f} GB of memory",
        f"{sizes.CORES} cores",
        f"{sizes.FREE.disk / 1e12:.0f} TB of free disk",
        f"{sizes.COMPUTE / 1e12:.0f} TFLOP/s",
        f"{sizes.READ / 1e9:.0f} GB/s for weights",
        f"{sizes.SPOOL / 1e9:.0f} GB/s for hidden states",
    ):
        assert said in text, said


PUBLISHED = {"125m": 125, "350m": 331, "1.3b": 1316, "2.7b": 2652}
PUBLISHED |= {"6.7b": 6658, "13b": 12853, "30b": 29975, "66b": 65718}
"""Millions of parameters."""


@pytest.mark.parametrize("size", OPT_SHAPES)
def test_shapes_of_the_table_have_the_published_parameters(sizes: ModuleType, size: str) -> None:
    shape: Shape = sizes.shape(size)
    parameters = shape.parameters_elsewhere + shape.layers * shape.parameters_per_layer
    assert parameters / 1e6 == pytest.approx(PUBLISHED[size], rel=2e-3)
