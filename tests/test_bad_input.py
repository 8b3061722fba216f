"""Bad input: one line that says what was found, what was expected and what to do; the designed exit code; no damage."""

from __future__ import annotations

import bz2
import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import POSITIONS, random_texts, snapshot

from neurolens.cli import run as neurolens

Says = Callable[..., str]


@pytest.fixture
def says(capsys: pytest.CaptureFixture[str]) -> Says:
    """Run a command line that must fail with `code`; returns its one line of error."""

    def failing(code: int, *arguments: object) -> str:
        capsys.readouterr()
        assert neurolens([str(argument) for argument in arguments]) == code
        out, err = capsys.readouterr()
        assert out == ""
        last = err.strip().splitlines()[-1]
        assert "Traceback" not in err
        assert last.startswith(("neurolens: ", "Error: "))
        return last

    return failing


@pytest.fixture
def data(write_jsonl: Callable[..., Path]) -> Path:
    return write_jsonl("good.jsonl", random_texts(12))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out" / "r.zarr"


@pytest.fixture(autouse=True)
def nothing_left(output: Path, request: pytest.FixtureRequest):
    """After a failure nothing is in the output folder that looks like a run."""
    output.parent.mkdir()
    yield
    if "leaves" not in request.keywords:
        assert [path.name for path in output.parent.iterdir() if path.suffix != ".log"] == []


def copied(model: Path, folder: Path) -> Path:
    shutil.copytree(model, folder)
    return folder


def edited(model: Path, folder: Path, **config: object) -> Path:
    """A copy of a checkpoint with changed configuration; None removes a key."""
    path = copied(model, folder) / "config.json"
    values = {**json.loads(path.read_text()), **config}
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))
    return folder


# -- text ----------------------------------------------------------------------------------------------------------


def test_missing_file(says: Says, tiny_model: Path, output: Path, tmp_path: Path) -> None:
    assert "no file" in says(2, "collect", tiny_model, tmp_path / "absent.jsonl", "-o", output)


def test_folder_or_glob_without_anything_readable(says: Says, tiny_model: Path, output: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("x")
    line = says(2, "collect", tiny_model, tmp_path, "-o", output)
    assert "holds no readable file (1 file of other kinds)" in line and ".parquet" in line
    assert "matches no readable file" in says(2, "collect", tiny_model, tmp_path / "*.md", "-o", output)
    assert "matches no file" in says(2, "collect", tiny_model, tmp_path / "*.jsonl", "-o", output)


CUT_GZ = gzip.compress(b'{"text": "x"}\n' * 99, mtime=0)[:-9]  # with the time in it, names of tests would differ


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("cut.jsonl.gz", CUT_GZ, "cut.jsonl.gz cannot be decompressed after line"),
        ("empty.txt.xz", b"", "empty.txt.xz cannot be decompressed (it is empty)"),
        ("no.jsonl.zst", b'{"text": "x"}\n', "no.jsonl.zst cannot be decompressed ("),
        ("line.jsonl.bz2", bz2.compress(b'{"text": "x"}\n{\n'), "line.jsonl.bz2: line 2 is not JSON ("),
        ("words.parquet", b"words\n" * 9, "words.parquet cannot be read (Parquet magic bytes not found"),
        ("empty.parquet", b"", "empty.parquet cannot be read (Parquet file size is 0 bytes)"),
        ("array.json", b'[{"text": "x"}]', "make lines of it"),
    ],
)
def test_damaged_files(
    name: str, content: bytes, expected: str, says: Says, tiny_model: Path, data: Path, output: Path, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    assert expected in says(1, "collect", tiny_model, data, tmp_path / name, "-o", output)


def test_parquet_without_rows_or_with_other_columns(
    says: Says, tiny_model: Path, data: Path, output: Path, tmp_path: Path
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    empty, other = tmp_path / "empty.parquet", tmp_path / "other.parquet"
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), empty)
    assert "the corpus is empty" in says(1, "collect", tiny_model, empty, "-o", output)
    pq.write_table(pa.table({"body": ["x"], "a\x1b[31m\nb": ["y"]}), other)
    line = says(1, "collect", tiny_model, data, empty, other, "-o", output)
    assert "other.parquet: the table has no 'text' (it has: 'body'" in line and "\x1b" not in line
    line = says(1, "collect", tiny_model, other, "--text-key", "body", "--label-key", "set", "-o", output)
    assert "the table has no 'set'" in line and "--label-key" in line


def test_data_set_of_the_hub_without_network(
    says: Says, tiny_model: Path, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = says(1, "collect", tiny_model, "hf:no-such-owner/no-such-set", "-o", output)
    assert "hf:no-such-owner/no-such-set::train cannot be read" in line and "check the network" in line
    assert "hf:NAME[:CONFIG][:SPLIT]" in says(2, "collect", tiny_model, "hf:a/b/c", "-o", output)


def test_empty_corpus(says: Says, tiny_model: Path, output: Path, write_jsonl: Callable[..., Path]) -> None:
    for records in ([], ["", ""]):
        line = says(1, "collect", tiny_model, write_jsonl("empty.jsonl", records), "-o", output)
        assert "the corpus is empty" in line and "give files with text" in line


def test_label_shorter_than_a_sequence(
    says: Says, tiny_model: Path, output: Path, write_jsonl: Callable[..., Path], data: Path
) -> None:
    short = write_jsonl("short.jsonl", ["abc"])
    line = says(1, "collect", tiny_model, data, short, "-o", output)
    assert "'short' has 3 tokens, less than one sequence of 48" in line and "--seq-len" in line


def test_invalid_utf8(says: Says, tiny_model: Path, output: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes(b'{"text": "fine"}\n{"text": "\xff"}\n')
    line = says(1, "collect", tiny_model, bad, "-o", output)
    assert "bad.jsonl: line 2 is not UTF-8" in line and "0xff" in line


def test_line_that_is_not_json(says: Says, tiny_model: Path, output: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "fine"}\n\n{"text": \n')
    assert "bad.jsonl: line 3 is not JSON" in says(1, "collect", tiny_model, bad, "-o", output)


def test_missing_text_key(says: Says, tiny_model: Path, output: Path, write_jsonl: Callable[..., Path]) -> None:
    data = write_jsonl("other.jsonl", [{"content": "abc", "id": 1}])
    line = says(1, "collect", tiny_model, data, "-o", output)
    assert "line 1 has no 'text'" in line and "content" in line and "--text-key" in line


def test_hostile_names_are_escaped(
    says: Says, tiny_model: Path, output: Path, write_jsonl: Callable[..., Path]
) -> None:
    data = write_jsonl("other.jsonl", [{"a\x1b[31m\nb": "abc"}])
    assert "\x1b" not in says(1, "collect", tiny_model, data, "-o", output)


def test_hostile_labels_are_escaped(
    tiny_model: Path, output: Path, write_jsonl: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    record = {"text": "ab " * 99, "meta": {"pile_set_name": "a\x1b[31m\nb"}}
    arguments = ["collect", str(tiny_model), str(write_jsonl("a.jsonl", [record])), "-o", str(output), "--dry-run"]
    assert neurolens(arguments) == 0
    assert "\x1b" not in (said := capfd.readouterr().err) and "a\\x1b[31m\\nb: " in said


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--seq-len", "4096"], "the model has 48 positions"),
        (["--tokens", "many"], "expected for example"),
        (["--tokens", "50"], "leaves no sequence"),
        (["--tokens", "500", "--share", "nope=2"], "which no document has"),
        (["--share", "good=2"], "--share needs --tokens"),
        (["--tokens", "500", "--share", "good"], "LABEL=NUMBER"),
        (["--layers", "7"], "layers 0 to 2"),
        (["--layers", "2-1"], "0,2-5"),
        (["--dtype", "int3"], "int3"),
        (["--device", "nope"], "cannot use device"),
        (["--label-key", "meta.none"], None),
    ],
)
def test_options_out_of_range(
    options: list[str],
    expected: str | None,
    says: Says,
    tiny_model: Path,
    data: Path,
    output: Path,
    write_jsonl: Callable[..., Path],
) -> None:
    if options[0] == "--tokens" and options[1] == "50":
        data = write_jsonl("two.jsonl", [{"text": "ab " * 99, "meta": {"pile_set_name": label}} for label in "xy"])
    code = 1 if expected is None else 2
    assert (expected or "none of its 12 records has a text or a number under 'meta.none'") in says(
        code, "collect", tiny_model, data, "-o", output, *options
    )


# -- checkpoints ---------------------------------------------------------------------------------------------------


def test_no_model(says: Says, data: Path, output: Path, tmp_path: Path) -> None:
    assert "no model folder" in says(2, "collect", tmp_path / "absent", data, "-o", output)
    assert "has no config.json" in says(2, "collect", tmp_path, data, "-o", output)


def test_another_architecture(says: Says, tiny_model: Path, data: Path, output: Path, tmp_path: Path) -> None:
    model = edited(tiny_model, tmp_path / "m", model_type="llama")
    assert "is a 'llama' model; neurolens reads opt" in says(2, "collect", model, data, "-o", output)


@pytest.mark.parametrize("key", ["hidden_size", "ffn_dim", "num_hidden_layers", "max_position_embeddings"])
@pytest.mark.parametrize("value", [None, "many"])
def test_unusable_configuration(
    key: str, value: object, says: Says, tiny_model: Path, data: Path, output: Path, tmp_path: Path
) -> None:
    assert "config.json" in says(1, "collect", edited(tiny_model, tmp_path / "m", **{key: value}), data, "-o", output)


def test_configuration_that_is_not_json(says: Says, tiny_model: Path, data: Path, output: Path, tmp_path: Path) -> None:
    model = copied(tiny_model, tmp_path / "m")
    (model / "config.json").write_text("{")
    assert "not readable JSON" in says(1, "collect", model, data, "-o", output)


def test_vocabularies_that_disagree(says: Says, tiny_model: Path, data: Path, output: Path, tmp_path: Path) -> None:
    model = edited(tiny_model, tmp_path / "m", vocab_size=100)
    line = says(1, "collect", model, data, "-o", output)
    assert "has 260 tokens, the model's vocabulary 100" in line
    model = edited(tiny_model, tmp_path / "n", bos_token_id=5)
    assert "end-of-text token has id 2, the model begins sequences with 5" in says(
        1, "collect", model, data, "-o", output
    )


@pytest.mark.parametrize("change", ["missing", "misshapen"])
def test_tensors(change: str, says: Says, tiny_model: Path, data: Path, output: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = copied(tiny_model, tmp_path / "m")
    weights = load_file(model / "model.safetensors")
    name = next(name for name in weights if name.endswith("layers.1.fc2.weight"))
    tensor = weights.pop(name)
    if change == "misshapen":
        weights[name] = tensor[:, :-1].contiguous()
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    line = says(1, "collect", model, data, "-o", output)
    assert "layers.1.fc2.weight" in line and (change == "missing" or ("(32, 71)" in line and "(32, 72)" in line))


@pytest.mark.parametrize("damage", ["absent", "cut", "garbage", "huge header"])
def test_damaged_safetensors(
    damage: str, says: Says, tiny_model: Path, data: Path, output: Path, tmp_path: Path
) -> None:
    file = copied(tiny_model, tmp_path / "m") / "model.safetensors"
    content = file.read_bytes()
    if damage == "absent":
        file.unlink()
    else:
        changed = {"cut": content[: len(content) // 2], "garbage": b"\0" * 100, "huge header": b"\xff" * 7 + b"\x7f"}
        file.write_bytes(changed[damage])
    assert "model.safetensors" in says(1, "collect", tmp_path / "m", data, "-o", output)


def test_no_tokenizer(says: Says, tiny_model: Path, data: Path, output: Path, tmp_path: Path) -> None:
    model = copied(tiny_model, tmp_path / "m")
    (model / "tokenizer.json").unlink()
    assert "no readable tokenizer" in says(1, "collect", model, data, "-o", output)


# -- outputs -------------------------------------------------------------------------------------------------------


@pytest.mark.leaves
@pytest.mark.parametrize("kind", ["file", "folder", "zarr group"])
def test_output_is_something_else(kind: str, says: Says, tiny_model: Path, data: Path, output: Path) -> None:
    if kind == "file":
        output.write_text("precious")
    elif kind == "folder":
        output.mkdir()
        (output / "precious").write_text("precious")
    else:
        import zarr

        zarr.create_group(output, attributes={"precious": 1})
    before = snapshot(output.parent)
    assert "not a neurolens run" in says(1, "collect", tiny_model, data, "-o", output)
    assert snapshot(output.parent) == before


def test_output_folder_is_missing(says: Says, tiny_model: Path, data: Path, output: Path) -> None:
    assert "no folder" in says(2, "collect", tiny_model, data, "-o", output.parent / "absent" / "r.zarr")


@pytest.mark.leaves
def test_no_space_left(says: Says, tiny_model: Path, data: Path, output: Path) -> None:
    """A limit on file sizes stands in for a full disk: the run says so, exits with 3, and continues afterwards."""
    assert neurolens(["collect", str(tiny_model), str(data), "-o", str(output)]) == 0
    whole = snapshot(output)
    shutil.rmtree(output)
    limited = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "sys.dont_write_bytecode = True;"  # cut short it would stay, and break what imports it next
        "from neurolens.cli import run;"
        "import neurolens.collect, zarr; resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}));"
        "sys.exit(run(sys.argv[1:]))"
    )
    sizes = sorted({len(content) for name, content in whole.items()})
    for limit in (sizes[-1] - 1, 64):
        command = [
            sys.executable,
            "-c",
            limited.format(limit),
            "collect",
            str(tiny_model),
            str(data),
            "-o",
            str(output),
        ]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        last = ended.stderr.strip().splitlines()[-1]
        assert ended.returncode == 3, ended.stderr
        assert last.startswith("neurolens: cannot write to") and "same command again" in last, ended.stderr
        if limit == 64:
            assert not output.exists() and not output.with_name("r.zarr.making").exists()
        else:
            assert "incomplete" in says(3, "analyze", output)
            shutil.rmtree(output)
    assert neurolens(["collect", str(tiny_model), str(data), "-o", str(output)]) == 0
    assert snapshot(output) == whole


# -- runs ----------------------------------------------------------------------------------------------------------


@pytest.mark.leaves
def test_runs_that_cannot_be_used(says: Says, tiny_model: Path, data: Path, output: Path) -> None:
    for command in ("analyze", "info", "plot"):
        assert "no run at" in says(1, command, output)
    assert neurolens(["collect", str(tiny_model), str(data), "-o", str(output)]) == 0
    assert "not analysed" in says(1, "plot", output, "-o", output.parent / "figures")
    assert "percentage" in says(2, "analyze", output, "--coverage", 101)
    assert "at least 1" in says(2, "analyze", output, "--max-covering", 0)
    chunk = next((output / "layers/01/active/c").rglob("0/0"))
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)
    assert "layer 1 are damaged" in says(1, "analyze", output)
    chunk.unlink()
    assert "chunk 0/0 is missing" in says(1, "analyze", output)
    assert "not analysed" in says(1, "plot", output, "-o", output.parent / "figures")
    attributes = output / "zarr.json"
    attributes.write_text(attributes.read_text().replace('"schema": 1', '"schema": 99'))
    assert "schema 99" in says(1, "info", output)


def test_corpus_beyond_the_vocabulary(tiny_model: Path, output: Path) -> None:
    import numpy as np

    from neurolens import NeurolensError
    from neurolens.collect import collect
    from neurolens.corpus import Corpus

    tokens = np.full((2, POSITIONS), 272, np.int32)
    tokens[:, 0] = 2
    with pytest.raises(NeurolensError, match="vocabulary ends at 271"):
        collect(tiny_model, Corpus.from_tokens(tokens), output)
