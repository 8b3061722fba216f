"""docs/store.md and docs/method.md against a small real run: what they name is there, and what is there they name."""

from __future__ import annotations

import json
import math
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import asdict, fields
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from conftest import POSITIONS
from runs import make_run

import neurolens as package
from neurolens import parts
from neurolens.analyze import analyze_run
from neurolens.bootstrap import Bootstrap
from neurolens.cli import cli
from neurolens.cli import run as neurolens
from neurolens.collect import collect
from neurolens.comparison.anchors import AnchorRules
from neurolens.contrast import ContrastRules
from neurolens.corpus import Corpus
from neurolens.curves import PositionRules
from neurolens.detectors import Rules
from neurolens.keep import SPARSE
from neurolens.run import Run, open_run
from neurolens.store import Store
from neurolens.tables import STRENGTHS, TYPES
from neurolens.updates import Settings

DOCS = Path(__file__).parents[1] / "docs"
STORE, METHOD = (DOCS / "store.md").read_text(encoding="utf-8"), (DOCS / "method.md").read_text(encoding="utf-8")
NOT_THRESHOLDS = {"only", "model", "device", "as_json"}  # of analyze: what to do, and with what
SETTINGS = (Rules, Settings, PositionRules, ContrastRules, Bootstrap, AnchorRules)
WIDE = {"uint16+": {"uint16", "uint32"}}


@pytest.fixture(scope="module")
def run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An analysed run with detectors of every length."""
    rng = np.random.default_rng(5)
    tokens = rng.integers(4, 40, (16, POSITIONS), dtype=np.int32)
    tokens[:, 0] = 2
    tokens[3, 7] = 2
    path = tmp_path_factory.mktemp("docs") / "r.zarr"
    collect(tiny_model, Corpus.from_tokens(tokens, label=np.arange(16) % 2, label_names=("a", "b")), path)
    analyze_run(path)
    return open_run(path)


@pytest.fixture(scope="module")
def sparse(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that keeps the bits of rarely active neurons."""
    tokens = np.random.default_rng(5).integers(4, 40, (4, POSITIONS), dtype=np.int32)
    tokens[:, 0] = 2
    path = tmp_path_factory.mktemp("sparse") / "r.zarr"
    collect(tiny_model, Corpus.from_tokens(tokens), path, layers=[0], keep_bitmaps="sparse")
    return open_run(path)


def tables(page: str) -> dict[str, list[list[str]]]:
    """The tables of a page, cells of their rows by the first cell of the head."""
    found: dict[str, list[list[str]]] = {}
    for block in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
        head, _, *rows = ([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in block.splitlines())
        found.setdefault(head[0], []).extend(rows)
    return found


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def dimensions(cell: str) -> tuple[str, ...] | None:
    """`L, N (layer, neuron)` → layer, neuron."""
    found = re.search(r"\(([a-z_, ]+)\)", cell)
    return tuple(found[1].split(", ")) if found else None


def documented() -> dict[str, tuple[tuple[str, ...], str, str]]:
    """Every array of store.md: dimensions, type, and the part that owns it, if it says."""
    found: dict[str, tuple[tuple[str, ...], str, str]] = {}
    shapes: dict[str, tuple[str, ...]] = {}
    for cell, shape, kind, _ in tables(STORE)["array"]:
        for name in names(cell):
            dims = dimensions(shape)
            assert dims, cell
            if name.endswith("/…"):
                shapes[name.removesuffix("/…")] = dims
            else:
                found[name] = dims, kind, ""
    for head, rows in tables(STORE).items():
        if folder := re.fullmatch(r"column of `(.+)`", head):
            for cell, kind, part, _ in rows:
                for name in names(cell):
                    dims = dimensions(kind) or shapes[folder[1]]
                    assert f"{folder[1]}/{name}" not in found, name
                    found[f"{folder[1]}/{name}"] = dims, kind.split(" ")[0], names(part)[0]
    return found


def stored(run: Run) -> dict[str, tuple[tuple[str, ...], str]]:
    """Every array of a run, layers as LL: dimensions and type."""
    found: dict[str, tuple[tuple[str, ...], str]] = {}
    for file in run.path.rglob("zarr.json"):
        metadata = json.loads(file.read_text(encoding="utf-8"))
        if metadata["node_type"] == "array":
            name = re.sub(r"layers/\d\d", "layers/LL", str(file.parent.relative_to(run.path)))
            found[name] = tuple(metadata["dimension_names"]), metadata["data_type"]
    return found


def test_store_page_has_every_array_and_no_other(run: Run, sparse: Run) -> None:
    """Most are there in every run; what says whose bits are kept, where not all are."""
    said, there = documented(), {**stored(sparse), **stored(run)}
    assert stored(sparse).keys() - stored(run).keys() == {"layers/LL/kept"}
    assert sparse.store.attributes("layers/00/kept") == {"frequency": SPARSE, "thinned": True}
    assert f"`frequency` is the one up to which neurons are kept, {SPARSE}; `thinned`" in STORE
    assert sparse.store.attrs["keep_bitmaps"] == "sparse" and run.store.attrs["keep_bitmaps"] == "all"
    assert said.keys() == there.keys()
    for name, (dims, kind, _) in said.items():
        assert dims == there[name][0], name
        assert there[name][1] in WIDE.get(kind, {kind}), name


def test_numbers_carry_their_units_and_nothing_else_does(run: Run) -> None:
    """A number is a float or counts something; flags, ids, places, axes, probabilities, codes have none."""
    without = {"neuron", "n", "layer", "tokens", "promoted", "suppressed", "suppresses_triggers"}
    without |= {"row", "first", "stop", "p", "position_p", "label_p", "label_only", "label_silent"}
    without |= {"type", "strength", "position_type", "position_strength"}
    for found in (path for path in stored(run) if path.startswith(("results/", "counts/"))):
        path = found.replace("/LL/", "/00/")
        name, kind = path.split("/")[-1], run.store.read(path).dtype.kind
        unit = run.store.attributes(path).get("units")
        counted = kind != "b" and (name not in without or path == "results/positions/ranges/n")
        assert (unit is not None) == counted, path
    units = {name: run.store.attributes(f"results/neurons/{name}").get("units") for name in run.neurons}
    assert units["frequency"] == "share of tokens" and units["trigrams_95"] == "n-grams"
    assert units["trigger_projection_centred"] == "logit per unit of activation"
    assert units["label_mi_low"] == units["position_mi"] == "nats"


def test_store_page_has_every_attribute(run: Run) -> None:
    """Of the root in its table; of what analyze writes in words; of each part what its mark holds."""
    of_counts = {"merged"}
    found = {name for cell, _ in tables(STORE)["attribute"] for name in names(cell)}
    assert found == set(run.store.attrs) | of_counts and not run.store.by_counts
    assert run.store.attributes("results").keys() == {"parts", "n_tokens"}
    assert run.store.attributes("results/contexts").keys() == {"seed", "units"}
    for folder in ("results/by_layer", "results/overall"):
        assert run.store.attributes(folder) == {"support": ["all", "supported"]}
    kinds = {"type": TYPES, "strength": STRENGTHS}
    named = {axis: list(names[1:]) for axis, names in kinds.items()}
    assert run.store.attributes("results/positions/by_layer") == named
    for end, known in kinds.items():
        for name in (f"results/neurons/position_{end}", f"results/positions/{end}"):
            assert run.store.attributes(name) == {"names": list(known)}
    listed = ("parts", "n_tokens", "seed", "units", "names", "support", "all", "supported", *TYPES[1:], *STRENGTHS[1:])
    for name in listed:
        assert f"`{name}`" in STORE.split("## What analyze writes")[1].split("## What certify writes")[0], name
    rows = {names(cell)[0]: (names(needs), names(mark)) for cell, needs, mark, _ in tables(STORE)["part"]}
    assert rows.keys() == set(parts.PARTS)
    for part, (needs, mark) in rows.items():
        assert needs == list(parts.NEEDS[part])
        assert {name for name in mark if not name.startswith("--")} == run.parts[part].keys()
    for part, name, kind in (
        ("ngrams", "rules", Rules),
        ("positions", "rules", PositionRules),
        ("contrast", "rules", ContrastRules),
        *((part, "bootstrap", Bootstrap) for part in ("dead", "positions", "contrast")),
    ):  # whole, as the page says
        assert run.parts[part][name] == asdict(kind())


@pytest.mark.parametrize("part", parts.PARTS)
def test_store_page_says_whose_a_column_is(run: Run, tmp_path: Path, part: str) -> None:
    """Taken back, a part and those that need it lose their columns, and no other part any of its own."""
    path = tmp_path / "r.zarr"
    shutil.copytree(run.path, path)
    gone = parts.withdraw(Store.open(path, write=True), [part])
    owner = {name: owner for name, (_, _, owner) in documented().items() if owner and name != "results/neurons/layer"}
    assert stored(run).keys() - stored(open_run(path)).keys() == {name for name in owner if owner[name] in gone}


def test_method_page_has_every_column() -> None:
    """By its name; bigrams and trigrams also by that of tokens, and names with a common end by that: `…_low`."""
    for name in documented():
        folder, _, column = name.rpartition("/")
        if name.startswith("results") and column not in ("layer", "n", "neuron", "tokens"):
            alike = re.sub(r"^(bi|tri)gram", "unigram", column)
            ends = {f"…{end}" for end in ("_detector_supported", "_low", "_high") if column.endswith(end)}
            ends |= {"…_projection"} if folder.endswith("updates") else set()
            assert any(f"`{known}`" in METHOD for known in {name, column, alike, *ends}), name


def options_of_analyze() -> dict[str, click.Option]:
    found = {name: option for option in cli.commands["analyze"].params if (name := option.name)}
    return {
        name: option
        for name, option in found.items()
        if isinstance(option, click.Option) and name not in NOT_THRESHOLDS
    }


def constant(name: str) -> Any:
    """What a name of the table's column *in Python* stands for: `Rules.coverage`, `scan.SEED`."""
    owner, _, attribute = name.rpartition(".")
    settings = {kind.__name__: kind for kind in SETTINGS}
    return getattr(settings[owner]() if owner in settings else import_module(f"neurolens.{owner}"), attribute)


def test_method_page_has_every_threshold_with_its_default() -> None:
    rows = tables(METHOD)["what"]
    given = {names(option)[0]: default for _, default, option, _, _ in rows if names(option)}
    options = options_of_analyze()
    assert given == {option.opts[0]: str(False if option.is_flag else option.default) for option in options.values()}
    python = {names(cell)[0]: default for _, default, _, cell, _ in rows}
    for kind in SETTINGS:
        assert {f"{kind.__name__}.{field.name}" for field in fields(kind)} <= python.keys()
    for name, default in python.items():
        if name.startswith("analyze_run("):
            continue  # held by the option
        value = constant(name)
        same = isinstance(value, float) and math.isclose(float(default), value, rel_tol=1e-4)
        assert same or default == str(value), name
    for option in options.values():  # beside what it changes, not in the table alone
        assert METHOD.count(f"`{option.opts[0]}`") > 1, option.opts[0]


def printed() -> dict[str, Any]:
    """The functions of the page's `Check it yourself`, by name."""
    scope: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", METHOD.split("## Check it yourself")[1], re.DOTALL):
        exec(code, scope)
    return scope


def test_printed_rules_of_detectors_find_the_same(run: Run) -> None:
    scope = printed()
    tokens, detectors = run.store.corpus().tokens, 0
    for row, layer in enumerate(run.store.layers):
        triggers = run.triggers(layer)
        for neuron in range(row, run.store.neurons, 3):
            active = run.active(layer, neuron)
            for n, gram, limit in ((1, "unigram", 5), (2, "bigram", 50), (3, "trigram", 50)):
                number, covered, found = scope["detect"](tokens, active, n=n, limit=limit)
                assert number == run.neurons[f"{gram}s_95"][row, neuron]
                assert found == run.neurons[f"{gram}_detector"][row, neuron]
                if 0 < number <= limit:
                    mine = (triggers["neuron"] == neuron) & (triggers["n"] == n) & triggers["covered"]
                    assert {tuple(gram) for gram in triggers["tokens"][mine, 3 - n :].tolist()} == covered
                    detectors += found
    assert detectors > 10


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of drawn bits, analysed for positions: each type strong and weak, and neurons that do not depend on it."""
    rng, positions = np.random.default_rng(4), 80
    at = np.arange(positions)
    waves, half = [(at // 10) % 2, (at // 20) % 2], at < positions // 2
    shares = [share for on in (*waves, half, ~half) for share in (on, 0.02 + 0.96 * on)]
    shares += [0.5 * half, 0.5 + 0.5 * half, 0.02 + 0.48 * half, 0.5 + 0.47 * half, 0.1 + 0.8 * at / positions]
    shares += [np.where(rng.random(positions) < 0.5, 0.2, 0.8), 0.0, 0.003, 0.5, 1.0]
    chance = np.repeat(np.array([np.broadcast_to(share, positions) for share in shares]), 3, axis=0)
    active = rng.random((len(chance), 60, positions)) < chance[:, None]
    tokens = np.full((60, positions), 5)
    tokens[:, 0] = 2
    path, corpus = tmp_path_factory.mktemp("drawn") / "r.zarr", Corpus.from_tokens(tokens)
    make_run(path, corpus, active.reshape(1, len(chance), -1), layers=[0], sequences_per_block=20, vocab_size=9)
    analyze_run(path, only=["positions"])
    return open_run(path)


@pytest.mark.parametrize("kind", ["run", "drawn"])
def test_printed_rules_of_positions_find_the_same(kind: str, request: pytest.FixtureRequest) -> None:
    run, scope = request.getfixturevalue(kind), printed()
    neurons, seen = run.neurons, set()
    for row, layer in enumerate(run.store.layers):
        for neuron in range(run.store.neurons):
            active, at = run.active(layer, neuron), (row, neuron)
            told = scope["information"](active[:, 1:])
            assert told == pytest.approx(neurons["position_mi_corrected"][at], rel=1e-9, abs=1e-12)
            assert (told > 0.05) == neurons["positional"][at]
            if neurons["positional"][at]:
                type_, exact = scope["tell_type"](active)
                assert type_ == neurons["position_type"][at]
                strength = neurons["position_strength"][at]
                assert type_ == "other" or exact == (strength == "strong")
                seen.add((type_, strength))
    assert kind == "run" or seen == {(type_, strength) for type_ in TYPES[1:] for strength in STRENGTHS[1:]}


def test_the_pair_of_the_page_is_compared(
    tiny_model: Path, write_jsonl: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "opt-1.3b").symlink_to(tiny_model)
    for name in ("before", "after"):
        write_jsonl(f"{name}.jsonl", [("if so, " if name == "after" else "and so ") * 60] * 3)
    text = METHOD.split("**Pairs.**")[1].split("\n## ")[0]
    for command in text.split("```sh\n")[1].split("```")[0].splitlines():
        assert neurolens(shlex.split(command, comments=True)[1:]) == 0, command
    most = eval(re.findall(r"`(neurolens\.open[^`]+)`", text)[0], {"neurolens": package})
    assert len(most) == 10 and (most["low"] > 0).all()
    np.testing.assert_allclose(most["difference"], most["frequency_first"] - most["frequency_second"])
