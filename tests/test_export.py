"""Export: a table read back is the store's arrays, bit for bit; a file is whole or not there."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import neurolens.export
from neurolens import NeurolensError, UsageError
from neurolens.corpus import Corpus
from neurolens.export import export_table, quoted
from neurolens.run import Run, open_run
from neurolens.store import Store
from neurolens.vocabulary import Vocabulary

LAYERS, NEURONS = [0, 2, 5, 11], 9
RULES = {"max_covering": 5, "coverage": 95}
ANALYSIS = {"dead": {"samples": 16, "seed": 0, "groups": 20}, "ngrams": {"lengths": 3, "rules": RULES, "top": 5}}
DTYPES = [
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64",
]  # fmt: skip
GRAMS = {0: 1, 2: 2, 5: 1, 11: 3}  # length of the longest trigger of a layer
TRIGGERS = {0: 3, 2: 6, 5: 0, 11: 8}


def column(dtype: str, rng: np.random.Generator) -> np.ndarray:
    """Random bits of a type, `(layer, neuron)`, with its extremes among them."""
    kind, shape = np.dtype(dtype), (len(LAYERS), NEURONS)
    if kind.kind == "b":
        return rng.random(shape) < 0.5
    values = np.frombuffer(rng.bytes(int(np.prod(shape)) * kind.itemsize), kind).reshape(shape).copy()
    if kind.kind == "f":
        values[np.isnan(values)] = 0.1
        limits = np.finfo(kind)
        values[0, :7] = [limits.min, limits.max, limits.smallest_subnormal, -0.0, np.nan, np.inf, -np.inf]
    else:
        values[0, :2] = [np.iinfo(kind).min, np.iinfo(kind).max]
    return values


def triggers(layer: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A triggers table as analysis would write it: tokens in reading order, on the right; before a shorter one anything
    may stand."""
    rows, grams = TRIGGERS[layer], GRAMS[layer]
    length = rng.integers(1, grams + 1, rows).astype("u1")
    return {
        "neuron": np.sort(rng.integers(0, NEURONS, rows)).astype("<i4"),
        "n": length,
        "tokens": rng.integers(0, 50, (rows, grams)).astype("<i4"),
        "on": rng.integers(0, 1 << 40, rows),
        "total": rng.integers(0, 1 << 40, rows),
        "rate_lower": rng.random(rows),
        "covered": rng.random(rows) < 0.5,
    }


TEXTS = ["=1+1", " the", "a\n", '"', "\x1b[31m", "，", "\u202e", "", "a,b", "\r", "-2", "@x", "\xff", "🧠", "'"]
BYTES = [TEXTS[i % len(TEXTS)].encode("latin-1" if i % len(TEXTS) == 12 else "utf-8") for i in range(50)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with a column of every type and triggers of several lengths, not made by the analysis."""
    path = tmp_path_factory.mktemp("export") / "r.zarr"
    tokens = np.full((2, 8), 5, np.int32)
    tokens[:, 0] = 2
    model = {"id": "some/model", "revision": "abc", "config": {"num_hidden_layers": 12, "vocab_size": 50}}
    spec = {"model": model, "dtype": "bf16", "versions": {"numpy": "2"}, "tokenizer": "0f", "threads": 1}
    Store.create(
        path, spec, Corpus.from_tokens(tokens), layers=LAYERS, neurons=NEURONS, sequences_per_block=2,
        vocabulary=Vocabulary.from_bytes(BYTES).arrays(),
    )  # fmt: skip
    store, rng = Store.open(path, write=True), np.random.default_rng(0)
    for dtype in DTYPES:
        store.write(f"results/neurons/a_{dtype}", column(dtype, rng), ("layer", "neuron"))
    store.write("results/neurons/layer", np.array(LAYERS, "<i4"), ("layer",))
    for layer in LAYERS:
        for name, values in triggers(layer, rng).items():
            store.write(f"results/layers/{layer:02d}/triggers/{name}", values, ("trigger", "gram")[: values.ndim])
    store.set_attributes("results", {"parts": ANALYSIS, "n_tokens": 16})
    return open_run(path)


@pytest.fixture
def copy(run: Run, tmp_path: Path) -> Run:
    """The same run, to be damaged."""
    shutil.copytree(run.path, tmp_path / "copy.zarr")
    return open_run(tmp_path / "copy.zarr")


def expected_neurons(run: Run, layers: list[int]) -> dict[str, np.ndarray]:
    rows = [LAYERS.index(layer) for layer in layers]
    return {
        "layer": np.repeat(np.array(layers, np.int32), NEURONS),
        "neuron": np.tile(np.arange(NEURONS, dtype=np.int32), len(layers)),
        **{name: run.neurons[name][rows].ravel() for name in run.neurons},
    }


def expected_triggers(run: Run, layers: list[int]) -> dict[str, np.ndarray]:
    parts: dict[str, list[np.ndarray]] = {}
    most = max(GRAMS[layer] for layer in layers)
    for layer in layers:
        table = run.triggers(layer)
        rows = len(table["n"])
        tokens = np.concatenate([np.full((rows, most - GRAMS[layer]), -1, np.int32), table["tokens"]], axis=1)
        for gram, length in zip(tokens, table["n"].tolist(), strict=True):
            gram[: most - length] = -1
        named = {f"token_minus_{back}" if back else "token": tokens[:, -1 - back] for back in range(most - 1, -1, -1)}
        rest = {name: table[name] for name in ("covered", "on", "rate_lower", "total")}
        for name, values in {
            "layer": np.full(rows, layer, np.int32), "neuron": table["neuron"], "n": table["n"], **named, **rest,
        }.items():  # fmt: skip
            parts.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in parts.items()}


EXPECTED: dict[str, Callable[[Run, list[int]], dict[str, np.ndarray]]] = {
    "neurons": expected_neurons, "triggers": expected_triggers,
}  # fmt: skip


def without_text(columns: tuple[str, ...]) -> tuple[str, ...]:
    """The columns of arrays of the store; what the text is has a test of its own."""
    return tuple(name for name in columns if name != "text")


def same(found: np.ndarray, wanted: np.ndarray) -> bool:
    """Equal type and bits."""
    return found.dtype == wanted.dtype and found.tobytes() == np.ascontiguousarray(wanted).tobytes()


# -- round trips ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [None, [0], [5], [11, 2], [0, 11]], ids=str)
@pytest.mark.parametrize("table", EXPECTED)
@pytest.mark.parametrize("stretch", [1, 1 << 26])
def test_parquet_is_the_store(
    stretch: int, table: str, layers: list[int] | None, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neurolens.export, "STRETCH", stretch)
    done = run.export(tmp_path / "t.parquet", table=table, layers=layers)
    wanted = EXPECTED[table](run, sorted(layers or LAYERS))
    read = pq.read_table(tmp_path / "t.parquet")
    assert tuple(read.column_names) == done.columns and without_text(done.columns) == tuple(wanted)
    assert read.num_rows == len(wanted["layer"]) == done.rows
    for name, values in wanted.items():
        assert read[name].null_count == 0
        assert same(read[name].to_numpy(), values), name


@pytest.mark.parametrize("table", EXPECTED)
def test_pandas_reads_parquet_as_the_table_in_memory(table: str, run: Run, tmp_path: Path) -> None:
    run.export(tmp_path / "t.parquet", table=table)
    frame = pandas.read_parquet(tmp_path / "t.parquet")
    if table == "neurons":
        wanted = run.neurons.to_pandas()
        indexed = pandas.DataFrame(frame.set_index(["layer", "neuron"])[list(wanted)])
        pandas.testing.assert_frame_equal(indexed, wanted, check_index_type=False)
    found = frame.drop(columns="text", errors="ignore").dtypes.to_dict()
    assert found == {name: values.dtype for name, values in EXPECTED[table](run, LAYERS).items()}


@pytest.mark.parametrize("table", EXPECTED)
@pytest.mark.parametrize("layers", [None, [2], [5]], ids=str)
def test_csv_says_every_value_exactly(table: str, layers: list[int] | None, run: Run, tmp_path: Path) -> None:
    """With the column's type in hand, the text gives back its bits: by Python's csv, and by pandas."""
    run.export(tmp_path / "t.csv", table=table, layers=layers)
    wanted = EXPECTED[table](run, layers or LAYERS)
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    text = header.index("text") if "text" in header else len(header)
    header, *rows = ([*row[:text], *row[text + 1 :]] for row in (header, *rows))
    assert header == list(wanted) and len(rows) == len(wanted["layer"])
    frame = pandas.read_csv(tmp_path / "t.csv", dtype={"a_uint64": "uint64"})
    for i, (name, values) in enumerate(wanted.items()):
        parse: Callable[[str], Any] = {"b": {"true": True, "false": False}.__getitem__, "f": float}.get(
            values.dtype.kind, int
        )
        with np.errstate(over="ignore"):
            assert same(np.array([parse(row[i]) for row in rows], values.dtype), values), name
            assert same(frame[name].to_numpy().astype(values.dtype), values), name


def test_the_same_run_gives_the_same_bytes(run: Run, tmp_path: Path) -> None:
    for suffix in (".parquet", ".csv"):
        for name in "ab":
            run.export(tmp_path / (name + suffix))
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_a_row_group_is_a_layer(run: Run, tmp_path: Path) -> None:
    for table, rows in (("neurons", dict.fromkeys(LAYERS, NEURONS)), ("triggers", TRIGGERS)):
        run.export(tmp_path / f"{table}.parquet", table=table)
        file = pq.ParquetFile(tmp_path / f"{table}.parquet")
        groups = [file.read_row_group(i)["layer"].to_pylist() for i in range(file.num_row_groups)]
        assert groups == [[layer] * count for layer, count in rows.items() if count]


def test_metadata_say_what_the_run_is(run: Run, tmp_path: Path) -> None:
    run.export(tmp_path / "t.parquet", layers=[2, 5])
    metadata = pq.read_schema(tmp_path / "t.parquet").metadata
    found = json.loads(metadata[b"neurolens"])
    wanted = {
        "table": "neurons", "run": "r.zarr", "schema": 1, "layers": [2, 5], "neurons_per_layer": NEURONS,
        "n_tokens": 16, "model": {"id": "some/model", "revision": "abc"}, "analysis": ANALYSIS, "dtype": "bf16",
        "versions": {"numpy": "2"}, "tokenizer": "0f", "threads": 1,
        "exported_by": f"neurolens {neurolens.__version__}",
    }  # fmt: skip
    assert {name: found[name] for name in wanted} == wanted
    assert found["corpus_fingerprint"] == run.store.attrs["corpus_fingerprint"]


# -- text of tokens ------------------------------------------------------------------------------------------------


def spoken(ids: list[int]) -> str:
    return b"".join(BYTES[i] or f"⟨{i}⟩".encode() for i in ids).decode(errors="replace")


def test_text_of_triggers(run: Run, tmp_path: Path) -> None:
    """Text of the n-gram alone, without what pads it; plain in parquet, a JSON string in csv."""
    wanted = []
    for layer in LAYERS:
        table = run.triggers(layer)
        for gram, n in zip(table["tokens"].tolist(), table["n"].tolist(), strict=True):
            wanted.append(spoken(gram[len(gram) - n :]))
    assert sum(any(part in text for text in wanted) for part in ("�", "🧠", "⟨", "\x1b", "\u202e", "\n", "=")) >= 3
    for suffix in ("parquet", "csv"):
        run.export(tmp_path / f"t.{suffix}", table="triggers")
    assert pq.read_table(tmp_path / "t.parquet")["text"].to_pylist() == wanted
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        cells = [row["text"] for row in csv.DictReader(file)]
    assert [json.loads(cell) for cell in cells] == wanted
    assert len((tmp_path / "t.csv").read_text(encoding="utf-8").splitlines()) == 1 + len(wanted)
    frame = pandas.read_csv(tmp_path / "t.csv", keep_default_na=False)
    assert frame["text"].tolist() == cells


@given(st.text())
def test_quoted_text_is_one_printable_line_that_json_reads(text: str) -> None:
    cell = quoted(text)
    assert json.loads(cell) == text
    assert cell.isprintable() and cell[0] == cell[-1] == '"'


# -- what goes wrong -----------------------------------------------------------------------------------------------


def only(folder: Path, *names: str) -> bool:
    return sorted(path.name for path in folder.iterdir()) == sorted(names)


def refused(run: Run, path: Path, match: str, error: type[NeurolensError] = UsageError, **options: Any) -> None:
    with pytest.raises(NeurolensError, match=match) as raised:
        run.export(path, **options)
    assert type(raised.value) is error and "\n" not in str(raised.value)


def test_requests_that_cannot_be_meant(run: Run, tmp_path: Path) -> None:
    for name in ("t.txt", "t", "t.parquet.gz", "t.CSV", ".csv"):
        refused(run, tmp_path / name, r"expected \.parquet or \.csv")
    refused(run, tmp_path / "absent" / "t.csv", "no folder")
    refused(run, run.path / "t.csv", "inside the run")
    refused(run, tmp_path / "t.csv", "no layer 1, 3; it has 0, 2, 5, 11", layers=[0, 1, 3])
    refused(run, tmp_path / "t.csv", "no layer to export", layers=[])
    refused(run, tmp_path / "t.csv", "neurons, triggers, positions", table="contexts")
    (tmp_path / "folder.csv").mkdir()
    refused(run, tmp_path / "folder.csv", "is a folder", force=True)
    assert only(tmp_path, "folder.csv") and only(tmp_path / "folder.csv")


def test_an_existing_file_is_replaced_only_by_force(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("precious")
    refused(run, path, "--force")
    assert path.read_text() == "precious" and only(tmp_path, "t.csv")
    run.export(path, force=True)
    assert path.read_text().startswith('"layer"') and only(tmp_path, "t.csv")
    (tmp_path / "dangling.csv").symlink_to(tmp_path / "nowhere")
    refused(run, tmp_path / "dangling.csv", "--force")


def test_a_file_that_appears_meanwhile_is_not_replaced(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*arguments: Any) -> Any:
        (tmp_path / "t.csv").write_text("precious")
        return tables(*arguments)

    tables = neurolens.export._neurons
    monkeypatch.setattr(neurolens.export, "_neurons", slow)
    refused(run, tmp_path / "t.csv", "--force")
    assert (tmp_path / "t.csv").read_text() == "precious" and only(tmp_path, "t.csv")


@pytest.mark.parametrize("error", [KeyboardInterrupt, NeurolensError("damaged")])
@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_stopped_export_leaves_what_was_there(
    suffix: str, error: BaseException, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*arguments: Any) -> Any:
        yield from list(tables(*arguments))[:2]
        raise error

    tables = neurolens.export._neurons
    monkeypatch.setattr(neurolens.export, "_neurons", stopped)
    path = tmp_path / f"t{suffix}"
    with pytest.raises((KeyboardInterrupt, NeurolensError)):
        run.export(path)
    assert only(tmp_path)
    path.write_text("precious")
    with pytest.raises((KeyboardInterrupt, NeurolensError)):
        run.export(path, force=True)
    assert only(tmp_path, path.name) and path.read_text() == "precious"


@pytest.mark.parametrize("part", ["dead", "ngrams"])
def test_a_table_is_exported_once_its_part_of_the_analysis_is_whole(copy: Run, tmp_path: Path, part: str) -> None:
    """Neurons need `dead`, triggers `ngrams`; columns of a part that is not whole are left out."""
    Store.open(copy.path, write=True).set_attributes("results", {"parts": {part: ANALYSIS[part]}, "n_tokens": 16})
    right, wrong = ("neurons", "triggers") if part == "dead" else ("triggers", "neurons")
    refused(
        copy, tmp_path / "t.csv", "not analysed for (dead|ngrams); run 'neurolens analyze", NeurolensError, table=wrong
    )
    done = open_run(copy.path).export(tmp_path / "t.parquet", table=right)
    wanted = ("layer", "neuron") if part == "dead" else tuple(expected_triggers(copy, LAYERS))
    assert without_text(done.columns) == wanted
    assert json.loads(pq.read_schema(done.path).metadata[b"neurolens"])["analysis"] == {part: ANALYSIS[part]}


def test_results_that_are_not_whole(copy: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = {"ngrams": {"lengths": 3, "rules": {"max_covering": 50}, "top": 5}}

    def anew(*arguments: Any) -> Any:
        yield from tables(*arguments)
        Store.open(copy.path, write=True).set_attributes("results", {"parts": {**ANALYSIS, **changed}})

    tables = neurolens.export._neurons
    monkeypatch.setattr(neurolens.export, "_neurons", anew)
    refused(copy, tmp_path / "t.csv", "analysed anew", NeurolensError)
    monkeypatch.undo()
    assert copy.export(tmp_path / "u.csv").rows
    chunk = next(path for path in (copy.path / "results/neurons/a_float64/c").rglob("*") if path.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-1])
    refused(copy, tmp_path / "t.csv", "a_float64 is damaged", NeurolensError)
    Store.open(copy.path, write=True).set_attributes("results", {})
    refused(copy, tmp_path / "t.csv", "not analysed", NeurolensError)
    assert only(tmp_path, "copy.zarr", "u.csv")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to(run: Run, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    refused(run, tmp_path / "closed" / "t.csv", "cannot write.*Permission denied", NeurolensError)


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
@pytest.mark.parametrize("limit", [10, 1000])
def test_no_space_left(limit: int, suffix: str, run: Run, tmp_path: Path) -> None:
    """A limit on file sizes stands in for a full disk: one line, exit code 1, nothing left, the old file untouched."""
    path = tmp_path / f"t{suffix}"
    path.write_text("precious")
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "sys.dont_write_bytecode = True;"  # cut short it would stay, and break what imports it next
        "from neurolens.cli import run;"
        f"import neurolens.export; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}));"
        "sys.exit(run(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "export", str(run.path), str(path), "--force"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"neurolens: cannot write {path}: File too large") and "make room" in line
    assert only(tmp_path, path.name) and path.read_text() == "precious"


def test_store_and_path_may_be_given_plainly(run: Run, tmp_path: Path) -> None:
    done = export_table(Store.open(run.path), str(tmp_path / "t.csv"), layers=iter([2]))
    assert done.path == tmp_path / "t.csv" and done.rows == NEURONS and done.table == "neurons"
